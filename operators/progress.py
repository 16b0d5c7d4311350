"""How far an attempt is: what the next agent must know if this one is killed beside its training code."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from operators.attempt import Order


@dataclass
class Progress:
    """Times in seconds of the machine's monotonic clock, which its processes share."""

    began: float
    order: Order
    start: int = 0  # resource of the checkpoint that it resumes from
    lines: int = 0  # of metrics.jsonl that are committed
    seconds: float | None = None  # in the report of the next one, once begun: a second try tells the same
    fulfilled_at: int = -1  # what it had reached when it had last done as ordered
    stopped_at: int | None = None  # what it had reached when `stop` came
    torn: list[str] = field(default_factory=list)  # checkpoints that could not be restored


def write_progress(path: Path, progress: Progress) -> None:
    """Replaced as a whole. Not synced: it is of no use once the machine is down."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(asdict(progress)))
    os.replace(temporary, path)


def read_progress(path: Path) -> Progress:
    values = json.loads(path.read_text())
    return Progress(**{**values, "order": Order(**values["order"])})
