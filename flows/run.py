"""Tuning a study on this machine, start to end. Prefect looks on from `flows.tune`."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from flows.loop import Controller, Ending
from flows.session import Replayed, Session, open_study, replay
from flows.study import Study
from flows.view import Best, Leg, StudyView
from operators.attempt import trial_prefix
from operators.checkpoints import Checkpoints
from operators.journal import Fenced
from operators.lease import Heartbeat, check_free
from operators.local import LocalBackend
from operators.store import DirectoryStore, StoreError

POLL = 0.1  # seconds between passes: a pass with no news reads one directory or two
GRACE = 15.0  # seconds to wind up in when we are told to end; Prefect's runner kills after 30
PATIENCE = 30.0  # longest pause between tries while the store is away


class Show(Protocol):
    """Someone who looks on. Returns at once, and never raises."""

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None: ...


def local_store(study: Study) -> DirectoryStore:
    """StoreError: there is something else in its place."""
    path = study.store_path()
    if path.exists() and not path.is_dir():
        raise StoreError(f"store: {path} is a file, not a folder")
    return DirectoryStore(path)


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
    except Exception:  # Fenced, or we are at fault: nothing more is touched
        raise
    except BaseException:
        backend.close(GRACE)
        raise
    finally:
        heartbeat.stop()
    return final_view(study, store, replay(study, store)), ending


def _drive(
    session: Session, shows: Sequence[Show], heartbeat: Heartbeat, cancelled: Callable[[], bool]
) -> Ending:
    controller, pause = session.controller, POLL
    try:
        while True:
            try:
                ending, pause = _pass(session, shows), POLL
            except OSError as error:  # the store is away: what is not journalled is not done
                if pause == POLL:
                    session.watch.messages.append(f"the store does not answer ({error}); trying again")
                    _tell(session, shows)
                ending, pause = None, min(PATIENCE, max(0.5, 2 * pause))
            if ending:
                return ending
            if heartbeat.lost.is_set():
                raise Fenced(f"study {controller.study.name!r} was taken over by another controller")
            if cancelled():
                controller.cancel("cancelled in Prefect")
            time.sleep(pause)
    except Exception:
        raise
    except BaseException:  # Ctrl-C, or SIGTERM as Prefect raises it
        controller.cancel("interrupted")
        _wind_up(session, shows)
        raise


def _wind_up(session: Session, shows: Sequence[Show]) -> None:
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        with suppress(OSError):
            if _pass(session, shows):
                return
        time.sleep(POLL)


def _pass(session: Session, shows: Sequence[Show]) -> Ending | None:
    controller, watch = session.controller, session.watch
    with whole():
        events, ending = controller.step()
        now = time.time()
        for event in events:
            watch.saw(event, now)
    while controller.messages:
        watch.say(controller.messages.pop(0))
    _tell(session, shows)
    return ending


@contextmanager
def whole() -> Iterator[None]:
    """SIGINT and SIGTERM wait for the end of the block: amid a pass, they could tear it from its journal."""
    if threading.current_thread() is not threading.main_thread():  # where none is raised
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def _tell(session: Session, shows: Sequence[Show]) -> None:
    view, legs = current_view(session.controller, session), session.watch.legs()
    for show in shows:
        show.show(view, legs)


def current_view(controller: Controller, session: Session) -> StudyView:
    return session.watch.view(
        controller.history, elapsed=controller.elapsed, waiting=controller.waiting, workers=controller.workers
    )


def final_view(study: Study, store: DirectoryStore, replayed: Replayed) -> StudyView:
    """A study as its journal has it, with the checkpoint of the best configuration laid out as files."""
    view = replayed.watch.view(replayed.engine.history, elapsed=replayed.journal.active, workers=0)
    best = view.best and dataclasses.replace(view.best, checkpoint=_restore_best(study, store, view.best))
    return dataclasses.replace(view, best=best, store=(store.root / study.name).as_uri())


def _restore_best(study: Study, store: DirectoryStore, best: Best) -> str:
    """The checkpoint with which the best loss was measured, or "" if it wrote none."""
    target = store.root / study.name / "best"
    partial = target.with_name(f".best-{os.getpid()}")
    checkpoints = Checkpoints(store, trial_prefix(study.name, best.trial))
    manifest = checkpoints.restore_at(best.resource, partial)
    shutil.rmtree(target, ignore_errors=True)  # an earlier best's
    if manifest is None:
        return ""
    partial.rename(target)
    return str(target)
