"""The directory through which an agent and the training code talk (docs/trial-contract.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo_engine.types import AbohbError
from operators.attempt import AttemptSpec, Order

CHECKPOINT = "checkpoint"  # what to resume from
METRICS = "metrics.jsonl"


class ContractError(AbohbError):
    """The training code broke the trial contract; the message says how, and in which line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of metrics.jsonl: the metrics after `resource` units."""

    resource: int
    metrics: Mapping[str, float]
    checkpoint: str | None = None  # name of a finished checkpoint, as the trial wrote it


def write_config(folder: Path, spec: AttemptSpec, start: int) -> None:
    """`config.json`: what the training code has to know; it does not change during an attempt."""
    _write(
        folder / "config.json",
        {
            "study": spec.study,
            "trial": spec.trial,
            "attempt": spec.attempt,
            "hyperparameters": dict(spec.config),
            "resource": spec.resource,
            "from": start,
        },
    )


def write_order(folder: Path, order: Order) -> None:
    """`order.json`: replaced as a whole, so that a reader sees the old one or the new one."""
    _write(folder / "order.json", {"until": order.until, "stop": order.stop})


def _write(path: Path, value: object) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(value) + "\n")
    os.replace(temporary, path)


@dataclass
class Tail:
    """Reads a growing file by whole lines: what follows the last newline is left for the next read."""

    path: Path
    partial: bytes = b""
    _read: int = 0

    def lines(self) -> list[bytes]:
        """The lines that were completed since the last call; none if the file is not there yet.

        ContractError if it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:  # never mistaken for a store that is away
            raise ContractError(f"the file cannot be read: {error.strerror}") from None
        self._read += len(new)
        *whole, self.partial = (self.partial + new).split(b"\n")
        return whole


@dataclass
class Metrics:
    """The lines of metrics.jsonl, checked: consecutive, readable, and with every metric that is asked for."""

    spec: AttemptSpec
    tail: Tail
    last: int  # the resource that the lines have reached
    number: int = 0  # how many were read, a bad one included
    _checkpoints: set[str] = field(default_factory=set)
    _waiting: list[bytes] = field(default_factory=list)

    def next(self) -> Line | None:
        """The next line, None if it is not written yet. ContractError if it breaks the contract."""
        self._waiting = self._waiting or self.tail.lines()
        if not self._waiting:
            return None
        self.number += 1
        line = parse(self._waiting.pop(0), self.spec, self.last + 1)
        if line.checkpoint in self._checkpoints:
            raise ContractError(f"checkpoint {line.checkpoint!r} again: give each a new name")
        self.last = line.resource
        if line.checkpoint is not None:
            self._checkpoints.add(line.checkpoint)
        return line

    def skip(self, count: int) -> None:
        """Pass over lines that were read before. ContractError if they are not there any more."""
        for _ in range(count):
            if self.next() is None:
                raise ContractError("lines that were there are gone: append, and change nothing above")


def parse(raw: bytes, spec: AttemptSpec, expected: int) -> Line:
    """A line as its words mean it; ContractError if it cannot be the one for `expected` units."""
    try:
        values = json.loads(raw)
    except ValueError:
        raise ContractError(f"this is no JSON: {raw[:80].decode(errors='replace')}") from None
    if not isinstance(values, dict):
        raise ContractError(f"a JSON object is expected, not {raw[:80].decode(errors='replace')}")
    resource = values.pop(spec.resource, expected)
    if resource != expected or isinstance(resource, bool):
        raise ContractError(
            f"{spec.resource} {json.dumps(resource)} where {expected} is next: one line for each "
            f"{spec.resource}, from `from` + 1 on"
        )
    checkpoint = values.pop("checkpoint", None)
    if not isinstance(checkpoint, str | None):
        raise ContractError(f"checkpoint {json.dumps(checkpoint)}: give the name of a directory or file")
    numbers = {name: _number(value) for name, value in values.items()}
    metrics = {name: number for name, number in numbers.items() if number is not None}
    for name in spec.metrics:
        if name not in metrics:
            raise ContractError(_missing(name, values))
    return Line(expected, metrics, checkpoint or None)


def _number(value: object) -> float | None:
    """Numbers, and the words that stand for those that JSON lacks ("NaN", "-Infinity"); else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value.lstrip("+-").lower() not in ("nan", "inf", "infinity"):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond the floats
        return float("inf") if str(value)[0] != "-" else float("-inf")


def _missing(name: str, values: Mapping[str, object]) -> str:
    if name in values:
        return f"{name} is {json.dumps(values[name])[:80]}, not a number"
    import difflib  # here, not above: an agent starts faster without it

    near = difflib.get_close_matches(name, list(values), n=1, cutoff=0.4)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return f"no metric {name!r} among {', '.join(sorted(values)) or 'none'}{hint}"
