"""The Watcher at the edges of the protocol, against the exact wire format (see answers.py).

With a real API server, and a network that fails: tests/cluster/test_api.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from typing import Any

import pytest

from operators.kube.pace import backoff
from operators.kube.watch import Rhythm, Watcher
from tests.operators.kube.answers import (
    CUT,
    Asked,
    Json,
    Say,
    Server,
    api_to,
    event,
    listing,
    refusal,
    serving,
    status,
)

SHORT = Rhythm(watch=(1.0, 1.0), relist=1.0, quiet=0.5)
LONG = Rhythm(watch=(60.0, 60.0), relist=60.0, quiet=30.0)


def thing(name: str, version: int) -> Json:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


BOOKMARK = event("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "50"}})
EXPIRED = event("ERROR", status(410, "Expired", "too old resource version: 5 (427)"))


def until(condition: Callable[[], object], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


@contextmanager
def watching(
    answer: Callable[[Asked], Say], rhythm: Rhythm = LONG, **options: Any
) -> Iterator[tuple[Watcher, Server]]:
    with serving(answer) as server:
        watcher = Watcher(
            api_to(server, patience=0.0),
            "pods",
            "",
            options.pop("changed", lambda: None),
            rhythm=rhythm,
            **options,
        )
        watcher.start()
        try:
            yield watcher, server
        finally:
            watcher.stop()


def script(lists: list[Say], watches: list[Say]) -> Callable[[Asked], Say]:
    """Each in its order; when they are used up, the last list again, and watches that stay quiet."""

    def answer(asked: Asked) -> Say:
        if asked.watch:
            return watches.pop(0) if watches else Say(200, [], then="hang")
        return lists.pop(0) if len(lists) > 1 else lists[0]

    return answer


def asked(server: Server) -> list[str]:
    """The versions that watches began at; "list" for a list."""
    return [one.query.get("resourceVersion", "?") if one.watch else "list" for one in server.asked]


@pytest.mark.parametrize("form", [Say(200, [EXPIRED]), refusal(410, "Expired", "too old resource version")])
def test_both_forms_of_410_bring_a_new_list(form: Say) -> None:
    lists = [listing(thing("a", 1), thing("b", 2), version=5), listing(thing("a", 1), version=9)]
    with watching(script(lists, [form])) as (watcher, server):
        until(lambda: asked(server) == ["list", "5", "list", "9"])
        until(lambda: list(watcher.snapshot().objects) == ["a"])
        assert list(watcher.snapshot().gone) == ["uid-b"]
        assert watcher.faults == 1


def test_an_event_in_pieces_and_one_that_was_cut_in_half() -> None:
    whole = json.dumps(event("ADDED", thing("b", 6))).encode() + b"\n"
    torn = json.dumps(event("ADDED", thing("c", 7))).encode()[:40]
    watches = [Say(200, [whole[:20], whole[20:] + torn], then="cut")]
    with watching(script([listing(thing("a", 1), version=5)], watches)) as (watcher, server):
        until(lambda: len(server.asked) == 3)
        assert asked(server) == ["list", "5", "6"], "from where it was, without a list"
        assert list(watcher.snapshot().objects) == ["a", "b"]
        assert watcher.snapshot().gone == {}, "a dropped watch is no evidence"


def test_many_events_in_one_piece() -> None:
    lines = b"".join(
        json.dumps(one).encode() + b"\n"
        for one in (
            event("ADDED", thing("a", 6)),
            event("MODIFIED", thing("a", 7)),
            event("DELETED", thing("a", 8)),
        )
    )
    with watching(script([listing(version=5)], [Say(200, [lines])])) as (watcher, server):
        until(lambda: asked(server) == ["list", "5", "8"])
        assert watcher.snapshot().gone == {"uid-a": thing("a", 8)}


def test_a_bookmark_is_where_the_next_watch_begins() -> None:
    with watching(script([listing(version=5)], [Say(200, [BOOKMARK])])) as (_, server):
        until(lambda: asked(server) == ["list", "5", "50"])
        query = server.asked[1].query
        assert (query["allowWatchBookmarks"], query["timeoutSeconds"]) == ("true", "60")


def test_the_list_is_made_anew_in_time_also_when_a_watch_broke_just_before() -> None:
    """Such a watch lasts until the list is due, not as long as a whole one."""
    now = 0.0

    def answer(asked: Asked) -> Say:
        nonlocal now
        if not asked.watch:
            return listing(version=5)
        now += 55.0  # and it ends
        return Say(200, [])

    rhythm = Rhythm(watch=(60.0, 65.0), relist=60.0, quiet=30.0)
    with watching(answer, rhythm, clock=lambda: now) as (_, server):
        until(lambda: len(server.asked) > 4)
        seconds = [int(one.query["timeoutSeconds"]) for one in server.asked if one.watch]
        assert seconds[0] >= 60
        assert seconds[1] <= 10


BAD = {
    "ended": Say(200, []),
    "ended, after a bookmark": Say(200, [BOOKMARK]),
    "expired": Say(200, [EXPIRED]),
    "cut": Say(200, [], then="cut"),
    "cut before a word": CUT,
    "no JSON": Say(200, [b"no json\n"]),
    "no event": Say(200, [b"{}\n"]),
    "410": refusal(410, "Expired"),
    "429": refusal(429, "TooManyRequests", Retry_After="1"),
    "500": refusal(500, "InternalError"),
    "401": refusal(401, "Unauthorized"),
    "403": refusal(403, "Forbidden"),
    "400": refusal(400, "BadRequest"),
}


def spaced(moments: list[float]) -> bool:
    """As far apart as it should be, whatever the load of this machine: each waits for the answer before."""
    return all(gap >= 0.95 * backoff(number, 0.0) for number, gap in enumerate(gaps(moments), 1))


def gaps(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(moments)]


def test_never_a_hot_loop() -> None:
    """Every watch goes wrong at once: some calls at first, then fewer and fewer. All ways side by side."""
    good = listing(thing("a", 1), version=5)
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(
                watching(lambda asked, say=say: say if asked.watch else good, luck=lambda: 0.0)
            )
            for name, say in BAD.items()
        }

        def watches(server: Server) -> list[float]:
            return [one.at for one in server.asked if one.watch]

        until(lambda: all(len(watches(server)) >= 4 for _, server in running.values()), 20.0)
        for name, (watcher, server) in running.items():
            assert spaced(watches(server)), f"{name}: {gaps(watches(server))}"
            assert asked(server).count("list") <= len(watches(server)) + 1, name
            assert list(watcher.snapshot().objects) == ["a"], name


def test_no_hot_loop_of_lists() -> None:
    """Nothing is answered as it should be, from the start."""
    ways = (CUT, refusal(403, "Forbidden"), refusal(500, "x"), Say(200, b"<html>"))
    with ExitStack() as stack:
        running = [stack.enter_context(watching(lambda _, say=say: say, luck=lambda: 0.0)) for say in ways]
        until(lambda: all(len(server.asked) >= 4 for _, server in running), 20.0)
        for watcher, server in running:
            assert spaced([one.at for one in server.asked])
            assert not watcher.synced.is_set()
            seconds, why = watcher.away()
            assert seconds >= 1.5
            assert why not in ("", "not connected yet")


@pytest.mark.parametrize("hung", [Say(200, [], then="hang"), Say(status=0, then="hang")])
def test_silence_ends_a_watch(hung: Say) -> None:
    """Half open: the connection is there, and nothing comes any more, not even the first line."""
    rhythm = Rhythm(watch=(60.0, 60.0), relist=60.0, quiet=0.3)
    first = Say(200, [event("ADDED", thing("a", 6))], then="hang") if hung.status else hung
    watches = [first, Say(200, [event("ADDED", thing("b", 7))], then="hang")]
    with watching(script([listing(version=5)], watches), rhythm) as (watcher, server):
        until(lambda: "b" in watcher.snapshot().objects)
        assert asked(server)[:3] == ["list", "5", "6" if hung.status else "5"]
        assert watcher.snapshot().gone == {}


def test_a_watch_may_be_quiet_for_longer_than_an_answer_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.kube.wire.READ", 0.2)
    with watching(script([listing(version=5)], [])) as (watcher, server):
        until(lambda: len(server.asked) == 2)
        time.sleep(0.8)
        assert asked(server) == ["list", "5"]
        assert watcher.faults == 0


def test_a_whole_list_is_read_from_time_to_time_whatever_the_watch_says() -> None:
    """Here the watches are fine and tell nothing, though "b" has gone and "c" has come."""
    lists = [
        listing(thing("a", 1), thing("b", 2), version=5),
        listing(thing("a", 1), thing("c", 7), version=9),
    ]
    quiet = Say(200, [], then="hang")
    told: list[int] = []
    answer = script(lists, [quiet] * 9)
    with watching(answer, SHORT, changed=lambda: told.append(1)) as (watcher, server):
        until(lambda: sorted(watcher.snapshot().objects) == ["a", "c"])
        assert 1.0 <= server.asked[-1].at - server.asked[0].at <= 3.0
        assert list(watcher.snapshot().gone) == ["uid-b"]
        assert len(told) == 2
        until(lambda: asked(server).count("list") == 3)
        assert len(told) == 2, "no news, no call"


def test_a_server_that_does_not_end_a_watch_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends an event now and then for ever; a list is due all the same."""
    monkeypatch.setattr("operators.kube.watch.SLACK", 0.0)
    beats = [event("MODIFIED", thing("a", 6 + beat)) for beat in range(9)]
    answer = script([listing(thing("a", 1), version=5)], [Say(200, beats, then="hang")])
    ticks = count()
    rhythm = Rhythm(watch=(1.0, 1.0), relist=1.0, quiet=30.0)
    with watching(answer, rhythm, clock=lambda: 0.4 * next(ticks)) as (_, server):
        until(lambda: asked(server)[:3] == ["list", "5", "list"])


