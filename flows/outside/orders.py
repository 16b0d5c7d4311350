"""What a person may tell a running study by its name: the words of the deployed flow `steer`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from flows.controller.balance import uncancellable
from flows.outside.look import Looked, known, look
from flows.outside.steering import CLOCKS, Answer, draining, steer, withdraw
from flows.views.report import plural
from hpo_engine.types import AbohbError
from operators.store import Store

Action: TypeAlias = Literal["pause", "resume", "stop", "workers", "cancel trial"]
WAIT = 30.0  # seconds; more than it takes to see that an owner on another host is dead


class OrderError(AbohbError):
    """What was asked for cannot be."""


def tell(
    store: Store, where: str, study: str, action: Action, number: int, most_workers: int | None = None
) -> str:
    """Ask the study's controller, and say what came of it. AbohbError: it cannot be, or there is no study."""
    looked = look(known(study, store, where), store)
    if finished := looked.history.finished:
        raise OrderError(f"Study {study} has ended: {finished.reason}. There is nothing to steer.")
    setting, value = _setting(looked, action, number, most_workers)
    answer = steer(store, study, setting, value, wait=WAIT, clocks=CLOCKS)
    if answer.folded:
        looked.read_on()
        return _done(looked, action, number)
    return _not_taken(store, study, action, answer)


def _setting(looked: Looked, action: Action, number: int, most: int | None) -> tuple[str, int]:
    match action:
        case "pause" | "resume":
            return "paused", int(action == "pause")
        case "stop":
            return "stopped", 1
        case "workers":
            if number < 1:
                raise OrderError(
                    f"number: got {number}, expected how many workers, at least 1; pause runs none"
                )
            if most is not None and number > most:
                raise OrderError(f"number: got {number} workers; the policy here allows at most {most}")
            return "workers", number
        case "cancel trial":
            if number < 0:
                raise OrderError(f"number: got {number}, expected the number of a trial")
            if problem := uncancellable(looked.history, number):
                raise OrderError(f"number: {problem}")
            return "cancel", number


def _done(looked: Looked, action: Action, number: int) -> str:
    history, name = looked.history, looked.study.name
    ends = draining(history)
    match action:
        case "pause":
            return f"Study {name} is paused.{ends}"
        case "resume":
            return f"Study {name} goes on with {plural(looked.workers, 'worker')}."
        case "stop":
            return f"Study {name} stops: its trials are being ended. The same study again goes on."
        case "workers":
            paused = " It is paused." if history.settings.get("paused") else ""
            return f"Study {name} has {plural(history.settings['workers'], 'worker')} now.{ends}{paused}"
        case "cancel trial":
            return f"Trial {number} of study {name} is cancelled."


def _not_taken(store: Store, study: str, action: Action, answer: Answer) -> str:
    if answer.owner.alive is not False:
        return f"Asked for, but {answer.owner.where} has not taken it within {WAIT:g} s. It will later."
    if action == "stop":
        withdraw(store, answer)
        return f"Nobody is tuning study {study} now. There is nothing to stop."
    return f"Nobody is tuning study {study} now. This takes effect when it is tuned again."
