from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpo_engine.history import History
from hpo_engine.rungs import quota
from hpo_engine.schedulers import Place
from hpo_engine.schedulers.brackets import Brackets


@dataclass(frozen=True)
class AshaStop:
    """Every trial is ordered to the end, and stopped at the first rung where it is not in the top 1/eta.

    The stopping variant of ASHA (Klein et al. 2020, section 3.2): nothing is paused, so no checkpoint is
    needed. With fewer than eta records at the rung there is nothing to compare with, and the trial goes on.
    """

    brackets: Brackets

    def next(self, history: History, rng: np.random.Generator) -> Place:
        return Place(until=self.brackets.levels[-1], bracket=self.brackets.draw(rng))

    def judge(self, history: History, trial: int) -> str | None:
        level = history.trials[trial].resource
        entry = history.record(level, trial)
        if entry is None or level == self.brackets.levels[-1]:
            return None
        rung = history.rungs[level]
        kept, rank = quota(len(rung), self.brackets.eta), rung.rank(entry)
        if len(rung) < self.brackets.eta or rank <= kept:
            return None
        return f"rank {rank} of {len(rung)} at {level}, the best {kept} go on"
