"""The decision engine: what to do next, given all that has happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo_engine.history import History
from hpo_engine.schedulers import Place, Scheduler
from hpo_engine.searchers import Searcher
from hpo_engine.types import (
    AttemptEnded,
    Blame,
    Config,
    Event,
    Failed,
    Fitted,
    Report,
    Resume,
    Start,
    Status,
    Stop,
    Wait,
)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to tune: where to look, and how long to look there."""

    scheduler: Scheduler
    searcher: Searcher


@dataclass(frozen=True, slots=True)
class Limits:
    """Where the engine stops by itself. Budgets of time and resource are its caller's: it knows no clock."""

    trials: int | None = None  # how many may be started
    failures: int = 1  # of the training code, per trial, before the trial is given up
    disruptions: int = 10  # of everything else, per trial


class Engine:
    """`ask` for decisions, `tell` what happened; every event that either returns must be journalled.

    A decision depends on the journal alone: randomness is drawn from (seed, number of events), so an engine
    that was rebuilt from the journal, at whatever point, decides what the first one would have.

    >>> event = engine.ask()  # Start, Resume or Fitted; Wait when there is nothing to decide
    >>> journal.append(engine.tell(event))  # what is now true: the event, and perhaps a Stop that it causes
    """

    def __init__(
        self,
        method: Method,
        history: History,
        *,
        seed: int = 0,
        limits: Limits = Limits(),
        initial: Sequence[Config] = (),
    ) -> None:
        self.method = method
        self.history = history
        self.seed = seed
        self.limits = limits
        self.initial = tuple(initial)

    def ask(self) -> Start | Resume | Fitted | Wait:
        """The next decision for one free worker, or a model fit that must be journalled before it.

        Changes nothing: `tell` it, or ask again and get the same. `Wait.reason` says what a missing decision
        waits for; when no trial is running either, nothing will ever come and the study has ended.
        """
        rng = np.random.default_rng([self.seed, self.history.length])
        step = self.method.scheduler.next(self.history, rng)
        return self._fill(step, rng) if isinstance(step, Place) else step

    def _fill(self, place: Place, rng: np.random.Generator) -> Start | Fitted | Wait:
        count = len(self.history.trials)
        if self.limits.trials is not None and count >= self.limits.trials:
            return self._wait(f"the budget of {count} trials is used")
        if count < len(self.initial):
            return Start(count, self.initial[count], place.until, place.bracket, origin="initial")
        searcher = self.method.searcher
        due = searcher.fit(self.history, rng)
        if due is not None:
            return due
        found = searcher.suggest(self.history, rng, self.history.levels[place.bracket])
        if found is None:
            return self._wait(f"all {count} configurations of the space have been tried")
        return Start(count, found.config, place.until, place.bracket, origin=found.origin)

    def _wait(self, reason: str) -> Wait:
        running = len(self.history.running)
        return Wait(f"{reason}; {running} running may yet be promoted" if running else reason)

    def tell(self, event: Event) -> tuple[Event, ...]:
        """Fold an event. Returns what is now true, to be journalled as one batch: () for news known before.

        A report is told once: again, late, of a fenced attempt or past the trial's order, it changes nothing.
        """
        if isinstance(event, Report) and self.history.knows(event):
            return ()
        self.history.apply(event)
        match event:
            case Report():
                return (event, *self._told(self._verdict(event)))
            case AttemptEnded():
                return (event, *self._told(self._given_up(event)))
        return (event,)

    def _told(self, consequence: Event | None) -> tuple[Event, ...]:
        return () if consequence is None else self.tell(consequence)

    def _verdict(self, report: Report) -> Stop | None:
        trial = self.history.trials[report.trial]
        if trial.diverged:
            return Stop(trial.id, f"diverged at {report.resource}")
        if trial.status is not Status.RUNNING:
            return None
        reason = self.method.scheduler.judge(self.history, trial.id)
        return None if reason is None else Stop(trial.id, reason)

    def _given_up(self, end: AttemptEnded) -> Failed | None:
        trial = self.history.trials[end.trial]
        if trial.status is not Status.RUNNING:
            return None
        message = end.evidence.get("message", "")
        for count, limit, blame in (
            (trial.failures, self.limits.failures, Blame.TRAINING),
            (trial.disruptions, self.limits.disruptions, Blame.DISRUPTION),
        ):
            if end.outcome.blame is blame and count > limit:
                what = f"{end.outcome}: {message}" if message else str(end.outcome)
                return Failed(trial.id, f"{what} (attempt {end.attempt})")
        return None
