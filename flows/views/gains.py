"""The best report so far, over time."""

from __future__ import annotations

from flows.views.view import Gain
from hpo_engine.objective import Objective, Score
from hpo_engine.types import Event, Report


class Gains:
    """A fold of the events: each report that became the incumbent, by the rule of the history."""

    def __init__(self, objective: Objective) -> None:
        self.found: list[Gain] = []
        self.seconds = 0.0  # from the first event to the last
        self._objective = objective
        self._best: Score | None = None
        self._began: float | None = None

    def saw(self, event: Event, at: float) -> None:
        if self._began is None:
            self._began = at
        self.seconds = at - self._began
        if not isinstance(event, Report):
            return
        score = self._objective.score(event.metrics)
        if score.feasible and (self._best is None or score < self._best):
            value = event.metrics[self._objective.metrics[0].name]
            self._best = score
            self.found.append(Gain(self.seconds, event.trial, event.resource, value))
