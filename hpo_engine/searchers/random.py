from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from hpo_engine.history import History
from hpo_engine.searchers import Suggestion
from hpo_engine.space import SearchSpace
from hpo_engine.types import Config, Fitted, Trial

DRAWS = (1, 10, 100, 1000)  # until one is new; in a space without end, one always is by then


@dataclass(frozen=True)
class Random:
    """Uniform in the unit cube, never the same configuration twice."""

    space: SearchSpace
    _tried: Tried = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tried", Tried(self.space))

    def fit(self, history: History, rng: np.random.Generator) -> Fitted | None:
        return None

    def suggest(self, history: History, rng: np.random.Generator, level: int) -> Suggestion | None:
        config = self.draw(history, rng)
        return None if config is None else Suggestion(config, "random")

    def draw(self, history: History, rng: np.random.Generator) -> Config | None:
        """A configuration that was never tried; None when there is none."""
        tried = self.tried(history)
        for count in DRAWS:
            for config in self.space.sample(count, rng):
                if self.space.key(config) not in tried:
                    return config
        if self.space.size is None:
            return None
        rest = [config for config in self.space.points() if self.space.key(config) not in tried]
        return rest[int(rng.integers(len(rest)))] if rest else None

    def tried(self, history: History) -> set[Hashable]:
        """The keys of all trials' configurations."""
        return self._tried.keys(history.trials)


class Tried:
    """The keys of all trials' configurations, read once: a study may have 10,000 trials and ask for more.

    A memo, not state: it starts again when it is asked about another study.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._trials: list[Trial] | None = None
        self._read = 0
        self._keys: set[Hashable] = set()

    def keys(self, trials: list[Trial]) -> set[Hashable]:
        if trials is not self._trials:
            self._trials, self._read, self._keys = trials, 0, set()
        self._keys.update(self._space.key(trial.config) for trial in trials[self._read :])
        self._read = len(trials)
        return self._keys
