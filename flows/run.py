"""Tuning a study on this machine, start to end. Prefect looks on from `flows.tune`."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from flows.loop import Controller, Ending
from flows.session import Session, open_study, replay
from flows.study import Study
from flows.view import Best, Leg, StudyView
from operators.attempt import trial_prefix
from operators.checkpoints import Checkpoints
from operators.journal import Fenced
from operators.lease import Heartbeat, check_free
from operators.local import LocalBackend
from operators.store import DirectoryStore, Store

POLL = 0.1  # seconds between passes: a pass with no news reads one directory or two
GRACE = 15.0  # seconds to wind up in when we are told to end; Prefect's runner kills after 30
PATIENCE = 30.0  # longest pause between tries while the store is away


class Show(Protocol):
    """Someone who looks on. Returns at once, and never raises."""

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None: ...


def local_store(study: Study) -> DirectoryStore:
    return DirectoryStore(study.store_path())


def tune_locally(
    study: Study,
    shows: Sequence[Show],
    *,
    take_over: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[StudyView, Ending]:
    """Tune a study with processes of this machine as workers, until it ends or is cancelled.

    The same study again goes on where it was. Owned, ChangedError, JournalError: it cannot be opened; Fenced:
    another controller took it over meanwhile. An interrupt ends the trials, leaves the study resumable, and
    is raised again.
    """
    store = local_store(study)
    if not take_over:
        check_free(store, study.name, time.sleep)
    folder = store.root / study.name
    threads = max(1, (os.cpu_count() or 1) // study.workers)
    backend = LocalBackend(folder / "work", store.root.as_uri(), threads=threads)
    session = open_study(study, store, backend)
    heartbeat = Heartbeat(store, study.name, session.epoch)
    try:
        ending = _drive(session, shows, heartbeat, cancelled)
        backend.close(GRACE)
    finally:
        heartbeat.stop()
    return final_view(study, store), ending


def _drive(
    session: Session, shows: Sequence[Show], heartbeat: Heartbeat, cancelled: Callable[[], bool]
) -> Ending:
    controller = session.controller
    try:
        while True:
            ending = _pass(session, shows)
            if ending:
                return ending
            if heartbeat.lost.is_set():
                raise Fenced(f"study {controller.study.name!r} was taken over by another controller")
            if cancelled():
                controller.cancel("cancelled in Prefect")
            time.sleep(POLL)
    except (Fenced, Exception):
        raise
    except BaseException:  # Ctrl-C, or SIGTERM as Prefect raises it
        controller.cancel("interrupted")
        _wind_up(session, shows)
        raise


def _wind_up(session: Session, shows: Sequence[Show]) -> None:
    deadline = time.monotonic() + GRACE
    while _pass(session, shows) is None and time.monotonic() < deadline:
        time.sleep(POLL)


def _pass(session: Session, shows: Sequence[Show]) -> Ending | None:
    """One pass of the loop. While the store is away it is tried again: what is not journalled is not done."""
    controller, pause = session.controller, 0.5
    while True:
        try:
            events, ending = controller.step()
            break
        except OSError as error:
            session.watch.messages.append(f"the store does not answer ({error}); trying again")
            _tell(session, shows)
            time.sleep(pause)
            pause = min(PATIENCE, 2 * pause)
    now = time.time()
    for event in events:
        session.watch.saw(event, now)
    _tell(session, shows)
    return ending


def _tell(session: Session, shows: Sequence[Show]) -> None:
    view, legs = current_view(session.controller, session), session.watch.legs()
    for show in shows:
        show.show(view, legs)


def current_view(controller: Controller, session: Session) -> StudyView:
    return session.watch.view(
        controller.history, elapsed=controller.elapsed, waiting=controller.waiting, workers=controller.workers
    )


def final_view(study: Study, store: DirectoryStore) -> StudyView:
    """A study as its journal has it, with the checkpoint of the best configuration laid out as files."""
    replayed = replay(study, store)
    view = replayed.watch.view(replayed.engine.history, elapsed=replayed.journal.active, workers=0)
    best = view.best and dataclasses.replace(view.best, checkpoint=_restore_best(study, store, view.best))
    return dataclasses.replace(view, best=best, store=(store.root / study.name).as_uri())


def _restore_best(study: Study, store: Store, best: Best) -> str:
    """The checkpoint with which the best loss was measured, or "" if it wrote none."""
    if not isinstance(store, DirectoryStore):
        return ""
    target: Path = store.root / study.name / "best"
    partial = target.with_name(f".best-{os.getpid()}")
    checkpoints = Checkpoints(store, trial_prefix(study.name, best.trial))
    manifest = checkpoints.restore_at(best.resource, partial)
    if manifest is None:
        return ""
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return str(target)
