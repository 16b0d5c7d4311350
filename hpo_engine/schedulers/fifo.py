from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpo_engine.history import History
from hpo_engine.schedulers import Place


@dataclass(frozen=True)
class Fifo:
    """Every trial runs to the largest resource."""

    levels: tuple[int, ...]

    def next(self, history: History, rng: np.random.Generator) -> Place:
        return Place(until=self.levels[-1], bracket=len(self.levels) - 1)

    def judge(self, history: History, trial: int) -> None:
        return None
