"""A trial's checkpoints in the store: content-addressed files first, then the manifest that makes them one.

`<trial>/blobs/<sha256>` holds a file's bytes, `<trial>/checkpoints/<resource>.json` names the files of one
checkpoint with their sizes and hashes. A checkpoint without manifest does not exist.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from hpo_engine.types import Report
from operators.codec import CodecError, decode_event, dumps, encode_event
from operators.store import Store, StoreError
from operators.trial_dir import ContractError

AT_ONCE = 8  # files on their way

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class File:
    path: str  # below the checkpoint directory, with '/'
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint, with the report that it belongs to: if that was never sent, the next attempt sends it."""

    report: Report
    files: tuple[File, ...]


@dataclass
class Checkpoints:
    """The checkpoints of one trial, below the store prefix `<study>/trials/<trial>/`."""

    store: Store
    prefix: str

    def commit(self, report: Report, root: Path, source: Path) -> None:
        """Upload `source`, a directory or a file below `root`; on return it can be restored from.

        ContractError if it is missing, empty, changing, or leads out of `root`.
        """
        there = {key.rpartition("/")[2] for key in self.store.list(f"{self.prefix}blobs/")}
        found = _each(_look, files_of(root, source))
        missing = {seen.file.sha256: seen for seen in found if seen.file.sha256 not in there}
        _each(self._upload, list(missing.values()))
        for seen in found:
            seen.check()
        files = [seen.file for seen in found]
        document = {
            "resource": report.resource,
            "attempt": report.attempt,
            "files": [asdict(file) for file in files],
            "report": encode_event(report),
        }
        self.store.put(self._manifest_key(report.resource), dumps(document))

    def restore(self, target: Path) -> tuple[Manifest | None, list[str]]:
        """Make `target` the newest checkpoint whose every file is whole; also say which ones were not.

        None, and no `target`, if there is none.
        """
        torn: list[str] = []
        for key in reversed(self.store.list(f"{self.prefix}checkpoints/")):
            try:
                return self._restore(key, target), torn
            except _TornError as error:
                torn.append(f"{key.rpartition('/')[2]}: {error}")
        return None, torn

    def restore_at(self, resource: int, target: Path) -> Manifest | None:
        """Make `target` the checkpoint of a resource; None, and no `target`, if there is no whole one."""
        try:
            return self._restore(self._manifest_key(resource), target)
        except _TornError:
            return None

    def _restore(self, key: str, target: Path) -> Manifest:
        shutil.rmtree(target, ignore_errors=True)
        manifest = _decode(self.store.get(key))
        target.mkdir(parents=True)
        try:
            _each(lambda file: self._download(file, target), manifest.files)
        except _TornError:
            shutil.rmtree(target)
            raise
        return manifest

    def newest(self) -> Manifest | None:
        """The newest manifest that can be read; its files are not looked at."""
        keys = reversed(self.store.list(f"{self.prefix}checkpoints/"))
        return next((manifest for key in keys if (manifest := self._read(key)) is not None), None)

    def manifest_at(self, resource: int) -> Manifest | None:
        """The manifest of a resource, if it can be read; its files are not looked at."""
        return self._read(self._manifest_key(resource))

    def prune(self, keep: int, rank: Callable[[Report], tuple[float, ...]]) -> None:
        """Forget all but the `keep` newest and the one whose report ranks first.

        Manifests go before blobs, so that none is torn by a crash here.
        """
        keys = self.store.list(f"{self.prefix}checkpoints/")
        if len(keys) <= keep:
            return
        manifests = {key: manifest for key in keys if (manifest := self._read(key)) is not None}
        kept = {*keys[-keep:], min(manifests, key=lambda key: rank(manifests[key].report), default="")}
        _each(self.store.delete, [key for key in keys if key not in kept])
        needed = {file.sha256 for key in kept & manifests.keys() for file in manifests[key].files}
        blobs = self.store.list(f"{self.prefix}blobs/")
        _each(self.store.delete, [key for key in blobs if key.rpartition("/")[2] not in needed])

    def _read(self, key: str) -> Manifest | None:
        try:
            return _decode(self.store.get(key))
        except _TornError:
            return None

    def _manifest_key(self, resource: int) -> str:
        return f"{self.prefix}checkpoints/{resource:08d}.json"

    def _blob_key(self, sha256: str) -> str:
        return f"{self.prefix}blobs/{sha256}"

    def _upload(self, seen: _Seen) -> None:
        try:
            self.store.upload(self._blob_key(seen.file.sha256), seen.path)
        except OSError:
            seen.check()  # a file that was cut short or removed meanwhile looks like a store that is away
            raise

    def _download(self, file: File, target: Path) -> None:
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.store.download(self._blob_key(file.sha256), path)
        except KeyError:
            raise _TornError(f"{file.path} is missing") from None
        if path.stat().st_size != file.size or _hash(path) != file.sha256:
            # The key must become free, or the same bytes would never be uploaded again.
            with contextlib.suppress(StoreError):  # another trial's is not ours to free
                self.store.delete(self._blob_key(file.sha256))
            raise _TornError(f"{file.path} is not what was committed")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was when it was hashed."""

    path: Path
    file: File
    time: int  # of its last change, in ns

    def check(self) -> None:
        """ContractError: what is uploaded need not be what was hashed."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            now = None
        if now is None or (now.st_size, now.st_mtime_ns) != (self.file.size, self.time):
            name = self.file.path
            raise ContractError(f"{name} changed after it was reported: report finished checkpoints only")


def _look(named: tuple[str, Path]) -> _Seen:
    name, path = named
    try:
        before = path.stat()
        return _Seen(path, File(name, before.st_size, _hash(path)), before.st_mtime_ns)
    except OSError as error:
        raise ContractError(f"{name} cannot be read: {error.strerror}") from None


def _each(do: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """The results in order; some at once. Of errors the first in order is raised, once all have ended."""
    if len(items) < 2:
        return [do(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor  # 9 ms that an agent of small checkpoints does without

    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(do, items))


class _TornError(Exception):
    """This checkpoint cannot be restored."""


def _decode(data: bytes | None) -> Manifest:
    try:
        values = json.loads(data or b"")
        files = tuple(File(file["path"], file["size"], file["sha256"]) for file in values["files"])
        report = decode_event(values["report"])
    except (ValueError, KeyError, TypeError, AttributeError, CodecError):
        raise _TornError("the manifest cannot be read") from None
    if not isinstance(report, Report):
        raise _TornError("the manifest holds no report")
    return Manifest(report, files)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve it takes links that go in a circle


def files_of(root: Path, source: Path) -> list[tuple[str, Path]]:
    """(name, path) of each file of a checkpoint, sorted. A link may point only to a file within it.

    ContractError: it is missing, empty, or leads out of `root`.
    """
    top, base = _real(root), _real(source)
    if not base.is_relative_to(top) or base == top:
        raise ContractError(f"checkpoint {str(source)!r} is not below the trial's directory")
    if base.is_file():
        return [(source.name, base)]
    if not base.is_dir():
        raise ContractError(f"checkpoint {source.name!r} does not exist")
    found = []
    for folder, folders, names in os.walk(base):
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in names + linked):
            name = path.relative_to(base).as_posix()
            if not _real(path).is_relative_to(base) or not path.is_file():
                raise ContractError(f"{name!r} in checkpoint {source.name!r} is no file of that directory")
            found.append((name, path))
    if not found:
        raise ContractError(f"checkpoint {source.name!r} holds no file")
    return sorted(found)
