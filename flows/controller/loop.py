"""The controller of one study: a level-triggered loop, of which every pass may be the first.

A pass observes what runs and what was reported, folds that, asks the engine for work while workers are free,
journals all of it as one batch, and only then acts: what is not in the journal never reaches a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from flows.controller.backend import Backend
from flows.controller.balance import CANCELLED, allowed, balance, due, occupied, uncancellable
from flows.controller.build import attempt_spec
from flows.controller.inbox import Inbox
from flows.study.model import Study
from flows.views.effort import Timing
from hpo_engine.engine import Engine
from hpo_engine.types import (
    AttemptEnded,
    Event,
    Finished,
    Fitted,
    Outcome,
    Status,
    Stop,
    Trial,
    Wait,
    Waiting,
)
from operators.attempt import Observed, Order, encode_order, order_key
from operators.journal import Fenced, Journal
from operators.store import Store

World: TypeAlias = Mapping[tuple[int, int], Observed]


@dataclass(frozen=True, slots=True)
class Ending:
    """Nothing new is begun, and what runs is ended. Not `final`: the study can be resumed."""

    reason: str
    final: bool = True
    failed: bool = False


class Controller:
    """Call `step` until it answers; `cancel` makes it wind up and leave the study resumable."""

    def __init__(
        self,
        study: Study,
        store: Store,
        backend: Backend,
        engine: Engine,
        journal: Journal,
        clock: Callable[[], float],
        most: int | None,  # workers, whatever anybody asks for
        causes: Mapping[int, str],  # by live trial: what it waits for, as last journalled
    ) -> None:
        self.study = study
        self.engine = engine
        self.history = engine.history
        self.waiting = ""  # what the engine waits for, in words
        self.messages: list[str] = []  # what the user should be told once
        self.deciding = self.passing = Timing()  # how long the engine takes, and how long a pass
        self._store, self._backend, self._journal, self._clock = store, backend, journal, clock
        self._most = most
        self._inbox = Inbox(store, study.name)
        self._unwritten: list[Event] = []  # told to the engine, not journalled yet
        self._written: list[Event] = []  # journalled, not returned yet
        self._orders: dict[int, Order] = {}  # by trial: as last written; a cache
        self._began = clock() - journal.active
        self._causes = dict(causes)
        self._cancelled: str | None = None
        self._failing = ""  # why the study fails: trials are ended for it, so it stays

    @property
    def workers(self) -> int:
        return allowed(self.history, self.study.workers, self._most)

    @property
    def elapsed(self) -> float:
        """Seconds that controllers have spent on this study, earlier ones included."""
        return self._clock() - self._began

    def cancel(self, reason: str) -> None:
        self._cancelled = self._cancelled or reason

    def step(self) -> tuple[tuple[Event, ...], Ending | None]:
        """One pass: the events that it journalled, and how the study has ended if it has.

        Fenced: another controller has taken over. OSError: the store is away; call again, nothing is lost.
        """
        if self._unwritten:  # a write failed: exactly as it was, for it may have gone through
            self._write()
        observed = self._backend.observe()
        news = self._inbox.read()  # after observing: an ended attempt has told all it will
        for report in news.reports:
            self._tell(report)
        ending = self._ending()
        self._fold_ends(observed, ending)
        for steered in news.steered:
            if steered.setting == "cancel":
                self._cancel_trial(steered.value)
            elif self.history.settings.get(steered.setting) != steered.value:
                self._tell(steered)
        if self.history.settings.get("stopped"):
            self.cancel("stopped by `abohb stop`")
        ending = self._ending() or self._decide()
        ending = ending and self._judged(ending)
        if ending and ending.final and not self.history.live and not self.history.finished:
            self._tell(Finished(ending.reason, ending.failed))
        self._write()
        self.messages += [*news.dropped, *self._backend.notes()]
        self._inbox.clear(news)
        self._apply(observed, ending)
        events, self._written = tuple(self._written), []  # only now: a pass that failed is told by the next
        return events, None if self.history.live else ending

    def _tell(self, event: Event) -> None:
        self._unwritten.extend(self.engine.tell(event))

    def _write(self) -> None:
        """On return the journal has all that was told, and was nobody else's until now.

        So what was seen before is of our attempts, or of older ones: a newer controller's is left alone.
        """
        if self._unwritten:
            self._journal.append(self._unwritten, self._clock())
            self._written += self._unwritten
            self._unwritten = []
        elif next(self._journal.read(), None):
            raise Fenced(f"study {self.study.name!r} was opened by another controller; this one has stopped")

    def _cancel_trial(self, id: int) -> None:
        if problem := uncancellable(self.history, id):
            self.messages.append(f"not cancelled: {problem}")
        else:
            self._tell(Stop(id, CANCELLED))

    def _fold_ends(self, observed: World, ending: Ending | None) -> None:
        for id in list(self.history.live):
            attempt = self.history.trials[id].attempt
            seen = observed.get((id, attempt))
            if seen is None and ending:
                why = {"message": "never launched"}
                self._tell(AttemptEnded(id, attempt, Outcome.INTERRUPTED, evidence=why))
            elif seen is not None and not seen.running:
                self._fold_end(self._checked(seen.verdict or AttemptEnded(id, attempt, Outcome.LOST)))
            elif seen is not None and seen.cause != self._causes.get(id, ""):
                self._causes[id] = seen.cause
                said = {"message": seen.message} if seen.message else {}
                self._tell(Waiting(id, attempt, seen.cause, said))

    def _fold_end(self, end: AttemptEnded) -> None:
        self._causes.pop(end.trial, None)
        self._tell(end)
        if end.outcome in (Outcome.IMAGE, Outcome.POD_SPEC):
            self._failing = f"{end.outcome}: {end.evidence.get('message', 'no trial can run')}"

    def _checked(self, end: AttemptEnded) -> AttemptEnded:
        """An attempt that says all is well and has done nothing would be followed by others, for ever."""
        trial, reports = self.history.trials[end.trial], self.history.reports[end.trial]
        idle = not end.units and not (reports and reports[-1].attempt == end.attempt)
        if end.outcome is Outcome.OK and idle and trial.status is Status.RUNNING and not trial.held:
            return replace(end, outcome=Outcome.LOST, evidence={**end.evidence, "message": "it did nothing"})
        return end

    def _ending(self) -> Ending | None:
        if self._cancelled is not None:
            return Ending(self._cancelled, final=False)
        history, budget = self.history, self.study.budget
        if history.failed_in_a_row >= self.study.max_failed_trials and not self._failing:
            self._failing = f"{history.failed_in_a_row} trials in a row failed{self._last()}"
        if self._failing:
            return Ending(self._failing, failed=True)
        if budget.hours is not None and self.elapsed >= budget.hours * 3600:
            return Ending(f"the budget of {budget.hours:g} hours is used")
        if budget.resource is not None and history.units >= budget.resource:
            return Ending(f"the budget of {budget.resource} {self.study.resource.name}s is used")
        if budget.target is not None and history.incumbent is not None:
            target = history.objective.loss({history.objective.metrics[0].name: budget.target})
            if history.incumbent.score.loss <= target:
                return Ending(f"the target of {budget.target:g} is reached")
        return None

    def _judged(self, ending: Ending) -> Ending:
        """A study without a single usable result has failed, whatever its budget says."""
        if not ending.final or ending.failed or self.history.incumbent is not None:
            return ending
        trials, most = self.history.trials, self.study.budget.trials
        why = f"; {count} trials diverged" if (count := sum(trial.diverged for trial in trials)) else ""
        why += self._last() + ("; to try again, raise budget.trials" if len(trials) == most else "")
        return Ending(f"{ending.reason}, and there is no usable result{why}", failed=True)

    def _last(self) -> str:
        failed = [trial for trial in self.history.trials if trial.status is Status.FAILED]
        return f"; the last failure: {failed[-1].reason}" if failed else ""

    def _decide(self) -> Ending | None:
        """Fill the free workers. An ending when there is nothing to do and nothing under way."""
        history = self.history
        for event in list(balance(history, self.workers)):
            self._tell(event)
        self._fill()
        for start in due(history, self.workers):
            self._tell(start)
        if not self.workers:
            self.waiting = "paused, until `abohb resume`"
        elif self.waiting and not history.running and not history.live:
            return Ending(self.waiting)
        return None

    def _fill(self) -> None:
        self.waiting, taken = "", occupied(self.history)
        while taken < self.workers:
            answer, self.deciding = self.deciding.of(self.engine.ask)
            if isinstance(answer, Wait):
                self.waiting = answer.reason
                break
            self._tell(answer)
            # A trial may be promoted while its last attempt has not ended: that one is counted already.
            taken += not isinstance(answer, Fitted) and answer.trial not in self.history.live

    def _apply(self, observed: World, ending: Ending | None) -> None:
        """Make the world as the journal says. Idempotent: all of it may have been done before."""
        for id in self.history.live:
            trial = self.history.trials[id]
            exists = (id, trial.attempt) in observed
            self._order(trial, exists)
            if exists:
                if ending or trial.status in (Status.STOPPED, Status.FAILED):
                    self._backend.end(id, trial.attempt)
            elif not ending:
                self._backend.launch(attempt_spec(self.study, trial))
        for (id, attempt), seen in observed.items():
            known = self.history.trials[id] if id < len(self.history.trials) else None
            if known is None or attempt != known.attempt or not known.live:
                (self._backend.end if seen.running else self._backend.forget)(id, attempt)

    def _order(self, trial: Trial, exists: bool) -> None:
        """The order in the store: written before a launch, so that a resumed trial never reads an old one."""
        stop = trial.held or trial.status in (Status.STOPPED, Status.FAILED)
        order, known = Order(trial.until, stop, trial.attempt), self._orders.get(trial.id)
        unsaid = known is None and trial.attempt == 1 and not exists and not stop  # its launch says it
        if not unsaid and known != order:
            self._store.put(order_key(self.study.name, trial.id), encode_order(order))
        self._orders[trial.id] = order
