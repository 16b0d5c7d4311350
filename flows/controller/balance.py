"""Who may run: pure functions from the history and the number of workers to the next events."""

from __future__ import annotations

from collections.abc import Iterator

from hpo_engine.history import History
from hpo_engine.types import AttemptStarted, Held, Released, Status

CANCELLED = "cancelled by a person"  # the reason of a stop that the method has not decided


def allowed(history: History, workers: int, most: int | None = None) -> int:
    """How many may be at work: as the study says, unless a person has steered it; never more than `most`."""
    steered = history.settings
    wanted = 0 if steered.get("paused") else steered.get("workers", workers)
    return wanted if most is None else min(wanted, most)


def occupied(history: History) -> int:
    """Workers that are taken: by attempts that have not ended, and by trials that are due to run."""
    waiting = sum(1 for id in history.running if id not in history.live and not history.trials[id].held)
    return len(history.live) + waiting


def balance(history: History, workers: int) -> Iterator[Held | Released]:
    """Fewer workers than trials at work: the newest pause at their next report. Room again: the oldest go."""
    trials = [history.trials[id] for id in history.running]
    active = [trial.id for trial in trials if trial.live and not trial.held]
    for id in active[workers:]:
        yield Held(id, f"workers={workers}" if workers else "paused")
    held = [trial.id for trial in trials if trial.held and not trial.live]
    for id in held[: max(0, workers - occupied(history))]:
        yield Released(id)


def due(history: History, workers: int) -> list[AttemptStarted]:
    """The attempts that should begin now: of trials with work and without an attempt, the oldest first."""
    room = max(0, workers - len(history.live))
    ready = (history.trials[id] for id in history.running if id not in history.live)
    return [AttemptStarted(trial.id, trial.attempt + 1) for trial in ready if not trial.held][:room]


def uncancellable(history: History, id: int) -> str:
    """Why a person cannot cancel a trial; "" when it runs, or is paused and might go on."""
    if id >= len(history.trials):
        return f"there is no trial {id}; so far there are {len(history.trials)}, counted from 0"
    trial = history.trials[id]
    if trial.status in (Status.RUNNING, Status.PAUSED):
        return ""
    return f"trial {id} has ended already: {trial.reason or trial.status}"
