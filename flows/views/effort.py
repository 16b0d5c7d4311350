"""What a controller's own work costs: how long its passes and decisions take, and its calls of Kubernetes."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

T = TypeVar("T")
ApiCalls: TypeAlias = Mapping[tuple[str, int], int]  # (verb, HTTP status) -> calls; status 0: no answer came

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
EMPTY = (0,) * (len(BOUNDS) + 1)


@dataclass(frozen=True, slots=True)
class Timing:
    """How often something took how long."""

    counts: tuple[int, ...] = EMPTY  # up to each bound and above the one before; the last: longer than all
    seconds: float = 0.0  # in all

    def add(self, seconds: float) -> Timing:
        at = bisect_left(BOUNDS, seconds)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return Timing(counts, self.seconds + seconds)

    def of(self, call: Callable[[], T]) -> tuple[T, Timing]:
        """What a call returns, and this with it counted."""
        began = time.perf_counter()
        result = call()
        return result, self.add(time.perf_counter() - began)

    def plus(self, other: Timing) -> Timing:
        counts = tuple(one + more for one, more in zip(self.counts, other.counts, strict=True))
        return Timing(counts, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class Effort:
    """Since the controller began."""

    deciding: Timing = Timing()  # the engine's answers for one free worker, model fits included
    passing: Timing = Timing()  # whole passes: look, decide, write the journal, act
    calls: ApiCalls = field(default_factory=dict)


NO_EFFORT = Effort()
