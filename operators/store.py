"""Where a study lives: keys to bytes. The one interface behind a directory and object storage."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpo_engine.types import AbohbError

REFUSALS = 60.0  # seconds for which it may refuse us: keys that are renewed, a store that just begins


class StoreError(AbohbError):
    """The store cannot be used as it is."""


class Store(Protocol):
    """Keys are '/'-separated, e.g. `digits/journal/00000012.json`. Every write is durable on return.

    OSError: the store is away. Whether a write went through is then unknown; try again.
    """

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`; None if there are none."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace; a reader sees the old bytes or the new ones, never a part."""

    def put_once(self, key: str, data: bytes) -> bool:
        """Write if the key is free; False if it is taken. Of two writers, one gets True."""

    def list(self, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, sorted. A prefix ends in '/'."""

    def delete(self, key: str) -> None:
        """Already gone is success."""

    def upload(self, key: str, source: Path) -> None:
        """Write a file's bytes under `key`, as `put` does, without holding them in memory."""

    def download(self, key: str, target: Path) -> None:
        """Write the bytes under `key` to a file. KeyError if there are none."""


def check_key(key: str) -> None:
    """StoreError if it is none."""
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise StoreError(f"{key!r} is no key: names with '/' between them, none of them '.' or '..'")


@dataclass(frozen=True)
class DirectoryStore:
    """A directory as store: a key is a path below `root`. Atomic by rename and link, durable by fsync."""

    root: Path

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.root / key

    def get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def put(self, key: str, data: bytes) -> None:
        with self._written(key, data) as temporary:
            os.replace(temporary, self._path(key))
        _sync(self._path(key).parent)

    def put_once(self, key: str, data: bytes) -> bool:
        first = True
        with self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))  # unlike rename, link refuses a name that is taken
            except FileExistsError:
                first = False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                    raise
                raise StoreError(f"{self.root} cannot be a store, it has no hard links ({error})") from error
        _sync(self._path(key).parent)  # not first: what is there may be ours, and its sync have failed
        return first

    def list(self, prefix: str) -> list[str]:
        top = self._path(prefix.rstrip("/")) if prefix.rstrip("/") else self.root
        return sorted(
            os.path.relpath(os.path.join(folder, name), self.root)
            for folder, _, names in os.walk(top)
            for name in names
            if not name.startswith(_TEMPORARY)
        )

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._path(key).unlink()

    def upload(self, key: str, source: Path) -> None:
        with self._temporary(key) as temporary:
            shutil.copyfile(source, temporary)
            _sync(temporary)
            os.replace(temporary, self._path(key))
        _sync(self._path(key).parent)

    def download(self, key: str, target: Path) -> None:
        try:
            shutil.copyfile(self._path(key), target)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(key) from None

    def sweep(self, prefix: str, older: float) -> None:
        """Remove what writers that were killed have left below `prefix`, if untouched for `older` seconds."""
        now = time.time()
        for folder, _, names in os.walk(self._path(prefix.rstrip("/"))):
            for left in (Path(folder, name) for name in names if name.startswith(_TEMPORARY)):
                with contextlib.suppress(FileNotFoundError):
                    if now - left.stat().st_mtime > older:
                        left.unlink()

    @contextlib.contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        with self._temporary(key) as temporary:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary

    @contextlib.contextmanager
    def _temporary(self, key: str) -> Iterator[Path]:
        """A free name in the key's directory; nothing is left of it, whatever goes wrong."""
        folder = self._path(key).parent
        _make(folder)
        temporary = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


_TEMPORARY = ".tmp-"  # never listed: what a crash leaves behind is not seen


def _make(folder: Path) -> None:
    """The directory and those above it, each durable: a synced file in a lost directory is lost."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
