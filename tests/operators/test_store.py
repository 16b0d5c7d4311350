"""What a Store promises. Another kind of store joins by a line in STORES of tests/operators/stores.py."""

from __future__ import annotations

import errno
import os
import threading
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from operators.store import DirectoryStore, Store, StoreError
from tests.operators.stores import STORES


def test_what_is_put_is_there_until_it_is_deleted(store: Store) -> None:
    assert store.get("s/a") is None
    store.put("s/a", b"one")
    store.put("s/a", b"two")
    assert store.get("s/a") == b"two"
    store.delete("s/a")
    store.delete("s/a")
    assert store.get("s/a") is None
    assert store.list("s/") == []


@pytest.mark.parametrize("data", [b"", b"\x00\xff\r\n", b"x" * 3_000_000])
def test_bytes_come_back_as_they_were(store: Store, data: bytes) -> None:
    store.put("s/a", data)
    assert store.get("s/a") == data


def test_put_once_keeps_the_first(store: Store) -> None:
    assert store.put_once("s/a", b"one") is True
    assert store.put_once("s/a", b"two") is False
    assert store.get("s/a") == b"one"
    store.delete("s/a")
    assert store.put_once("s/a", b"three") is True


def test_put_once_refuses_a_key_that_was_put(store: Store) -> None:
    store.put("s/a", b"one")
    assert store.put_once("s/a", b"two") is False
    assert store.get("s/a") == b"one"


def test_list_is_sorted_deep_and_ends_at_the_prefix(store: Store) -> None:
    for key in (
        "s/journal/2",
        "s/journal/10",
        "s/journal/1",
        "s/journal/deep/er/x",
        "s/journals/1",
        "t/journal/1",
    ):
        store.put(key, b"")
    assert store.list("s/journal/") == ["s/journal/1", "s/journal/10", "s/journal/2", "s/journal/deep/er/x"]
    assert store.list("s/nothing/") == []
    assert store.list("nothing/at/all/") == []


def test_a_key_is_no_folder_and_a_folder_no_key(store: Store) -> None:
    store.put("s/a/b", b"")
    assert store.get("s/a") is None
    assert store.get("s/a/b/c") is None
    store.delete("s/a")
    store.delete("s/a/b/c")
    assert store.list("s/") == ["s/a/b"]


