from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from operators import lease
from operators.lease import PATIENCE, Heartbeat, Owned, check_free, host_id, process_started
from operators.store import DirectoryStore, StoreError

KEY = "s/owner.json"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)


def owner(store: DirectoryStore) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(store.get(KEY) or b"{}")
    return document


def write(store: DirectoryStore, document: dict[str, Any]) -> None:
    store.put(KEY, json.dumps(document).encode())


def never(_: float) -> None:
    raise AssertionError("an owner on this host needs no watching")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "did not come"
        time.sleep(0.005)


def process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def of(pid: int, **other: object) -> dict[str, Any]:
    me = {
        "epoch": 1,
        "host": host_id(),
        "pid": pid,
        "started": process_started(pid),
        "beat": 3,
        "released": False,
    }
    return {**me, **other}


# -- on this host -----------------------------------------------------------------------------------


def test_a_study_without_an_owner_is_free(store: DirectoryStore) -> None:
    check_free(store, "s", never)


def test_a_live_owner_is_named_and_a_killed_one_is_seen_at_once(store: DirectoryStore) -> None:
    child = process()
    write(store, of(child.pid))
    with pytest.raises(Owned, match=rf"'s' is being tuned by process {child.pid} on .*--take-over"):
        check_free(store, "s", never)
    child.send_signal(signal.SIGKILL)
    until(lambda: process_started(child.pid) == "")
    check_free(store, "s", never)  # a zombie: nobody has waited for it yet
    child.wait()
    child.stdin.close()  # type: ignore[union-attr]
    check_free(store, "s", never)


def test_a_real_owner_that_was_killed(store: DirectoryStore, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from operators.lease import Heartbeat;"
        "from operators.store import DirectoryStore;"
        "Heartbeat(DirectoryStore(Path(sys.argv[1])), 's', 7); print('up', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        with pytest.raises(Owned, match=f"process {child.pid} "):
            check_free(store, "s", never)
        child.kill()
    assert owner(store)["epoch"] == 7
    assert owner(store)["released"] is False
    check_free(store, "s", never)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_later_process_with_the_same_number_is_not_the_owner(store: DirectoryStore) -> None:
    write(store, of(os.getpid()))
    with pytest.raises(Owned):
        check_free(store, "s", never)
    write(store, of(os.getpid(), started=str(int(process_started(os.getpid())) - 1)))
    check_free(store, "s", never)
    write(store, of(os.getpid(), started=""))
    check_free(store, "s", never)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_may_have_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"])
    try:
        until(lambda: "a) R 1 (b" in Path(f"/proc/{child.pid}/stat").read_text())
        ticks = float(process_started(child.pid)) / os.sysconf("SC_CLK_TCK")
        assert abs(ticks - float(Path("/proc/uptime").read_text().split()[0])) < 60
    finally:
        child.kill()
        child.wait()
    assert process_started(child.pid) == ""


def test_without_proc_a_signal_asks(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "Path", lambda _: Path("/nowhere/at/all"))
    child = process()
    write(store, of(child.pid))
    with pytest.raises(Owned):
        check_free(store, "s", never)
    child.kill()
    child.wait()
    child.stdin.close()  # type: ignore[union-attr]
    check_free(store, "s", never)


def test_a_released_study_is_free_though_its_owner_lives(store: DirectoryStore) -> None:
    write(store, of(os.getpid(), released=True))
    check_free(store, "s", never)


# -- on another host -----------------------------------------------------------------------------------


class Watched:
    """A sleep during which something happens to the owner's file."""

    def __init__(self, store: DirectoryStore, **changes: object) -> None:
        self.store, self.changes, self.slept = store, changes, 0.0

    def __call__(self, seconds: float) -> None:
        self.slept += seconds
        write(self.store, {**owner(self.store), **self.changes})


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, True),
        ({"beat": 4}, False),
        ({"epoch": 2, "pid": 9, "started": "9"}, False),  # another one took over, and its beat is as high
        ({"beat": 4, "released": True}, True),  # it ended while it was watched
    ],
)
def test_elsewhere_an_owner_lives_if_its_heart_beats(
    store: DirectoryStore, changes: dict[str, object], free: bool
) -> None:
    write(store, of(os.getpid(), host="node-7/some-boot/some-namespace"))
    sleep = Watched(store, **changes)
    if free:
        check_free(store, "s", sleep)
    else:
        with pytest.raises(Owned, match=r"process \d+ on node-7\."):
            check_free(store, "s", sleep)
    assert sleep.slept == PATIENCE


def test_patience_is_longer_than_a_few_beats() -> None:
    assert PATIENCE > 3 * lease.BEAT


def test_another_boot_or_container_is_another_host() -> None:
    assert host_id() == host_id()
    assert host_id().count("/") >= (2 if Path("/proc/self/ns/pid").exists() else 0)


# -- the heartbeat ------------------------------------------------------------------------------------


def test_a_heart_beats_until_it_is_stopped_and_gives_the_study_free(
    store: DirectoryStore, quick: None
) -> None:
    heart = Heartbeat(store, "s", 4)
    assert owner(store) == {**of(os.getpid()), "epoch": 4, "beat": owner(store)["beat"]}
    until(lambda: owner(store)["beat"] >= 4)
    assert not heart.lost.is_set()
    heart.stop()
    last = owner(store)
    assert last["released"] is True
    check_free(store, "s", never)
    time.sleep(0.05)
    assert owner(store) == last
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_newer_owner_is_seen_and_left_alone(store: DirectoryStore, quick: None) -> None:
    heart = Heartbeat(store, "s", 4)
    newer = of(1, epoch=5)
    # Between its look and its beat an older heart may overwrite a newer one's word once: it is said again.
    until(lambda: write(store, newer) is None and heart.lost.wait(0.05))
    write(store, newer)
    time.sleep(0.05)
    assert owner(store) == newer
    heart.stop()
    assert owner(store) == newer


def test_a_heart_stopped_before_it_saw_the_newer_owner_leaves_its_word(store: DirectoryStore) -> None:
    heart = Heartbeat(store, "s", 4)  # its next look is seconds away
    newer = of(1, epoch=5)
    write(store, newer)
    heart.stop()
    assert owner(store) == newer


class Away(DirectoryStore):
    """A store that can be away."""

    away = threading.Event()
    error: Exception = OSError("away")

    def get(self, key: str) -> bytes | None:
        if self.away.is_set():
            raise self.error
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        if self.away.is_set():
            raise self.error
        super().put(key, data)


@pytest.mark.parametrize("error", [OSError("away"), StoreError("403")], ids=["away", "refuses"])
def test_a_heart_outlives_a_store_that_is_away(error: Exception, tmp_path: Path, quick: None) -> None:
    store = Away(tmp_path)
    store.error = error
    heart = Heartbeat(store, "s", 1)
    store.away.set()
    time.sleep(0.05)
    store.away.clear()
    before = owner(store)["beat"]
    until(lambda: owner(store)["beat"] > before + 1)
    store.away.set()
    try:
        heart.stop()  # the end of a study is no place to fail
    finally:
        store.away.clear()
    assert not heart.lost.is_set()
