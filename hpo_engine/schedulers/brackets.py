from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpo_engine.rungs import bracket_weights


@dataclass(frozen=True)
class Brackets:
    """How many brackets of Hyperband are used, and which one a trial joins (Klein et al. 2020, section 4).

    Brackets share the rungs: a trial is compared with all that were judged at a level, whichever bracket
    they began in, and is judged at no level below the first rung of its own.
    """

    levels: tuple[int, ...]
    eta: int
    count: int = 1

    def __post_init__(self) -> None:
        bracket_weights(len(self.levels), self.count, self.eta)  # refuses an impossible count here, not later

    def draw(self, rng: np.random.Generator) -> int:
        weights = bracket_weights(len(self.levels), self.count, self.eta)
        return int(rng.choice(self.count, p=weights))
