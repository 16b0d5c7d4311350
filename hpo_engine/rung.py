"""Records. One rung: who reported at its level, best first, and who of them may still be promoted."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import NamedTuple

from hpo_engine.objective import Score
from hpo_engine.types import Report


@dataclass(frozen=True, slots=True)
class Observation:
    """A rung record: what the models learn from."""

    trial: int
    level: int
    loss: float  # minimised; inf when diverged
    constraints: tuple[float, ...] = ()  # each holds when <= 0


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The best feasible report of the study, at whatever resource."""

    report: Report
    score: Score


class Entry(NamedTuple):
    """Sorts by score; ties by trial id."""

    score: Score
    trial: int


class Rung:
    """Insertion, rank and the best candidate in O(log n): a study may have 10,000 trials on a rung."""

    __slots__ = ("_candidates", "entries", "kept")

    def __init__(self) -> None:
        self.entries: list[Entry] = []  # every record, best first
        self._candidates: list[Entry] = []  # those that wait here and are not diverged, best first
        self.kept = 0  # records whose trial went on from here

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        insort(self.entries, entry)

    def rank(self, entry: Entry) -> int:
        """1 for the best."""
        return bisect_left(self.entries, entry) + 1

    def wait(self, entry: Entry) -> None:
        insort(self._candidates, entry)

    def leave(self, entry: Entry) -> None:
        """Its trial waits here no more: it was promoted, or has ended."""
        at = bisect_left(self._candidates, entry)
        if self._candidates[at : at + 1] == [entry]:
            del self._candidates[at]

    @property
    def candidate(self) -> Entry | None:
        """The best of those that may be promoted: if its rank does not suffice, nobody's does."""
        return self._candidates[0] if self._candidates else None