def test_a_callback_or_an_object_that_fails_is_survived() -> None:
    calls: list[int] = []

    def changed() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug of the owner")

    with watching(script([listing(thing("a", 1), version=5)], []), changed=changed) as (watcher, server):
        until(lambda: asked(server) == ["list", "list", "5"])
        assert watcher.faults == 1


def test_contact_is_lost_and_found() -> None:
    up = True

    def answer(asked: Asked) -> Say:
        if not up:
            return refusal(503, "ServiceUnavailable", "etcd is away")
        return Say(200, [], then="hang") if asked.watch else listing(thing("a", 1), version=5)

    rhythm = Rhythm(watch=(60.0, 60.0), relist=60.0, quiet=0.2)
    with watching(answer, rhythm) as (watcher, _):
        until(lambda: watcher.synced.is_set() and watcher.away() == (0.0, ""))
        up = False
        until(lambda: "etcd is away" in watcher.away()[1])
        until(lambda: watcher.away()[0] > 0.5)
        assert list(watcher.snapshot().objects) == ["a"], "still known, as it was"
        up = True
        until(lambda: watcher.away() == (0.0, ""))


def test_stop_does_not_wait_for_the_server() -> None:
    with watching(script([listing(version=5)], [])) as (watcher, server):
        until(lambda: len(server.asked) == 2 and watcher.away() == (0.0, ""))
        began = time.monotonic()
        watcher.stop()
        assert time.monotonic() - began < 0.5
        assert watcher._thread is not None
        assert not watcher._thread.is_alive()


def test_forgotten_and_slim() -> None:
    fat = {**thing("a", 1), "spec": "x" * 1000}
    lists = [listing(fat, version=5)]
    deleted = Say(200, [event("DELETED", {**fat, **thing("a", 6)})], then="hang")

    def slim(one: Json) -> Json:
        return {"metadata": one["metadata"]}

    with watching(script(lists, [deleted]), slim=slim) as (watcher, _):
        until(lambda: watcher.snapshot().gone)
        assert watcher.snapshot().gone == {"uid-a": thing("a", 6)}
        before = watcher.snapshot()
        watcher.forget(["uid-a", "never-heard-of"])
        assert watcher.snapshot().gone == {}
        assert list(before.gone) == ["uid-a"], "a snapshot does not change"
