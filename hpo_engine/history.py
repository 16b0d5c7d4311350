"""A study as the fold of its events: mutable, as copies of 10,000 trials cost too much; `apply` its door."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from typing import Any

from hpo_engine.objective import DIVERGED, Objective, Score
from hpo_engine.rung import Entry, Incumbent, Observation, Rung
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Blame,
    Event,
    Failed,
    Finished,
    Fitted,
    Held,
    HistoryError,
    Opened,
    Outcome,
    Released,
    Report,
    Resume,
    Start,
    Status,
    Steered,
    Stop,
    Trial,
    Waiting,
)  # fmt: skip


class History:
    """Fold events with `apply`; read everything else. Costs O(log n) an event."""

    def __init__(self, levels: tuple[int, ...], objective: Objective) -> None:
        self.levels = levels
        self.objective = objective
        self.length = 0
        self.trials: list[Trial] = []
        self.reports: list[list[Report]] = []  # of each trial, in order of resource
        self.rungs = {level: Rung() for level in levels}
        self.running: dict[int, None] = {}  # ids with status RUNNING, oldest first
        self.live: dict[int, None] = {}  # ids whose last attempt has not ended
        self.counts = dict.fromkeys(Status, 0)  # trials by status
        self.outcomes = dict.fromkeys(Outcome, 0)  # ended attempts by outcome
        self.incumbent: Incumbent | None = None
        self.fitted: Fitted | None = None
        self.fitted_records = 0  # observations there were at that fit
        self.failed_in_a_row = 0  # trials given up since a trial last reported
        self.units = 0  # resource units run, those that an attempt had to repeat included
        self.study: Opened | None = None
        self.settings: dict[str, int] = {}  # what was steered
        self.finished: Finished | None = None
        self._observations: list[Observation] = []
        self._records: dict[int, dict[int, Entry]] = {level: {} for level in levels}

    def apply(self, event: Event) -> None:
        """Fold one event. HistoryError if it contradicts the ones before it."""
        _FOLDS[type(event)](self, event)
        self.length += 1

    # -- questions ------------------------------------------------------------------------------

    def knows(self, report: Report) -> bool:
        """True for a report that changes nothing: told before, past its order, or of no live attempt."""
        trial = self.trials[report.trial] if 0 <= report.trial < len(self.trials) else None
        return (
            trial is None
            or report.resource <= trial.resource
            or report.resource > trial.until
            or report.attempt != trial.attempt
            or not trial.live
            or trial.status is not Status.RUNNING
        )

    def next_level(self, trial: Trial) -> int:
        """The rung that a trial will be judged at next: the first above what it has reached."""
        return self._level_from(trial.resource + 1, trial.bracket)

    def pending(self) -> list[tuple[int, int]]:
        """(trial, level) of the evaluations that are under way or ordered."""
        return [(id, self.next_level(self.trials[id])) for id in self.running]

    def observations(self) -> list[Observation]:
        """All rung records, in the order of the journal."""
        return self._observations

    def record_count(self, level: int) -> int:
        """Records with a finite loss at a level."""
        return bisect_left(self.rungs[level].entries, Entry(DIVERGED, -1))

    def record(self, level: int, trial: int) -> Entry | None:
        """The entry of a trial at a level; None if it has none there, or the level is no rung."""
        return self._records.get(level, {}).get(trial)

    def _level_from(self, resource: int, bracket: int) -> int:
        """The first rung of a bracket at or above a resource."""
        at = max(bisect_left(self.levels, resource), bracket)
        return self.levels[min(at, len(self.levels) - 1)]

    # -- folds, one for each kind of event ---------------------------------------------------------

    def _start(self, event: Start) -> None:
        if event.trial != len(self.trials):
            raise HistoryError(f"trial {event.trial} started when there are {len(self.trials)} trials")
        if event.until not in self.levels[event.bracket :]:
            raise HistoryError(f"{event}: there are the levels {self.levels}, less by one for each bracket")
        self.trials.append(Trial(event.trial, event.config, event.until, event.bracket, event.origin))
        self.counts[Status.RUNNING] += 1
        self.reports.append([])
        self.running[event.trial] = None

    def _resume(self, event: Resume) -> None:
        trial = self._in(event.trial, Status.PAUSED)
        if event.until <= trial.until or event.until not in self.levels or trial.diverged:
            raise HistoryError(f"{event} cannot be: of levels {self.levels}, it is at {trial}")
        rung = self.rungs[trial.until]
        rung.leave(self._records[trial.until][trial.id])
        rung.kept += 1
        self._set(replace(trial, until=event.until, status=Status.RUNNING))
        self.running[trial.id] = None

    def _stop(self, event: Stop) -> None:
        self._end(event.trial, Status.STOPPED, event.reason)

    def _failed(self, event: Failed) -> None:
        self._end(event.trial, Status.FAILED, event.reason)
        self.failed_in_a_row += 1

    def _end(self, id: int, status: Status, reason: str) -> None:
        trial = self._in(id, Status.RUNNING, Status.PAUSED)
        entry = self.record(trial.resource, id)
        if entry is not None and not trial.diverged:
            rung = self.rungs[trial.resource]
            if trial.status is Status.PAUSED:
                rung.leave(entry)
            elif status is Status.STOPPED:
                rung.kept -= 1  # judged right after its report was counted as going on
        self.running.pop(id, None)
        self._set(replace(trial, status=status, reason=reason, held=False))

    def _attempt_started(self, event: AttemptStarted) -> None:
        trial = self._in(event.trial, Status.RUNNING)
        if trial.live or event.attempt != trial.attempt + 1:
            raise HistoryError(f"attempt {event.attempt} of {trial}: one at a time, in order")
        self.trials[trial.id] = replace(trial, attempt=event.attempt, live=True)
        self.live[trial.id] = None

    def _attempt_ended(self, event: AttemptEnded) -> None:
        trial = self._in(event.trial, *Status)
        if not trial.live or event.attempt != trial.attempt:
            raise HistoryError(f"attempt {event.attempt} of {trial} ended but was not live")
        blame = event.outcome.blame
        self.trials[trial.id] = replace(
            trial,
            live=False,
            failures=trial.failures + (blame is Blame.TRAINING),
            disruptions=trial.disruptions + (blame is Blame.DISRUPTION),
            blame=blame,
            units=trial.units + event.units,
        )
        del self.live[trial.id]
        told = takewhile(lambda report: report.attempt == event.attempt, reversed(self.reports[trial.id]))
        self.units += max(0, event.units - sum(1 for _ in told))
        self.outcomes[event.outcome] += 1

    def _report(self, event: Report) -> None:
        if self.knows(event):
            raise HistoryError(f"{event} is known, or of no live attempt")
        trial = self.trials[event.trial]
        score = self.objective.score(event.metrics)
        done = event.resource == trial.until
        top = event.resource == self.levels[-1] and not score.diverged
        trial = replace(
            trial,
            resource=event.resource,
            checkpoint=event.resource if event.checkpoint else trial.checkpoint,
            diverged=score.diverged,
            status=Status.COMPLETED if top else Status.PAUSED if done else Status.RUNNING,
            held=trial.held and not (top or done),
        )
        self._set(trial)
        self.reports[trial.id].append(event)
        self.units += 1
        self.failed_in_a_row = 0
        if trial.status is not Status.RUNNING:
            self.running.pop(trial.id)
        if score.feasible and (self.incumbent is None or score < self.incumbent.score):
            self.incumbent = Incumbent(event, score)
        self._record(trial, score, event)

    def _record(self, trial: Trial, score: Score, report: Report) -> None:
        """A record at a rung; of a trial that has diverged, the worst one at the rung it was heading for."""
        level = self._level_from(trial.resource, trial.bracket)
        if level != trial.resource and not score.diverged:
            return
        entry = self._records[level][trial.id] = Entry(score, trial.id)
        self.rungs[level].add(entry)
        slacks = () if score.diverged else self.objective.slacks(report.metrics)
        self._observations.append(Observation(trial.id, level, score.loss, slacks))
        if trial.status is Status.PAUSED and not score.diverged:
            self.rungs[level].wait(entry)
        elif trial.status is Status.RUNNING and not score.diverged:
            self.rungs[level].kept += 1

    def _fitted(self, event: Fitted) -> None:
        self.fitted, self.fitted_records = event, len(self._observations)

    def _held(self, event: Held) -> None:
        self.trials[event.trial] = replace(self._in(event.trial, Status.RUNNING), held=True)

    def _released(self, event: Released) -> None:
        self.trials[event.trial] = replace(self._in(event.trial, *Status), held=False)

    def _steered(self, event: Steered) -> None:
        self.settings[event.setting] = event.value

    def _opened(self, event: Opened) -> None:
        self.study = event
        self.finished = None  # opened again, with more budget or after a mistake was mended: it goes on
        self.failed_in_a_row = 0

    def _finished(self, event: Finished) -> None:
        self.finished = event

    def _set(self, trial: Trial) -> None:
        self.counts[self.trials[trial.id].status] -= 1
        self.counts[trial.status] += 1
        self.trials[trial.id] = trial

    def _in(self, id: int, *allowed: Status) -> Trial:
        trial = self.trials[id] if 0 <= id < len(self.trials) else None
        if trial is None or trial.status not in allowed:
            raise HistoryError(f"trial {id} should be {' or '.join(allowed)}, it is {trial}")
        return trial


_FOLDS: dict[type, Callable[[History, Any], None]] = {
    Opened: History._opened, Steered: History._steered, Finished: History._finished,
    Start: History._start, Resume: History._resume, Stop: History._stop, Failed: History._failed,
    AttemptStarted: History._attempt_started, Report: History._report, AttemptEnded: History._attempt_ended,
    Fitted: History._fitted, Held: History._held, Released: History._released,
    Waiting: lambda history, event: None,
}  # fmt: skip
