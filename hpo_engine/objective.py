"""What is good: metrics as the user wrote them to losses that are always minimised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    maximise: bool = False


@dataclass(frozen=True, slots=True)
class Constraint:
    """`low` <= metric <= `high`."""

    metric: str
    low: float = -math.inf
    high: float = math.inf


class Score(NamedTuple):
    """Orders records, best first: feasible ones by loss, then by how far off they are, diverged ones last."""

    diverged: bool
    violation: float  # 0 when every constraint holds
    loss: float

    @property
    def feasible(self) -> bool:
        return not self.diverged and self.violation == 0


DIVERGED = Score(True, math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Objective:
    """The first of `metrics` is the objective; the others are kept and shown, not optimised.

    Infeasible records rank behind feasible ones, by their summed violation (Deb 2000, "An efficient
    constraint handling method for genetic algorithms", section 3).
    """

    metrics: tuple[Metric, ...]
    constraints: tuple[Constraint, ...] = ()

    def loss(self, metrics: Mapping[str, float]) -> float:
        first = self.metrics[0]
        value = metrics.get(first.name, math.nan)
        return -value if first.maximise else value

    def slacks(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """One value for each bound that is set; it holds when <= 0."""
        found = []
        for bound in self.constraints:
            value = metrics.get(bound.metric, math.nan)
            if bound.low != -math.inf:
                found.append(bound.low - value)
            if bound.high != math.inf:
                found.append(value - bound.high)
        return tuple(found)

    def score(self, metrics: Mapping[str, float]) -> Score:
        """Never holds nan: a metric that is nan or infinite makes the record diverged."""
        loss = self.loss(metrics)
        slacks = self.slacks(metrics) if self.constraints else ()
        if not math.isfinite(loss) or not all(map(math.isfinite, slacks)):
            return DIVERGED
        return Score(False, sum(max(0.0, slack) for slack in slacks), loss)
