from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_engine.types import AttemptStarted, Event, Start, Stop
from operators import journal as module
from operators.codec import SCHEMA
from operators.journal import Batch, Fenced, Journal, JournalError
from operators.store import DirectoryStore, Store


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 4)


def opened(store: module.Store, now: float = 0.0) -> Journal:
    journal = Journal(store, "s")
    list(journal.read())
    journal.claim(now)
    return journal


def said(trial: int) -> tuple[Event, ...]:
    return (Start(trial, {"x": trial}, 1), AttemptStarted(trial, 1))


def batches(store: module.Store) -> list[Batch]:
    return list(Journal(store, "s").read())


def trials(store: module.Store) -> list[int]:
    """The first word of each batch that says something."""
    return [batch.events[0].trial for batch in batches(store) if batch.events]  # type: ignore[union-attr]


# -- what is written is read --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 9, 21])
def test_what_is_appended_is_read_in_order(store: Store, count: int) -> None:
    journal = opened(store, 100.0)
    for trial in range(count):
        journal.append(said(trial), 101.0 + trial)
    assert batches(store) == [
        Batch(1, 1, 100.0, ()),
        *(Batch(trial + 2, 1, 101.0 + trial, said(trial)) for trial in range(count)),
    ]
    assert len(store.list("s/segments/")) == max(0, count) // 4
    assert len(store.list("s/journal/")) == count + 1, "no batch is ever deleted"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["append", "append", "append", "reopen"]), max_size=40))
