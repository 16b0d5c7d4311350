"""What to do next, and whether a trial goes on. One scheduler, one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpo_engine.history import History
from hpo_engine.types import Resume, Wait


@dataclass(frozen=True, slots=True)
class Place:
    """Room for a new trial: run it until `until`, the first rung that it is judged at is the bracket-th."""

    until: int
    bracket: int = 0


class Scheduler(Protocol):
    def next(self, history: History, rng: np.random.Generator) -> Resume | Place | Wait:
        """Work for a free worker: promote a trial, or make room for a new one. Changes nothing."""

    def judge(self, history: History, trial: int) -> str | None:
        """Why a running trial should stop, given its newest report, which is in `history`; None: it goes on.

        Asked once for each report: judged again on later passes it would be another, harsher algorithm.
        """
