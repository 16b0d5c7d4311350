"""Opening a study: read the journal, refuse what must not go on, become its controller."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.backend import Backend
from flows.build import build_engine
from flows.loop import Controller
from flows.study import Study, differences
from flows.watch import Watch
from hpo_engine.engine import Engine
from hpo_engine.types import AbohbError, Opened
from operators.journal import Fenced, Journal
from operators.lease import Owned
from operators.store import Store


class ChangedError(AbohbError):
    """The study file contradicts the study that the store has under this name."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A study as its journal tells it, up to its last batch. Reading it disturbs nobody."""

    engine: Engine
    journal: Journal
    watch: Watch

    @property
    def study(self) -> Study | None:
        opened = self.engine.history.study
        return None if opened is None else Study.model_validate(opened.study)


def replay(study: Study, store: Store) -> Replayed:
    """Fold the journal; no decision and no fit is computed again.

    ChangedError: the file differs in what may not change. JournalError: it cannot be read.
    """
    engine, journal, watch = build_engine(study), Journal(store, study.name), Watch(study)
    for batch in journal.read():
        for event in batch.events:
            if isinstance(event, Opened):
                _check_same(Study.model_validate(event.study), study)
            engine.history.apply(event)
            watch.saw(event, batch.time)
    return Replayed(engine, journal, watch)


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


def open_study(
    study: Study, store: Store, backend: Backend, *, clock: Callable[[], float] = time.time
) -> Session:
    """Become the controller of a study, new or interrupted; whoever controlled it until now is fenced.

    `operators.lease.check_free` asks first whether that is wanted.
    ChangedError: the file differs in what may not change. Owned: somebody else was quicker just now.
    """
    replayed = replay(study, store)
    engine, journal, watch = replayed.engine, replayed.journal, replayed.watch
    news = [Opened(study.model_dump(mode="json"))]
    if replayed.study == study and engine.history.finished is None:
        news = []
    now = clock()
    try:
        journal.claim(now, news)
    except Fenced:
        raise Owned(f"study {study.name!r} was opened by another controller at this very moment") from None
    for event in news:
        engine.tell(event)
        watch.saw(event, now)
    return Session(Controller(study, store, backend, engine, journal, clock), watch, journal.epoch)


def _check_same(before: Study, now: Study) -> None:
    changed = differences(before, now)
    if changed:
        raise ChangedError(
            f"study {now.name!r} is in the store already, and was begun otherwise:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\nGive the study another name, or undo the change. (Budget, workers, command, arguments,"
            " environment and failure limits may change.)"
        )
