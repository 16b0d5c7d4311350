"""Where to look. One searcher, one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpo_engine.history import History
from hpo_engine.types import Config, Fitted


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A configuration to try, and which part of the searcher it is from; a fallback says why."""

    config: Config
    origin: str


class Searcher(Protocol):
    """Both answers depend on the history and the generator alone, and change nothing."""

    def fit(self, history: History, rng: np.random.Generator) -> Fitted | None:
        """A model fit that is due before the next suggestion, to be journalled; None when none is."""

    def suggest(self, history: History, rng: np.random.Generator, level: int) -> Suggestion | None:
        """A configuration that was never tried, for a trial that begins at rung `level`; None: all were."""
