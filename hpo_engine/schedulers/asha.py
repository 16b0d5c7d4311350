from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hpo_engine.history import History
from hpo_engine.rungs import quota
from hpo_engine.schedulers import Place
from hpo_engine.schedulers.brackets import Brackets
from hpo_engine.types import Resume


@dataclass(frozen=True)
class Asha:
    """Promote whoever is in the top 1/eta of a rung, the highest rung first; else begin a new trial.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2. A trial pauses at
    each rung; it is promoted when its rank among all records of the rung is at most floor(n/eta).
    """

    brackets: Brackets

    def next(self, history: History, rng: np.random.Generator) -> Resume | Place:
        levels = self.brackets.levels
        for low, high in reversed([*pairwise(levels)]):
            rung = history.rungs[low]
            best = rung.candidate
            if best is not None and rung.rank(best) <= quota(len(rung), self.brackets.eta):
                return Resume(best.trial, until=high)
        bracket = self.brackets.draw(rng)
        return Place(until=levels[bracket], bracket=bracket)

    def judge(self, history: History, trial: int) -> None:
        return None  # it pauses by itself at `until`
