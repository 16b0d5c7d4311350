"""A study on a virtual clock: the real engine, over recorded training curves.

Only the clock, the workers and the training are imitated. The engine is the one that tunes for real, and the
journal that comes out is a real journal: folding its events gives the history that the engine ended with.

    controller                        worker                                     option
    ask                                                                          `decision`
    AttemptStarted             -----> process starts, restores its checkpoint    `start_up`, `restore`
    Report, folded in a pass   <----- a unit is trained, a checkpoint saved      `save`, `notice`, faults
    Stop                       -----> read between two units                     `stop`
    AttemptEnded: a free slot  <----- the process ends, behind all its reports   `notice`, faults
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpo_engine.engine import Limits
from hpo_engine.history import History
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Config,
    Event,
    Finished,
    Fitted,
    Opened,
    Resume,
    Start,
    Status,
    Stop,
    Wait,
)
from hpo_engine.virtual_workers import HOUR, Clock, Costs, Curve, Faults, Workers

__all__ = ["HOUR", "Asked", "Budget", "Costs", "Curve", "Faults", "Simulation", "simulate"]


class Asked(Protocol):
    """What is asked and told: an Engine, or one that a test has wrapped."""

    @property
    def history(self) -> History: ...
    @property
    def limits(self) -> Limits: ...
    def ask(self) -> Start | Resume | Fitted | Wait: ...
    def tell(self, event: Event) -> tuple[Event, ...]: ...


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the study ends. The number of trials is the engine's own limit."""

    seconds: float = math.inf
    units: float = math.inf  # of the resource, those that an attempt had to repeat included


@dataclass(frozen=True, slots=True)
class Simulation:
    journal: list[tuple[float, Event]]  # (virtual second, event)
    incumbents: list[tuple[float, float]]  # (virtual second, loss) whenever a report was the best so far


def simulate(
    engine: Asked,
    curves: Callable[[Config], Curve],
    *,
    workers: int,
    costs: Costs = Costs(),  # noqa: B008  frozen
    faults: Faults = Faults(),  # noqa: B008  frozen
    budget: Budget = Budget(),
    seed: int = 0,
    study: Mapping[str, object] | None = None,
) -> Simulation:
    """Run a study to the end of its budget. `seed` is that of the faults; `study` goes into its first event.

    ValueError when nothing would ever end it: set a budget here, or the engine's `limits.trials`.
    """
    if engine.limits.trials is None and math.isinf(min(budget.seconds, budget.units)):
        raise ValueError("the study would never end: give it a budget of seconds, units or trials")
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    clock = Clock()
    metric = engine.history.objective.metrics[0].name
    pool = Workers(clock, curves, metric, costs, faults, np.random.default_rng(seed))
    return _Controller(engine, pool, clock, workers, costs.decision, budget).run(Opened(study or {}))


class _Controller:
    """Fold what has arrived, ask for each free worker, apply: the loop of a real study."""

    def __init__(
        self, engine: Asked, pool: Workers, clock: Clock, workers: int, decision: float, budget: Budget
    ) -> None:
        self.engine, self.pool, self.clock = engine, pool, clock
        self.workers, self.decision, self.budget = workers, decision, budget
        self.second = 0.0  # in which its newest event falls: ahead of the clock while it decides
        self.due: list[int] = []  # trials that run but have no attempt that does
        self.simulation = Simulation([], [])
        self.finished = False

    def run(self, opened: Opened) -> Simulation:
        self._tell(opened)
        self._decide()
        while not self.finished and self.clock.move(self.budget.seconds):
            if self.pool.inbox:
                self._pass()
        if not self.finished:
            self.second = max(self.second, self.budget.seconds)
            self._finish("the budget of time is used up")
        return self.simulation

    def _pass(self) -> None:
        if self.clock.now < self.second:
            self.clock.plan(self.second, _look)
            return
        self.second = self.clock.now
        arrived, self.pool.inbox = self.pool.inbox, []
        for event in arrived:
            self._tell(event)
        if self.engine.history.units >= self.budget.units:
            self._finish("the budget of resource units is used up")
        else:
            self._decide()

    def _decide(self) -> None:
        """A slot is taken from its trial's order until the end of the attempt has been noticed."""
        while len(self.engine.history.live) + len(self.due) < self.workers and self._in_time:
            decision = self.engine.ask()
            if isinstance(decision, Wait):
                if not self.engine.history.live and not self.due:
                    self._finish(decision.reason)
                break
            if isinstance(decision, Start | Resume):
                self.second += self.decision
            self._tell(decision)
        due, self.due = self.due, []
        for trial in due:
            self._tell(AttemptStarted(trial, self.engine.history.trials[trial].attempt + 1))

    @property
    def _in_time(self) -> bool:
        return self.second + self.decision <= self.budget.seconds

    def _tell(self, event: Event) -> None:
        before = self.engine.history.incumbent
        for true in self.engine.tell(event):
            self.simulation.journal.append((self.second, true))
            self._apply(true)
        best = self.engine.history.incumbent
        if best is not None and best != before:
            self.simulation.incumbents.append((self.second, best.score.loss))

    def _apply(self, event: Event) -> None:
        match event:
            case Start() | Resume() | AttemptEnded():
                trial = self.engine.history.trials[event.trial]
                # Promoted before its last process was seen to end: that end will bring it here again.
                if trial.status is Status.RUNNING and not trial.live:
                    self.due.append(trial.id)
            case AttemptStarted():
                self.pool.launch(self.engine.history.trials[event.trial], self.second)
            case Stop() if event.trial in self.engine.history.live:
                self.pool.stop(event.trial, self.second)

    def _finish(self, reason: str) -> None:
        self.finished = True
        for trial in list(self.engine.history.live):
            self._tell(self.pool.interrupted(trial, self.second))
        self._tell(Finished(reason))


def _look(_: None) -> None:
    """Wakes the controller: it looks into its inbox after every action."""
