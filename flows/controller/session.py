"""Opening a study: read the journal, refuse what must not go on, become its controller."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.controller.backend import Backend
from flows.controller.build import build_engine
from flows.controller.loop import Controller
from flows.policy.apply import most_workers
from flows.study.model import Study, differences
from flows.views.effort import ApiCalls
from flows.views.watch import Watch
from hpo_engine.engine import Engine
from hpo_engine.types import AbohbError, Event, HistoryError, Opened, Steered
from operators.journal import Batch, Fenced, Journal, JournalError
from operators.lease import Owned
from operators.store import Store


class ChangedError(AbohbError):
    """The study file contradicts the study that the store has under this name."""


CLAIMS = 20  # tries to take over a study that somebody writes to


@dataclass(frozen=True, slots=True)
class Replayed:
    """A study as its journal tells it, up to its last batch. Reading it disturbs nobody."""

    engine: Engine
    journal: Journal
    watch: Watch
    also: Callable[[Event, float], None]  # is told each event, and when it was journalled

    @property
    def study(self) -> Study | None:
        opened = self.engine.history.study
        return None if opened is None else Study.model_validate(opened.study)


def replay(
    study: Study, store: Store, *, also: Callable[[Event, float], None] = lambda event, at: None
) -> Replayed:
    """Fold the journal; no decision and no fit is computed again.

    ChangedError: the file differs in what may not change. JournalError: it cannot be read.
    """
    replayed = Replayed(build_engine(study), Journal(store, study.name), Watch(study), also)
    read_on(study, replayed)
    replayed.watch.legs()  # they were shown when they ran
    return replayed


def read_on(study: Study, replayed: Replayed) -> bool:
    """Fold what has been journalled since; whether there was anything."""
    before = replayed.journal.number
    for batch in replayed.journal.read():
        try:
            _fold_batch(study, replayed, batch)
        except (HistoryError, ValueError) as error:
            raise JournalError(f"batch {batch.number} of study {study.name!r} cannot be: {error}") from error
    return replayed.journal.number > before


def _fold_batch(study: Study, replayed: Replayed, batch: Batch) -> None:
    for event in batch.events:
        if isinstance(event, Opened):
            _check_same(Study.model_validate(event.study), study)
        replayed.engine.history.apply(event)
        replayed.watch.saw(event, batch.time)
        replayed.also(event, batch.time)


def ended(study: Study, replayed: Replayed) -> bool:
    """Whether nothing is left to do: it has finished well, and the file asks for nothing else since.

    A study that ended by its failures goes on when it is told to: somebody will have mended something.
    """
    finished = replayed.engine.history.finished
    return finished is not None and not finished.failed and replayed.study == study


@dataclass(frozen=True, slots=True)
class Session:
    """A controller, what is shown of it, and its claim: `epoch` fences the controllers before it."""

    controller: Controller
    watch: Watch
    epoch: int
    calls: Callable[[], ApiCalls] = dict  # of the platform's API, so far


def open_study(
    study: Study, store: Store, backend: Backend, *, clock: Callable[[], float] = time.time
) -> Session:
    """Become the controller of a study, new or interrupted; whoever controlled it until now is fenced.

    `operators.lease.check_free` asks first whether that is wanted.
    ChangedError: the file differs in what may not change. Owned: others are quicker again and again.
    """
    replayed = replay(study, store)
    now = clock()
    for _ in range(CLAIMS):
        news = _news(study, replayed)
        try:
            replayed.journal.claim(now, news)
            break
        except Fenced:  # whoever controls it wrote meanwhile
            read_on(study, replayed)
    else:
        raise Owned(
            f"study {study.name!r} is written to by other controllers, faster than it can be taken over"
        )
    replayed.watch.legs()
    for event in news:
        replayed.engine.tell(event)
        replayed.watch.saw(event, now)
    controller = Controller(
        study,
        store,
        backend,
        replayed.engine,
        replayed.journal,
        clock,
        most=most_workers(),
        causes=replayed.watch.causes,
    )
    return Session(controller, replayed.watch, replayed.journal.epoch)


def _news(study: Study, replayed: Replayed) -> list[Event]:
    """The study as it is now, unless the journal has it so, and open. What was said last counts."""
    before, history = replayed.study, replayed.engine.history
    news: list[Event] = []
    if before != study or history.finished is not None:
        news.append(Opened(study.model_dump(mode="json")))
    if before and before.workers != study.workers and "workers" in history.settings:
        news.append(Steered("workers", study.workers))
    if history.settings.get("stopped"):
        news.append(Steered("stopped", 0))
    return news


def _check_same(before: Study, now: Study) -> None:
    changed = differences(before, now)
    if changed:
        raise ChangedError(
            f"study {now.name!r} is in the store already, and was begun otherwise:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\nGive the study another name, or undo the change. (Budget, workers, command, arguments,"
            " environment and failure limits may change.)"
        )
