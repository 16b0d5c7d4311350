"""Tuning a study, start to end, wherever it runs. Prefect looks on from `flows.tune`."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from flows.controller.backend import Backend
from flows.controller.loop import Controller, Ending
from flows.controller.places import LocalPlace, Place
from flows.controller.session import Replayed, Session, open_study, replay
from flows.study.model import Study
from flows.views.effort import Effort
from flows.views.view import Leg, StudyView
from hpo_engine.types import AbohbError
from operators.journal import Fenced
from operators.lease import Heartbeat, check_free
from operators.store import REFUSALS, StoreError

GRACE = 15.0  # seconds to wind up in when we are told to end; Prefect's runner kills after 30
WINDING = 0.1  # seconds between passes then
AT_WORK = "the store did not answer: trials that run are left at work, and the same command goes on with them"
PATIENCE = 30.0  # longest pause between tries while the store is away


class Show(Protocol):
    """Someone who looks on. Returns at once, and never raises."""

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None: ...


def tune_locally(
    study: Study,
    shows: Sequence[Show],
    *,
    take_over: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[StudyView, Ending]:
    """`tune_at` this machine."""
    return tune_at(LocalPlace(study), shows, take_over=take_over, cancelled=cancelled)


def tune_at(
    place: Place,
    shows: Sequence[Show],
    *,
    take_over: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
    leave: Callable[[BaseException], bool] = lambda told: False,
) -> tuple[StudyView, Ending]:
    """Tune a study until it ends or is cancelled.

    The same study again goes on where it was. Owned, ChangedError, JournalError: it cannot be opened; Fenced:
    another controller took it over meanwhile. An interrupt ends the trials, leaves the study resumable, and
    is raised again; if `leave` answers so of it, the trials go on, for another controller to adopt.
    """
    study, store = place.study, place.store
    if not take_over:
        check_free(store, study.name, time.sleep)
    backend = place.backend()
    try:
        session = dataclasses.replace(open_study(study, store, backend), calls=place.calls)
        heartbeat = Heartbeat(store, study.name, session.epoch)
    except BaseException:
        backend.abandon()
        raise
    try:
        ending = _drive(session, place.poll, backend, shows, heartbeat, cancelled)
        backend.close(GRACE)
    except Exception:  # Fenced, or we are at fault: nothing more is touched
        backend.abandon()
        raise
    except BaseException as told:  # Ctrl-C, or SIGTERM as Prefect raises it
        if leave(told):
            backend.abandon()
        else:
            _interrupt(session, place, backend, shows)
        raise
    finally:
        heartbeat.stop()
    return final_view(place, replay(study, store)), ending


def _drive(
    session: Session,
    poll: float,
    backend: Backend,
    shows: Sequence[Show],
    heartbeat: Heartbeat,
    cancelled: Callable[[], bool],
) -> Ending:
    controller, pause, refused = session.controller, poll, 0.0
    while True:
        try:
            ending, pause, refused = _pass(session, shows), poll, 0.0
        except (OSError, StoreError) as error:  # the store is away: what is not journalled is not done
            refused = (refused or time.monotonic()) if isinstance(error, StoreError) else 0.0
            if refused and time.monotonic() - refused > REFUSALS:
                raise
            if pause == poll:
                session.watch.messages.append(f"the store does not answer ({error}); trying again")
                _tell(session, shows)
            ending, pause = None, min(PATIENCE, max(0.5, 2 * pause))
        if ending:
            return ending
        if heartbeat.lost.is_set():
            raise Fenced(f"study {controller.study.name!r} was taken over by another controller")
        if cancelled():
            controller.cancel("cancelled in Prefect")
        backend.wait(pause)


def _interrupt(session: Session, place: Place, backend: Backend, shows: Sequence[Show]) -> None:
    session.controller.cancel("interrupted")
    try:
        ours = _wind_up(session, backend, shows)
    except Fenced:  # the trials are another controller's by now
        backend.abandon()
        return
    if ours or not place.lasting:  # those of this machine end with us
        backend.close(GRACE)
        session.watch.messages += backend.notes()
    else:
        backend.abandon()
        session.watch.messages.append(AT_WORK)
    _tell(session, shows)


def _wind_up(session: Session, backend: Backend, shows: Sequence[Show]) -> bool:
    """Whether the journal is still ours: a store that does not answer may have another controller by now."""
    deadline, ours = time.monotonic() + GRACE, False
    while time.monotonic() < deadline:
        with suppress(OSError, StoreError):
            ending, ours = _pass(session, shows), True
            if ending:
                break
        backend.wait(WINDING)
    return ours


def _pass(session: Session, shows: Sequence[Show]) -> Ending | None:
    controller, watch = session.controller, session.watch
    with whole():
        (events, ending), controller.passing = controller.passing.of(controller.step)
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
        for one in dict.fromkeys(came):
            signal.raise_signal(one)


def _tell(session: Session, shows: Sequence[Show]) -> None:
    view, legs = current_view(session.controller, session), session.watch.legs()
    for show in shows:
        show.show(view, legs)


def current_view(controller: Controller, session: Session) -> StudyView:
    return session.watch.view(
        controller.history,
        elapsed=controller.elapsed,
        waiting=controller.waiting,
        workers=controller.workers,
        effort=Effort(controller.deciding, controller.passing, session.calls()),
    )


def ended_view(place: Place, replayed: Replayed) -> StudyView:
    """Of a study that has ended: also what is left of it is removed, if its cluster lets us."""
    with suppress(OSError, AbohbError):  # the result is in the store
        place.sweep()
    return final_view(place, replayed)


def final_view(place: Place, replayed: Replayed) -> StudyView:
    """A study as its journal has it, with the place of the best configuration's checkpoint."""
    view = replayed.watch.view(replayed.engine.history, elapsed=replayed.journal.active, workers=0)
    best = view.best and dataclasses.replace(view.best, checkpoint=place.checkpoint(view.best))
    return dataclasses.replace(view, best=best, store=place.uri)
