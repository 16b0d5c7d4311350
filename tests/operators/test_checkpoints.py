"""A checkpoint exists when it is whole, and not before."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpo_engine.types import Report
from operators.checkpoints import Checkpoints, Manifest
from operators.store import DirectoryStore, Store
from operators.trial_dir import ContractError


@pytest.fixture
def checkpoints(store: Store) -> Checkpoints:
    return Checkpoints(store, "s/trials/00000000/")


def commit(checkpoints: Checkpoints, root: Path, resource: int, **files: str) -> None:
    source = root / f"ckpt-{resource}"
    for name, text in files.items():
        path = source / name.replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    checkpoints.commit(Report(0, 1, resource, {"loss": float("nan")}, True), root, source)


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def blobs(checkpoints: Checkpoints) -> list[str]:
    return checkpoints.store.list(f"{checkpoints.prefix}blobs/")


def restored(checkpoints: Checkpoints, target: Path) -> tuple[int, list[str]]:
    manifest, torn = checkpoints.restore(target)
    return (0 if manifest is None else manifest.report.resource), torn


def test_the_newest_comes_back_as_it_was(checkpoints: Checkpoints, tmp_path: Path) -> None:
    commit(checkpoints, tmp_path, 1, model="1")
    commit(checkpoints, tmp_path, 12, model="12", deep_er_file="x")
    target = tmp_path / "checkpoint"
    target.mkdir()
    (target / "rest").write_text("of another one")
    manifest, torn = checkpoints.restore(target)
    assert isinstance(manifest, Manifest)
    assert (manifest.report.resource, str(manifest.report.metrics["loss"]), torn) == (12, "nan", [])
    assert content(target) == {"model": "12", "deep/er/file": "x"}


def test_nothing_to_restore(checkpoints: Checkpoints, tmp_path: Path) -> None:
    assert restored(checkpoints, tmp_path / "checkpoint") == (0, [])
    assert not (tmp_path / "checkpoint").exists()


def test_a_single_file(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("1")
    checkpoints.commit(Report(0, 1, 1, {}, True), tmp_path, tmp_path / "model.bin")
    checkpoints.restore(tmp_path / "checkpoint")
    assert content(tmp_path / "checkpoint") == {"model.bin": "1"}


def test_an_unchanged_file_is_not_uploaded_again(checkpoints: Checkpoints, tmp_path: Path) -> None:
    sent: list[bytes] = []

    def upload(key: str, source: Path) -> None:
        sent.append(source.read_bytes())
        store.upload(key, source)

    store = checkpoints.store
    spied = Checkpoints(SimpleNamespace(list=store.list, put=store.put, upload=upload), checkpoints.prefix)  # type: ignore[arg-type]
    commit(spied, tmp_path, 1, frozen="same", head="1", copy="same")
    assert sorted(sent) == [b"1", b"same"]
    commit(spied, tmp_path, 2, frozen="same", head="2")
    assert sorted(sent) == [b"1", b"2", b"same"]
    assert len(blobs(checkpoints)) == 3
    assert restored(checkpoints, tmp_path / "checkpoint") == (2, [])


def test_many_files(checkpoints: Checkpoints, tmp_path: Path) -> None:
    files = {f"file{number}": str(number % 30) for number in range(40)}
    commit(checkpoints, tmp_path, 1, **files)
    assert len(blobs(checkpoints)) == 30
    assert restored(checkpoints, tmp_path / "checkpoint") == (1, [])
    assert content(tmp_path / "checkpoint") == files


DAMAGE: dict[str, Callable[[Store, str, str], None]] = {
    "shorter": lambda store, blob, manifest: store.put(blob, b""),
    "altered": lambda store, blob, manifest: store.put(blob, b"X"),
    "gone": lambda store, blob, manifest: store.delete(blob),
    "empty manifest": lambda store, blob, manifest: store.put(manifest, b""),
    "half a manifest": lambda store, blob, manifest: store.put(manifest, (store.get(manifest) or b"")[:-20]),
    "other JSON": lambda store, blob, manifest: store.put(manifest, b"[1]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_torn_one_is_passed_over(checkpoints: Checkpoints, tmp_path: Path, damage: str) -> None:
    for resource in (1, 2):
        commit(checkpoints, tmp_path, resource, model=str(resource))
    (blob,) = (key for key in blobs(checkpoints) if checkpoints.store.get(key) == b"2")
    DAMAGE[damage](checkpoints.store, blob, f"{checkpoints.prefix}checkpoints/00000002.json")
    resource, torn = restored(checkpoints, tmp_path / "checkpoint")
    assert (resource, len(torn)) == (1, 1)
    assert torn[0].startswith("00000002.json: ")
    assert content(tmp_path / "checkpoint") == {"model": "1"}
    commit(checkpoints, tmp_path, 2, model="2")  # the training is repeated
    assert restored(checkpoints, tmp_path / "checkpoint") == (2, [])


def newest_first(report: Report) -> tuple[float, ...]:
    return (-report.resource,)


def test_pruning_keeps_the_best(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for resource in range(1, 6):
        commit(checkpoints, tmp_path, resource, head=str(resource))
        checkpoints.prune(2, lambda report: (abs(report.resource - 2),))
    kept = checkpoints.store.list(f"{checkpoints.prefix}checkpoints/")
    assert [key[-6:] for key in kept] == ["2.json", "4.json", "5.json"]
    assert checkpoints.restore_at(2, tmp_path / "best") is not None
    assert content(tmp_path / "best") == {"head": "2"}
    assert [found and found.report.resource for found in map(checkpoints.manifest_at, (2, 3))] == [2, None]
    assert checkpoints.restore_at(3, tmp_path / "gone") is None
    assert not (tmp_path / "gone").exists()


def test_pruning_keeps_the_newest_whole(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for resource in (1, 2, 3):
        commit(checkpoints, tmp_path, resource, frozen="same", head=str(resource))
        checkpoints.prune(2, newest_first)
    kept = checkpoints.store.list(f"{checkpoints.prefix}checkpoints/")
    assert [key[-6:] for key in kept] == ["2.json", "3.json"]
    assert len(blobs(checkpoints)) == 3
    assert restored(checkpoints, tmp_path / "checkpoint") == (3, [])


@dataclass
class Dying:
    """A store that dies after so many writes and deletes."""

    store: DirectoryStore
    left: int
    log: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        if name in ("put", "upload", "delete"):
            self.left -= 1
            if self.left < 0:
                raise InterruptedError
        return getattr(self.store, name)


@pytest.mark.parametrize("writes", range(8))
def test_wherever_the_agent_dies_there_is_a_whole_one(tmp_path: Path, writes: int) -> None:
    disk = DirectoryStore(tmp_path / "store")
    whole = Checkpoints(disk, "t/")
    for resource in (1, 2):
        commit(whole, tmp_path, resource, a=f"a{resource}", b=f"b{resource}")
    dying = Checkpoints(Dying(disk, writes), "t/")  # type: ignore[arg-type]
    try:
        commit(dying, tmp_path, 3, a="a3", b="b3")
        dying.prune(1, newest_first)
    except InterruptedError:
        pass
    resource, torn = restored(whole, tmp_path / "checkpoint")
    assert (resource, torn) == (3 if writes >= 3 else 2, [])
    assert content(tmp_path / "checkpoint") == {"a": f"a{resource}", "b": f"b{resource}"}


@dataclass
class Meddling:
    """A store in whose upload something else happens to the file."""

    store: DirectoryStore
    meddle: Callable[[Path], object]
    then: type[BaseException] | None

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def upload(self, key: str, source: Path) -> None:
        self.meddle(source)
        if self.then is not None:
            raise self.then
        self.store.upload(key, source)


def longer(path: Path) -> None:
    path.write_text("longer")


@pytest.mark.parametrize(
    ("meddle", "then", "seen"),
    [
        (longer, None, ContractError),
        (longer, ConnectionResetError, ContractError),  # as a client says that had announced more bytes
        (Path.unlink, None, ContractError),
        (lambda path: None, ConnectionResetError, ConnectionResetError),  # the store is away
    ],
)
def test_a_file_that_changes_while_it_is_sent_is_not_a_store_that_is_away(
    tmp_path: Path, meddle: Callable[[Path], object], then: type[OSError] | None, seen: type[Exception]
) -> None:
    disk = DirectoryStore(tmp_path / "store")
    checkpoints = Checkpoints(Meddling(disk, meddle, then), "t/")  # type: ignore[arg-type]
    with pytest.raises(seen):
        commit(checkpoints, tmp_path, 1, a="a", b="b", c="c")
    assert disk.list("t/checkpoints/") == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: None, "does not exist"),
        (lambda c: c.mkdir(), "holds no file"),
        (lambda c: (c.mkdir(), (c / "etc").symlink_to("/etc")), "'etc' in checkpoint"),
        (lambda c: (c.mkdir(), (c / "gone").symlink_to("gone")), "'gone' in checkpoint"),
        (lambda c: (c.mkdir(), os.mkfifo(c / "pipe")), "'pipe' in checkpoint"),
        (lambda c: c.symlink_to("/etc"), "is not below the trial's directory"),
        (lambda c: c.symlink_to("."), "is not below the trial's directory"),
    ],
)
def test_what_is_no_checkpoint(checkpoints: Checkpoints, tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "ckpt-1")  # type: ignore[operator]
    with pytest.raises(ContractError, match=message):
        commit(checkpoints, tmp_path, 1)
    assert checkpoints.store.list(checkpoints.prefix) == []


def test_a_link_within_is_followed(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "ckpt-1").mkdir()
    (tmp_path / "ckpt-1/last").symlink_to("model")
    commit(checkpoints, tmp_path, 1, model="1")
    checkpoints.restore(tmp_path / "checkpoint")
    assert content(tmp_path / "checkpoint") == {"model": "1", "last": "1"}
