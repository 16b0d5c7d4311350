"""One file for each study, in which the process that tunes it leaves its numbers for who serves them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.metrics.table import Labels, Samples, Timings
from flows.views.effort import EMPTY, Timing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study's numbers at one moment. `closed`: its process has let go of it in good order."""

    study: str
    time: float  # seconds since 1970
    samples: Samples
    timings: Timings = field(default_factory=dict)
    calls: Mapping[Labels, float] = field(default_factory=dict)
    pid: int = 0
    born: str = ""  # tells the process from a later one with the same number
    closed: bool = False

    @property
    def alive(self) -> bool:
        return not self.closed and self.born != "" and birth(self.pid) == self.born


def write(folder: Path, snapshot: Snapshot) -> None:
    """Whole or not at all. OSError: not at all."""
    document = asdict(snapshot) | {
        "samples": {name: _pairs(values) for name, values in snapshot.samples.items()},
        "calls": _pairs(snapshot.calls),
    }
    target = file_of(folder, snapshot.study)
    partial = target.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(document))
    partial.replace(target)


def read(path: Path) -> Snapshot | None:
    """None: there is none, or an older version wrote it."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        samples = {name: _values(pairs) for name, pairs in document.pop("samples").items()}
        timings = {name: _timing(found) for name, found in document.pop("timings").items()}
        return Snapshot(samples=samples, timings=timings, calls=_values(document.pop("calls")), **document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def snapshots(folder: Path, kept: int) -> list[Snapshot]:
    """The newest ones first; files beyond `kept` are removed, unless their study is being tuned."""
    found = [snapshot for path in folder.glob("*.json") if (snapshot := read(path)) is not None]
    found.sort(key=lambda snapshot: (snapshot.alive, snapshot.time), reverse=True)
    for old in found[kept:]:
        if not old.alive:
            with suppress(OSError):
                file_of(folder, old.study).unlink()
    return [snapshot for at, snapshot in enumerate(found) if at < kept or snapshot.alive]


def file_of(folder: Path, study: str) -> Path:
    return folder / f"{quote(study, safe='')}.json"


def birth(pid: int) -> str:
    """When a process began, in the words of its system; "" if it has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else rest[18]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except OSError:  # it ended while we looked
        return ""
    return _exists(pid)


def _exists(pid: int) -> str:
    """Where there is no /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "alive"


def _pairs(values: Mapping[Labels, float]) -> list[list[object]]:
    return [[list(labels), value] for labels, value in values.items()]


def _values(pairs: list[tuple[list[str], float]]) -> dict[Labels, float]:
    return {tuple(labels): float(value) for labels, value in pairs}


def _timing(found: Mapping[str, Any]) -> Timing:
    counts = tuple(map(int, found["counts"]))
    return Timing(counts, float(found["seconds"])) if len(counts) == len(EMPTY) else Timing()
