"""Where a study lives: keys to bytes. The one interface behind a directory and object storage."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpo_engine.types import AbohbError


class StoreError(AbohbError):
    """The store cannot be used as it is."""


class Store(Protocol):
    """Keys are '/'-separated, e.g. `digits/journal/00000012.json`. Every write is durable on return."""

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


@dataclass(frozen=True)
class DirectoryStore:
    """A directory as store: a key is a path below `root`. Atomic by rename and link, durable by fsync."""

    root: Path

    def _path(self, key: str) -> Path:
        if not key or key.startswith("/") or ".." in key.split("/"):
            raise StoreError(f"{key!r} is no key: keys are relative paths without '..'")
        return self.root / key

    def get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def put(self, key: str, data: bytes) -> None:
        temporary = self._write(key, data)
        os.replace(temporary, self._path(key))
        _sync(self._path(key).parent)

    def put_once(self, key: str, data: bytes) -> bool:
        temporary = self._write(key, data)
        try:
            os.link(temporary, self._path(key))  # unlike rename, link refuses a name that is taken
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync(self._path(key).parent)
        return True

    def list(self, prefix: str) -> list[str]:
        top = self._path(prefix.rstrip("/")) if prefix.rstrip("/") else self.root
        return sorted(
            os.path.relpath(os.path.join(folder, name), self.root)
            for folder, _, names in os.walk(top)
            for name in names
            if not name.startswith(_TEMPORARY)
        )

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._path(key).unlink()

    def upload(self, key: str, source: Path) -> None:
        temporary = self._temporary(key)
        shutil.copyfile(source, temporary)
        _sync(temporary)
        os.replace(temporary, self._path(key))
        _sync(self._path(key).parent)

    def download(self, key: str, target: Path) -> None:
        try:
            shutil.copyfile(self._path(key), target)
        except FileNotFoundError:
            raise KeyError(key) from None

    def _write(self, key: str, data: bytes) -> Path:
        temporary = self._temporary(key)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary

    def _temporary(self, key: str) -> Path:
        folder = self._path(key).parent
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _sync(folder.parent)
        return folder / f"{_TEMPORARY}{secrets.token_hex(8)}"


_TEMPORARY = ".tmp-"  # never listed: what a crash leaves behind is not seen


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
