"""A study looked at from outside, by reading its journal: that disturbs nobody."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.controller.balance import allowed
from flows.controller.session import Replayed, read_on, replay
from flows.study.model import FIXED, Study, differences
from flows.study.parts import check_name
from flows.views.evidence import said
from flows.views.view import Best, StudyView
from hpo_engine.history import History
from hpo_engine.types import (
    AbohbError,
    AttemptEnded,
    AttemptStarted,
    Config,
    Event,
    Held,
    Opened,
    Outcome,
    Status,
    Trial,
    Waiting,
)
from operators.attempt import trial_prefix
from operators.journal import Journal
from operators.store import Store

HERE = ("store", "workdir")  # of the study file: they may be called otherwise on the machine that tunes it


@dataclass(frozen=True, slots=True)
class Row:
    """One trial."""

    trial: int
    status: Status
    resource: int  # reached
    until: int  # ordered
    value: float | None  # the objective at `resource`
    metrics: Mapping[str, float]
    attempts: int
    failures: int
    disruptions: int
    why: str  # it was stopped, failed or waits; "" when there is nothing to say
    checkpoint: int  # the resource of its newest one, 0: none
    units: int  # run in all attempts that have ended
    origin: str
    config: Config


@dataclass
class Notes:
    """What only a person wants to know of a trial, folded beside the history."""

    failures: dict[int, AttemptEnded] = field(default_factory=dict)  # by trial, the last one
    waits: dict[int, str] = field(default_factory=dict)  # by trial: the cause
    held: dict[int, str] = field(default_factory=dict)
    interrupted: set[int] = field(default_factory=set)

    def saw(self, event: Event, at: float) -> None:
        match event:
            case AttemptStarted():
                self.interrupted.discard(event.trial)
            case AttemptEnded():
                self.waits.pop(event.trial, None)
                if event.outcome is Outcome.INTERRUPTED:
                    self.interrupted.add(event.trial)
                elif event.outcome is not Outcome.OK:
                    self.failures[event.trial] = event
            case Waiting():
                self.waits[event.trial] = event.cause
            case Held():
                self.held[event.trial] = event.reason

    def why(self, trial: Trial) -> str:
        """The reason of its state, and what its last failure was unless that says it already."""
        parts = [trial.reason]
        if trial.held:
            parts.append(f"{'pauses at its next report' if trial.live else 'held'}, {self.held[trial.id]}")
        elif trial.live and self.waits.get(trial.id):
            parts.append(f"waits: {self.waits[trial.id]}")
        elif trial.status is Status.RUNNING and not trial.live:
            parts.append("interrupted" if trial.id in self.interrupted else "waits for a worker")
        failure = self.failures.get(trial.id)
        if failure and trial.status is not Status.FAILED:
            last = said(failure).splitlines()[-1:] or [""]
            parts.append(f"attempt {failure.attempt}: {failure.outcome}{': ' if last[0] else ''}{last[0]}")
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Looked:
    """A study up to the last batch that was read."""

    file: Study  # as the file has it
    begun: Study  # as it was first opened
    store: Store
    replayed: Replayed
    notes: Notes

    @property
    def history(self) -> History:
        return self.replayed.engine.history

    @property
    def study(self) -> Study:
        """As it runs."""
        return self.replayed.study or self.begun

    @property
    def workers(self) -> int:
        return allowed(self.history, self.study.workers)

    @property
    def uri(self) -> str:
        remote = "://" in self.file.store
        return (
            f"{self.file.store}/{self.study.name}"
            if remote
            else (self.file.store_path() / self.study.name).as_uri()
        )

    def read_on(self) -> bool:
        """Whether anything has happened since."""
        return read_on(self.begun, self.replayed)


def look(study: Study, store: Store) -> Looked:
    """AbohbError: the store knows nothing of it. JournalError: it cannot be read."""
    begun, notes = known(study.name, store, study.store), Notes()
    return Looked(study, begun, store, replay(begun, store, also=notes.saw), notes)


def known(name: str, store: Store, where: str) -> Study:
    """A study as it was first opened. AbohbError: the store, at `where`, knows nothing of it."""
    try:
        check_name(name)  # what a trial has written below its own prefix is no journal
    except ValueError as error:
        raise AbohbError(f"study: {error}") from None
    first = next(Journal(store, name).read(), None)
    opened = next((event for event in first.events if isinstance(event, Opened)), None) if first else None
    if opened is None:
        raise AbohbError(f"nothing is known of study {name!r} in {where}: it has not been tuned yet")
    return Study.model_validate(opened.study)


def state(looked: Looked, *, alive: bool) -> str:
    """One word: ended, failed, running, pausing, paused, stopping or interrupted."""
    history = looked.history
    if history.finished is not None:
        return "failed" if history.finished.failed else "ended"
    if not alive:
        return "interrupted"
    if history.settings.get("stopped"):
        return "stopping"
    if history.settings.get("paused"):
        return "pausing" if history.live else "paused"
    return "running"


def view_of(looked: Looked, *, alive: bool = False, now: float = 0.0, again: str = "") -> StudyView:
    """As the controller shows it; of a study that nobody tunes, without workers. `again`: how to tune it."""
    journal = looked.replayed.journal
    view = looked.replayed.watch.view(
        looked.history,
        elapsed=journal.spent(now) if alive else journal.active,
        workers=looked.workers,
        waiting="paused, until `abohb resume`" if looked.history.settings.get("paused") else "",
    )
    workers = view.workers if alive else ()
    return dataclasses.replace(view, workers=workers, best=best_of(looked), store=looked.uri, again=again)


def waits(looked: Looked) -> list[str]:
    """What attempts wait for, the most frequent cause first."""
    causes = Counter(cause for id in looked.history.live if (cause := looked.notes.waits.get(id)))
    return [
        f"{cause} ({count} of {len(looked.history.live)} attempts)" for cause, count in causes.most_common()
    ]


def changed(looked: Looked) -> list[str]:
    """What of the study file has changed since it was opened, in words; where things are does not matter."""
    file, kept = looked.file.model_dump(mode="json"), looked.study.model_dump(mode="json")
    names = [name for name in file if file[name] != kept[name] and name not in (*HERE, *FIXED)]
    refused = differences(looked.study, looked.file)
    lines = []
    if names:
        lines.append(f"The study file has changed: {', '.join(names)}. That counts when it is tuned again.")
    if refused:
        lines.append("The study file is of another study, which cannot be tuned under this name:")
    return lines + [f"  {line}" for line in refused]


def rows(looked: Looked, statuses: frozenset[Status] = frozenset(Status)) -> list[Row]:
    return [_row(looked, trial) for trial in looked.history.trials if trial.status in statuses]


def _row(looked: Looked, trial: Trial) -> Row:
    reports = looked.history.reports[trial.id]
    metrics = reports[-1].metrics if reports else {}
    return Row(
        trial=trial.id,
        status=trial.status,
        resource=trial.resource,
        until=trial.until,
        value=metrics.get(looked.study.metrics[0].name),
        metrics=metrics,
        attempts=trial.attempt,
        failures=trial.failures,
        disruptions=trial.disruptions,
        why=looked.notes.why(trial),
        checkpoint=trial.checkpoint,
        units=trial.units,
        origin=trial.origin,
        config=trial.config,
    )


def best_of(looked: Looked) -> Best | None:
    """The best configuration; its `checkpoint` is the URI of the manifest, "" if it wrote none."""
    best = looked.replayed.watch.view(looked.history, elapsed=0.0).best
    if best is None:
        return None
    key = f"{trial_prefix(looked.study.name, best.trial)}checkpoints/{best.resource:08d}.json"
    uri = f"{looked.uri}{key.removeprefix(looked.study.name)}"
    return dataclasses.replace(best, checkpoint="" if looked.store.get(key) is None else uri)