def test_whenever_it_is_reopened(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    store = DirectoryStore(tmp_path_factory.mktemp("store"))
    journal, expected = opened(store), 0
    for step in steps:
        if step == "reopen":
            journal = opened(store)
        else:
            journal.append(said(expected), 0.0)
            expected += 1
    assert trials(store) == list(range(expected))
    assert [batch.number for batch in batches(store)] == list(range(1, len(batches(store)) + 1))


def test_segments_alone_tell_the_same(store: Store) -> None:
    journal = opened(store)
    for trial in range(8):
        journal.append(said(trial), 0.0)
    before = batches(store)
    for key in store.list("s/journal/")[:8]:
        store.delete(key)  # nobody does: it shows that they need not be read
    assert batches(store) == before


def test_reading_costs_few_gets(store: Store) -> None:
    journal = opened(store)
    for trial in range(42):
        journal.append(said(trial), 0.0)
    counted = Faulty(store)
    assert trials(counted) == list(range(42))
    assert counted.gets <= 10 + 1 + 4 + 1, "ten segments, a tail shorter than a segment, and the end of each"


def test_reading_on_tells_only_what_came_since(store: Store) -> None:
    writer = opened(store)
    reader = Journal(store, "s")
    told: list[int] = []
    for trial in range(23):
        writer.append(said(trial), 0.0)
        if trial % 3 == 0:  # segments come into being behind the reader's back
            told += [batch.number for batch in reader.read()]
    told += [batch.number for batch in reader.read()]
    assert told == list(range(1, 25))


# -- crashes and lost replies ---------------------------------------------------------------------------


class Crash(BaseException):
    """The process is gone: nobody handles it."""


class Fault(NamedTuple):
    at: int  # the number of the write, from 0
    after: bool  # the write went through
    error: type[BaseException]


class Faulty:
    """A store whose `at`-th write fails, before or after it went through, and that counts its calls."""

    def __init__(self, inner: Store, fault: Fault | None = None) -> None:
        self.inner, self.fault, self.writes, self.gets = inner, fault, 0, 0

    def _write(self, call: Callable[[], object]) -> object:
        mine = self.fault is not None and self.writes == self.fault.at
        self.writes += 1
        if mine and not self.fault.after:  # type: ignore[union-attr]
            raise self.fault.error("before")  # type: ignore[union-attr]
        result = call()
        if mine:
            raise self.fault.error("after")  # type: ignore[union-attr]
        return result

    def get(self, key: str) -> bytes | None:
        self.gets += 1
        return self.inner.get(key)

    def put(self, key: str, data: bytes) -> None:
        self._write(lambda: self.inner.put(key, data))

    def put_once(self, key: str, data: bytes) -> bool:
        return bool(self._write(lambda: self.inner.put_once(key, data)))

    def list(self, prefix: str) -> list[str]:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self._write(lambda: self.inner.delete(key))

    def upload(self, key: str, source: Path) -> None:
        raise NotImplementedError

    def download(self, key: str, target: Path) -> None:
        raise NotImplementedError


WRITES = 1 + 10 + 2  # a claim, ten batches, two segments


def faults(error: type[BaseException]) -> list[object]:
    return [
        pytest.param(Fault(at, after, error), id=f"{'after' if after else 'before'} write {at}")
        for at in range(WRITES)
        for after in (False, True)
    ]


@pytest.mark.parametrize("fault", faults(Crash))
def test_a_crash_at_any_write_loses_and_doubles_nothing(store: Store, fault: Fault) -> None:
    faulty, confirmed = Faulty(store, fault), 0

    def work() -> None:
        nonlocal confirmed
        journal = opened(faulty)
        for trial in range(10):
            journal.append(said(trial), 0.0)
            confirmed = trial + 1

    with pytest.raises(Crash):
        work()
    found = trials(store)
    assert found in (list(range(confirmed)), list(range(confirmed + 1))), (
        "all confirmed ones, perhaps the last try"
    )
    journal = opened(store)
    for trial in range(len(found), 12):
        journal.append(said(trial), 0.0)
    assert trials(store) == list(range(12))


@pytest.mark.parametrize("fault", faults(OSError))
def test_an_append_that_failed_can_be_repeated(store: Store, fault: Fault) -> None:
    journal = Journal(faulty := Faulty(store, fault), "s")
    now = 0.0

    def insist(act: Callable[[], None]) -> None:
        nonlocal now
        now += 1.0  # the second try is later
        try:
            act()
        except OSError:
            insist(act)

    insist(lambda: journal.claim(now))
    for trial in range(10):
        insist(lambda trial=trial: journal.append(said(trial), now))  # type: ignore[misc]
    assert faulty.writes in (WRITES, WRITES + 1), "one write failed and was repeated"
    assert trials(store) == list(range(10))
    assert [batch.epoch for batch in batches(store)] == [1] * 11
    assert opened(store).epoch == 2


def test_a_lost_reply_is_no_fence(store: Store) -> None:
    class Twice(Faulty):
        """The client tries again by itself, and the first try had gone through."""

        def put_once(self, key: str, data: bytes) -> bool:
            return self.inner.put_once(key, data) and self.inner.put_once(key, data)

    journal = opened(Twice(store))
    for trial in range(9):
        journal.append(said(trial), 0.0)
    assert trials(store) == list(range(9))


# -- fencing ----------------------------------------------------------------------------------------


def test_a_second_claim_fences_the_first_at_its_next_append(store: Store) -> None:
    first = opened(store)
    first.append(said(0), 1.0)
    second = opened(store)
    assert second.epoch == first.epoch + 1
    for _ in range(3):
        with pytest.raises(Fenced, match="'s'"):
            first.append(said(99), 2.0)
    second.append(said(1), 3.0)
    with pytest.raises(Fenced):
        first.append(said(99), 4.0)
    assert trials(store) == [0, 1]
    assert [batch.epoch for batch in batches(store)] == [1, 1, 2, 2]


def test_the_same_words_from_another_writer_are_a_fence(store: Store) -> None:
    first, second = opened(store), Journal(store, "s")
    list(second.read())
    second.claim(1.0)
    with pytest.raises(Fenced):
        first.append((), 1.0)


def test_of_two_claims_in_the_same_words_at_the_same_second_one_wins(store: Store) -> None:
    a, b = Journal(store, "s"), Journal(store, "s")
    a.claim(0.0, said(0))
    with pytest.raises(Fenced):
        b.claim(0.0, said(0))


def test_of_two_claims_at_once_one_wins(store: Store) -> None:
    a, b = Journal(store, "s"), Journal(store, "s")
    assert list(a.read()) == list(b.read()) == []
    a.claim(0.0, said(0))
    with pytest.raises(Fenced):
        b.claim(0.0, said(1))
    a.append(said(2), 1.0)
    assert trials(store) == [0, 2]


@pytest.mark.parametrize("appends", [1, 4, 9])
def test_a_newcomer_who_was_too_slow_reads_on_and_claims_again(store: Store, appends: int) -> None:
    owner, newcomer = opened(store), Journal(store, "s")
    list(newcomer.read())
    for trial in range(appends):
        owner.append(said(trial), 0.0)
    with pytest.raises(Fenced):
        newcomer.claim(1.0)
    since = [batch.events for batch in newcomer.read()]
    assert since == [said(trial) for trial in range(appends)]
    newcomer.claim(1.0)
    assert newcomer.epoch == 2
    newcomer.append(said(appends), 2.0)
    with pytest.raises(Fenced):
        owner.append(said(99), 3.0)
    assert trials(store) == list(range(appends + 1))


@pytest.mark.parametrize("ahead", range(6))
def test_a_fenced_writer_leaves_no_segment_that_lies(store: Store, ahead: int) -> None:
    first = opened(store)
    for trial in range(ahead):
        first.append(said(trial), 0.0)
    second = opened(store)
    with pytest.raises(Fenced):
        first.append(said(99), 0.0)
    for trial in range(ahead, 12):
        second.append(said(trial), 0.0)
    assert trials(store) == list(range(12))


# -- what cannot be read --------------------------------------------------------------------------------


def test_a_newer_schema_is_refused_in_words(store: Store) -> None:
    opened(store)
    store.put_once(
        "s/journal/00000002.json", json.dumps({"schema": SCHEMA + 1, "events": "of another kind"}).encode()
    )
    with pytest.raises(
        JournalError, match=rf"newer version \(schema {SCHEMA + 1}, this one reads {SCHEMA}\): upgrade"
    ):
        batches(store)


WHOLE = {"schema": 1, "epoch": 1, "time": 2.0, "events": []}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"schema":1,"epo',
        b"\xff\xfe",
        b"null",
        b"[]",
        b"3",
        *(json.dumps({k: v for k, v in WHOLE.items() if k != name}).encode() for name in WHOLE),
        *(
            json.dumps({**WHOLE, **wrong}).encode()
            for wrong in (
                {"schema": "1"}, {"schema": None}, {"epoch": "one"}, {"epoch": None}, {"epoch": 0},
                {"time": "noon"}, {"time": None}, {"events": 3}, {"events": [3]}, {"events": ["Stop"]},
                {"events": [{"event": "Stop"}]}, {"events": [{"event": "Sneeze"}]},
                {"events": {"event": "Stop"}},
            )
        ),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_read_is_named(store: Store, data: bytes) -> None:
    opened(store)
    store.put_once("s/journal/00000002.json", data)
    with pytest.raises(JournalError, match=r"s/journal/00000002\.json cannot be read"):
        batches(store)


def test_a_number_no_json_holds_is_refused_before_anything_is_written(store: Store) -> None:
    journal = opened(store)
    with pytest.raises(ValueError, match="JSON"):
        journal.append((Stop(0, "r"),), float("nan"))
    journal.append(said(0), 1.0)
    assert trials(store) == [0]


# -- time -------------------------------------------------------------------------------------------


def test_active_time_is_that_between_batches_of_one_opening(store: Store) -> None:
    first = opened(store, 100.0)
    first.append(said(0), 110.0)
    first.append(said(1), 125.0)
    assert first.active == 25.0
    second = opened(store, 10_000.0)  # nobody was at work for hours
    assert second.active == 25.0
    second.append(said(2), 10_007.0)
    second.append(said(3), 10_001.0)  # the clock was set back
    second.append(said(4), 10_004.0)
    assert second.active == 25.0 + 7.0 + 3.0
    reader = Journal(store, "s")
    list(reader.read())
    assert reader.active == 35.0