@pytest.mark.parametrize(
    "key", ["..", "../a", "s/../../a", "s/..", "/etc/passwd", "", ".", "s/./a", "s//a", "s/a/"]
)
@pytest.mark.parametrize("call", ["get", "put", "put_once", "delete", "upload", "download"])
def test_a_key_that_leads_elsewhere_is_refused(store: Store, tmp_path: Path, call: str, key: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    rest = {
        "put": (b"x",),
        "put_once": (b"x",),
        "upload": (tmp_path / "file",),
        "download": (tmp_path / "file",),
    }
    with pytest.raises(StoreError, match="no key"):
        getattr(store, call)(key, *rest.get(call, ()))


@pytest.mark.parametrize("prefix", ["../", "s/../", "/etc/"])
def test_a_prefix_that_leads_elsewhere_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(StoreError):
        store.list(prefix)


@pytest.mark.parametrize("key", ["s/a b", "s/ä/日本", "s/a..b", "s/...", "s/'$(x)\"", "s/" + "n" * 200])
def test_odd_names_are_names(store: Store, key: str) -> None:
    store.put(key, b"x")
    assert store.list("s/") == [key]
    assert store.get(key) == b"x"


def test_files_go_up_and_down(store: Store, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"x" * 2_000_000)
    store.upload("s/a", tmp_path / "up")
    store.download("s/a", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"x" * 2_000_000
    with pytest.raises(KeyError, match="s/b"):
        store.download("s/b", tmp_path / "down")
    with pytest.raises(KeyError):
        store.download("s", tmp_path / "down")


# -- two processes ---------------------------------------------------------------------------------

ROUNDS = {"directory": 600, "s3": 100}
spawn = get_context("spawn")  # other tests have left threads in this process: a fork of it may break


def _race(kind: str, folder: Path, name: str, barrier: Barrier) -> None:
    os.fsync = lambda _: None  # in this process alone: its length would keep the two apart
    store = STORES[kind](folder)
    won = []
    for turn in range(ROUNDS[kind]):
        barrier.wait(30)
        if store.put_once(f"s/race/{turn}", name.encode()):
            won.append(str(turn))
    store.put(f"s/won/{name}", " ".join(won).encode())


@pytest.mark.parametrize("kind", STORES)
def test_of_two_processes_one_is_first(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "s3":
        request.getfixturevalue("s3")
    barrier = spawn.Barrier(2)
    racers = [spawn.Process(target=_race, args=(kind, tmp_path, name, barrier)) for name in "ab"]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    store = STORES[kind](tmp_path)
    assert [racer.exitcode for racer in racers] == [0, 0]
    a, b = ((store.get(f"s/won/{name}") or b"").decode().split() for name in "ab")
    assert sorted(map(int, a + b)) == list(range(ROUNDS[kind])), "each key has exactly one winner"
    for name, won in (("a", a), ("b", b)):
        assert all(store.get(f"s/race/{turn}") == name.encode() for turn in won), (
            "and holds the winner's bytes"
        )
    assert len(store.list("s/race/")) == ROUNDS[kind]


def test_a_reader_never_sees_a_part(store: Store) -> None:
    versions = [bytes([65 + turn]) * 200_000 for turn in range(8)]
    store.put("s/a", versions[0])
    done, seen = threading.Event(), set[bytes]()

    def read() -> None:
        while not done.is_set():
            seen.add(store.get("s/a") or b"nothing")

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(80):
        store.put("s/a", versions[turn % 8])
    done.set()
    reader.join()
    assert seen <= set(versions)
    assert len(seen) > 1, "the reader did see changes"


# -- the directory store alone -----------------------------------------------------------------------


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def _dies(*_: object, **__: object) -> None:
    os._exit(9)


def _write_and_die(store: DirectoryStore, step: str, call: str, key: str, new: bytes | Path) -> None:
    setattr(os, step, _dies)
    getattr(store, call)(key, new)


@pytest.mark.parametrize(
    ("call", "step"),
    [("put", "fsync"), ("put", "replace"), ("put_once", "fsync"), ("put_once", "link"), ("upload", "fsync"),
     ("upload", "replace")],
)  # fmt: skip
def test_a_crash_in_the_middle_leaves_the_old_value_and_nothing_listed(
    tmp_path: Path, call: str, step: str
) -> None:
    store = DirectoryStore(tmp_path / "store")
    (tmp_path / "file").write_bytes(b"new")
    new = tmp_path / "file" if call == "upload" else b"new"
    store.put("s/old", b"old")
    key = "s/new" if call == "put_once" else "s/old"
    writer = spawn.Process(target=_write_and_die, args=(store, step, call, key, new))
    writer.start()
    writer.join(30)
    assert writer.exitcode == 9
    assert len(_files(tmp_path / "store")) == 2, "the crash did leave something behind"
    assert store.list("s/") == ["s/old"]
    assert store.get("s/old") == b"old"
    assert store.get("s/new") is None
    getattr(store, call)(key, new)
    assert store.get(key) == b"new"


@pytest.mark.parametrize("call", ["put", "put_once", "upload"])
def test_an_error_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = DirectoryStore(tmp_path / "store")
    (tmp_path / "file").write_bytes(b"new")
    store.put("s/old", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("operators.store.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        getattr(store, call)("s/new", tmp_path / "file" if call == "upload" else b"new")
    assert _files(tmp_path / "store") == ["old"]


def test_every_write_is_synced_with_all_new_directories_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append("data" if path.name.startswith(".tmp-") else str(path.relative_to(tmp_path)))
        real(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr("operators.store.os.fsync", spy)
    store = DirectoryStore(tmp_path / "store")
    store.put_once("s/journal/1", b"")
    assert synced == [".", "store", "store/s", "data", "store/s/journal"]
    synced.clear()
    store.put("s/journal/2", b"")
    assert synced == ["data", "store/s/journal"]
    synced.clear()
    assert store.put_once("s/journal/1", b"") is False
    assert synced[-1] == "store/s/journal", "its first writer may have crashed before it could"
