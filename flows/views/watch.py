"""From the history to what people are shown."""

from __future__ import annotations

from collections import deque

from flows.study.model import Study
from flows.views.effort import NO_EFFORT, Effort
from flows.views.evidence import evidence, said
from flows.views.gains import Gains
from flows.views.spent import Ledger
from flows.views.view import (
    Best,
    Budget,
    Counts,
    Curves,
    FailedAttempt,
    Failures,
    Leg,
    LegEnded,
    LegStarted,
    Level,
    Slot,
    StudyView,
)
from hpo_engine.history import History
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Opened,
    Outcome,
    Report,
    Status,
    Stop,
    Trial,
    Waiting,
)

FAILED = 20  # failed attempts that are kept in full
NO_FAILURE = (Outcome.OK, Outcome.INTERRUPTED)


class Watch:
    """A fold of the events, beside the history, into what only people need: failures, legs, messages."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._failures: dict[Outcome, Failures] = {}
        self._failed: deque[FailedAttempt] = deque(maxlen=FAILED)
        self._gains = Gains(study.objective())
        self._ledger = Ledger(study.levels()[-1], study.kubernetes.gpus)
        self._values: dict[int, float] = {}  # trial -> its last objective
        self._reached: dict[int, int] = {}
        self._repeats: set[int] = set()  # trials whose last attempt began after a report
        self._saves = False  # whether any trial has written a checkpoint
        self._until: dict[int, int] = {}  # as ordered now
        self._aims: dict[int, int] = {}  # as ordered when its last attempt began
        self._stopped: set[int] = set()
        self._legs: list[Leg] = []
        self.messages: list[str] = []
        self._restart_told = False
        self._said: set[str] = set()  # messages, or what they were about
        self.causes: dict[int, str] = {}  # what live trials wait for

    def saw(self, event: Event, at: float) -> None:
        self._gains.saw(event, at)
        self._ledger.saw(event)
        match event:
            case Report():
                self._values[event.trial] = event.metrics.get(self._study.metrics[0].name, float("nan"))
                self._reached[event.trial] = event.resource
                self._saves |= event.checkpoint
            case Stop():
                self._stopped.add(event.trial)
            case Waiting():
                self._waits(event)
            case AttemptEnded():
                self._ended(event, at)
            case Opened():
                self._study = Study.model_validate(event.study)
        until = getattr(event, "until", None)
        if until is not None:
            self._until[event.trial] = until  # type: ignore[union-attr]
        if isinstance(event, AttemptStarted):
            self._aims[event.trial] = self._until[event.trial]
            if event.trial in self._reached:
                self._repeats.add(event.trial)
            self._legs.append(LegStarted(event.trial, event.attempt, self._aims[event.trial], at))

    def _waits(self, event: Waiting) -> None:
        self.causes[event.trial] = event.cause
        if event.cause:
            self.say(f"trial {event.trial} waits: {event.cause}", about=event.cause)

    def _ended(self, event: AttemptEnded, at: float) -> None:
        self.causes.pop(event.trial, None)
        stopped = event.trial in self._stopped
        aim, reached = self._aims[event.trial], self._reached.get(event.trial, 0)
        # It may have been promoted while it ran, or have paused where a person wanted it to.
        until = reached if event.outcome is Outcome.OK and not stopped else max(aim, reached)
        self._legs.append(
            LegEnded(
                event.trial,
                event.attempt,
                until,
                Outcome.OK if stopped else event.outcome,  # we ended it: no news about its code
                event.seconds,
                at,
                detail=said(event),
                stopped=stopped,
                value=self._values.get(event.trial),
            )
        )
        if event.units and not event.started_at and event.trial in self._repeats:
            self._restarted(event)
        if event.outcome not in NO_FAILURE and not stopped:
            self._failure(event, at)

    def _failure(self, event: AttemptEnded, at: float) -> None:
        before, text = self._failures.get(event.outcome), said(event)
        self._failures[event.outcome] = Failures(
            event.outcome,
            (before.count if before else 0) + 1,
            event.trial,
            event.attempt,
            text.splitlines()[-1] if text else "",
        )
        message, log = evidence(event)
        self._failed.append(
            FailedAttempt(
                event.trial, event.attempt, event.outcome, at, event.seconds, message, "\n".join(log)
            )
        )

    def _restarted(self, event: AttemptEnded) -> None:
        """Told once: the user may not know that the training code writes no checkpoints."""
        if self._study.resource.resumable and not self._saves and not self._restart_told:
            self._restart_told = True
            self.messages.append(
                f"Trial {event.trial} had no checkpoint to go on from and started over, as all of them will. "
                "Report checkpoints (docs/trial-contract.md), or say resource: {resumable: false}."
            )

    def say(self, message: str, *, about: str = "") -> None:
        """Once: what failed is tried again, and would be told again. `about`: what it is the same as."""
        if (about or message) not in self._said:
            self._said.add(about or message)
            self.messages.append(message)

    def legs(self) -> list[Leg]:
        """Those since the last call."""
        legs, self._legs = self._legs, []
        return legs

    def view(
        self,
        history: History,
        *,
        elapsed: float,
        waiting: str = "",
        workers: int | None = None,
        effort: Effort = NO_EFFORT,
    ) -> StudyView:
        """O(running trials): it is made on each pass."""
        study, top = self._study, history.levels[-1]
        started = len(history.trials)
        return StudyView(
            study=study.name,
            method=study.method.name,
            objective=study.metrics[0].name,
            mode=study.metrics[0].mode,
            unit=study.resource.name,
            elapsed=elapsed,
            workers=self._slots(history, study.workers if workers is None else workers),
            best=self._best(history),
            levels=tuple(self._levels(history)),
            counts=Counts(started, *(history.counts[status] for status in Status)),
            units=history.units,
            full_units=started * top,
            failures=tuple(self._failures.values()),
            failed=tuple(self._failed),
            messages=tuple(self.messages),
            budget=self._budget(history, elapsed),
            spent=self._ledger.spent(),
            curves=Curves(history.reports, self._gains.found, self._gains.seconds),
            effort=effort,
            waiting=waiting,
            finished=history.finished.reason if history.finished else "",
        )

    def _slots(self, history: History, workers: int) -> tuple[Slot, ...]:
        slots = [self._slot(history.trials[id]) for id in history.live]
        return (*slots, *[Slot()] * (workers - len(slots)))

    def _slot(self, trial: Trial) -> Slot:
        if trial.status is not Status.RUNNING:
            status = "ending"
        elif trial.held:
            status = "pausing"
        elif cause := self.causes.get(trial.id):
            status = f"waits: {cause.partition(':')[0]}"
        else:
            status = "running"
        return Slot(trial.id, trial.attempt, status, trial.resource, trial.until, self._values.get(trial.id))

    def _best(self, history: History) -> Best | None:
        if history.incumbent is None:
            return None
        report = history.incumbent.report
        config = history.trials[report.trial].config
        value = report.metrics[self._study.metrics[0].name]
        return Best(report.trial, value, report.resource, config, report.metrics)

    def _levels(self, history: History) -> list[Level]:
        heading = [level for _, level in history.pending()]
        sign = -1 if history.objective.metrics[0].maximise else 1
        rows = []
        for level, rung in history.rungs.items():
            best = rung.entries[0].score if rung.entries else None
            value = sign * best.loss if best and not best.diverged else None
            kept = None if level == history.levels[-1] else rung.kept
            rows.append(Level(level, len(rung), kept, heading.count(level), value))
        return rows

    def _budget(self, history: History, elapsed: float) -> Budget:
        """The part that is nearest to its end."""
        budget, unit = self._study.budget, self._study.resource.name
        parts = []
        if budget.trials is not None:
            parts.append(
                (len(history.trials) / budget.trials, f"{len(history.trials)} of {budget.trials} trials")
            )
        if budget.hours is not None:
            hours = elapsed / 3600
            parts.append((hours / budget.hours, f"{hours:.2g} of {budget.hours:g} hours"))
        if budget.resource is not None:
            parts.append((history.units / budget.resource, f"{history.units} of {budget.resource} {unit}s"))
        if budget.target is not None and not parts:
            parts.append((0.0, f"until {self._study.metrics[0].name} reaches {budget.target:g}"))
        fraction, text = max(parts)
        return Budget(text, min(1.0, fraction))
