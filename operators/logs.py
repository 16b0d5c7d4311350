"""What a trial prints: kept in the store, and quoted in its verdict."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from operators.store import Store
from operators.verdict import QUOTED

HEAD, TAIL = 256 << 10, 4 << 20  # bytes kept of a longer output


@dataclass
class KeptLog:
    """A growing file and its copy in the store: whole, or the beginning and the end of it."""

    store: Store
    key: str
    path: Path
    _kept: int = field(default=0, init=False)  # size of the file at the last copy

    def keep(self) -> None:
        """Bring the copy up to date; an output that is empty gets none."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._kept:
            self.store.put(self.key, bounded_file(self.path))
            self._kept = size


def bounded_file(path: Path, head: int = HEAD, tail: int = TAIL) -> bytes:
    """A file's bytes; of a long one `head` from its beginning, a note, and `tail` from its end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= head + tail:
            return file.read()
        first = file.read(head)
        file.seek(-tail, os.SEEK_END)
        return _joined(first, size, file.read(tail))


def bounded(data: bytes, head: int = HEAD, tail: int = TAIL) -> bytes:
    """As `bounded_file`, of bytes."""
    return data if len(data) <= head + tail else _joined(data[:head], len(data), data[-tail:])


def _joined(first: bytes, size: int, last: bytes) -> bytes:
    left_out = size - len(first) - len(last)
    return first + f"\n[... {left_out} bytes left out ...]\n".encode() + last


def last_lines(path: Path, count: int = 10) -> str:
    """The last non-empty lines of a file, at most `QUOTED` characters; "" if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4 * QUOTED))
            return last_lines_in(file.read(), count)
    except FileNotFoundError:
        return ""


def last_lines_in(data: bytes, count: int = 10) -> str:
    """As `last_lines`, of bytes."""
    text = data[-4 * QUOTED :].decode(errors="replace")
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])[-QUOTED:]
