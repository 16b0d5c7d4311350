"""Workers on a virtual clock: processes that train by recorded curves, what that costs, what goes wrong.

Whatever they tell comes out of `Workers.inbox`, as a real controller finds it in its store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from hpo_engine.types import AttemptEnded, Config, Event, Outcome, Report, Trial

HOUR = 3600.0


class Curve(NamedTuple):
    """What was recorded of one configuration after 1, 2, ... units of the resource."""

    losses: Sequence[float]  # as the user's metric; nan means diverged
    seconds: Sequence[float]  # training time, cumulative


@dataclass(frozen=True, slots=True)
class Costs:
    """Virtual seconds that are not training."""

    start_up: float = 0.0  # from the order to the first unit of training, for each attempt
    save: float = 0.0  # training waits while a checkpoint is saved
    restore: float = 0.0  # more start-up, for an attempt that has a checkpoint to resume from
    decision: float = 0.0  # the controller makes one decision after the other, and sees nothing meanwhile
    notice: float = 0.0  # until the controller sees a report, or an end
    stop: float = 0.0  # until a stop is where the trial reads it
    checkpoint_every: int | None = None  # units; None: at the end of an order; 0: never, trials start over


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, at random. Reports of an attempt stay in order, and its end comes behind them."""

    lost_per_hour: float = 0.0  # rate at which a running attempt is lost
    fail: float = 0.0  # probability that an attempt's training code fails, at any of its units alike
    delay: float = 0.0  # mean seconds, exponential, that a message is late
    duplicate: float = 0.0  # probability that a report is delivered again, up to a minute later


class Clock:
    """Actions in the order of their virtual second, ties in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._sequence = count()

    def plan(self, second: float, action: Callable[[Any], None], argument: object = None) -> None:
        heappush(self._heap, (second, next(self._sequence), action, argument))

    def move(self, end: float) -> bool:
        """Take all actions of the next second that has any; False if there is none up to `end`."""
        heap = self._heap
        if not heap or heap[0][0] > end:
            return False
        self.now = heap[0][0]
        while heap and heap[0][0] == self.now:
            _, _, action, argument = heappop(heap)
            action(argument)
        return True


@dataclass(slots=True)
class _Attempt:
    """A process that trains."""

    trial: int
    number: int
    curve: Curve
    until: int
    started_at: int  # the resource it resumed from
    at: int  # the resource it has reached
    began: float
    unit_began: float
    fails_at: int = 0
    stopping: bool = False
    alive: bool = True
    delivered: float = 0.0  # when its last message arrives


class Workers:
    """Launch attempts, stop them; as the clock moves, their reports and ends come into `inbox`."""

    def __init__(
        self,
        clock: Clock,
        curves: Callable[[Config], Curve],
        metric: str,
        costs: Costs,
        faults: Faults,
        rng: np.random.Generator,
    ) -> None:
        self.inbox: list[Event] = []
        self._clock, self._curves, self._metric = clock, curves, metric
        self._costs, self._faults, self._rng = costs, faults, rng
        self._attempts: dict[int, _Attempt] = {}  # trial -> its last one

    def launch(self, trial: Trial, now: float) -> None:
        """Begin the trial's attempt `trial.attempt`; it goes on from the trial's newest checkpoint."""
        known = self._attempts.get(trial.id)
        curve = self._curves(trial.config) if known is None else known.curve
        ready = now + self._costs.start_up + (self._costs.restore if trial.checkpoint else 0.0)
        at = trial.checkpoint
        attempt = _Attempt(trial.id, trial.attempt, curve, trial.until, at, at, now, ready)
        self._attempts[trial.id] = attempt
        if self._faults.fail and self._rng.random() < self._faults.fail:
            attempt.fails_at = int(self._rng.integers(at + 1, trial.until + 1))
        if self._faults.lost_per_hour:
            lasts = self._rng.exponential(HOUR / self._faults.lost_per_hour)
            self._clock.plan(now + lasts, self._lose, attempt)
        self._train(attempt)

    def stop(self, trial: int, now: float) -> None:
        """Order the trial's process to end."""
        self._clock.plan(now + self._costs.stop, self._read_stop, self._attempts[trial])

    def interrupted(self, trial: int, now: float) -> AttemptEnded:
        """How the trial's process ends when the study does."""
        return _end(self._attempts[trial], Outcome.INTERRUPTED, now)

    def _train(self, attempt: _Attempt) -> None:
        at, seconds = attempt.at, attempt.curve.seconds
        needed = seconds[at] - seconds[at - 1] if at else seconds[0]
        saving = self._costs.save if self._saves(attempt, at + 1) else 0.0
        self._clock.plan(attempt.unit_began + needed + saving, self._trained, attempt)

    def _saves(self, attempt: _Attempt, resource: int) -> bool:
        every = self._costs.checkpoint_every
        return every != 0 and (resource == attempt.until or (every is not None and resource % every == 0))

    def _trained(self, attempt: _Attempt) -> None:
        if not attempt.alive:
            return
        attempt.at = at = attempt.at + 1
        now = attempt.unit_began = self._clock.now
        if at == attempt.fails_at:
            self._leave(attempt, Outcome.USER_ERROR)
            return
        metrics = {self._metric: attempt.curve.losses[at - 1]}
        saved = self._saves(attempt, at)
        report = Report(attempt.trial, attempt.number, at, metrics, saved, now - attempt.began)
        self._deliver(attempt, report)
        if self._faults.duplicate and self._rng.random() < self._faults.duplicate:
            again = attempt.delivered + self._rng.uniform(0.0, 60.0)
            self._clock.plan(again, self._arrive, report)
        if at == attempt.until or attempt.stopping:
            self._leave(attempt, Outcome.OK)
        else:
            self._train(attempt)

    def _read_stop(self, attempt: _Attempt) -> None:
        """Orders are read between units: one that has just begun is not trained, another is finished."""
        attempt.stopping = True
        if attempt.alive and attempt.unit_began >= self._clock.now:
            self._leave(attempt, Outcome.OK)

    def _lose(self, attempt: _Attempt) -> None:
        if attempt.alive:
            self._leave(attempt, Outcome.LOST)

    def _leave(self, attempt: _Attempt, outcome: Outcome) -> None:
        attempt.alive = False
        self._deliver(attempt, _end(attempt, outcome, self._clock.now))

    def _deliver(self, attempt: _Attempt, event: Event) -> None:
        late = self._rng.exponential(self._faults.delay) if self._faults.delay else 0.0
        arrival = max(attempt.delivered, self._clock.now + self._costs.notice + late)
        attempt.delivered = arrival
        if arrival > self._clock.now:
            self._clock.plan(arrival, self._arrive, event)
        else:
            self._arrive(event)

    def _arrive(self, event: Event) -> None:
        self.inbox.append(event)


def _end(attempt: _Attempt, outcome: Outcome, now: float) -> AttemptEnded:
    units = attempt.at - attempt.started_at
    return AttemptEnded(
        attempt.trial, attempt.number, outcome, units, attempt.started_at, now - attempt.began
    )
