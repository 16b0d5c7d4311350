"""What becomes of flow runs of `tune` whose controller is gone: a pure rule, and the words for it.

A run that died is begun again and adopts its Jobs. One that was cancelled, or has failed by itself, is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from prefect.client.schemas.objects import StateType

AGAIN = "Its controller died"  # how our message of a state begins, by which deaths are counted
SETTLING = 20.0  # seconds in which a run that was just begun may have no process yet, and own no study
SETTLING_POD = 180.0  # the same where a run is a pod
LAUNCHING = 300.0  # seconds that a worker may take to make the pod of a run that it has taken
WINDING = 28.0  # seconds that a cancelled run may take to end its trials
RECENT = 24 * 3600.0  # seconds: what crashed before is history
HOUR = 3600.0
FIRST, LONGEST = 10.0, 600.0  # seconds to wait after a second death within an hour, doubled with each


class Act(Enum):
    LEAVE = "leave it alone"
    AGAIN = "begin it again"
    KILL = "kill its process"
    CLEAR = "end its trials, and call it cancelled"
    RUNNING = "say that it runs"


@dataclass(frozen=True, slots=True)
class Facts:
    """A run as Prefect, this machine and the store tell of it."""

    state: StateType
    age: float  # seconds since it has this state
    here: bool  # a process of ours has it
    owned: bool | None  # whether a live controller has its study; None: it cannot be told yet
    launched: bool = False  # a worker has made its pod


def decide(facts: Facts, *, pods: bool = False) -> Act:
    """`pods`: a run is a pod of its own, of which only the study's owner tells."""
    state = facts.state
    if state is StateType.PAUSED and (facts.here or facts.owned):
        return Act.RUNNING  # Prefect's own pause does not reach it
    if facts.here:
        stuck = state is StateType.CANCELLING and facts.age > WINDING
        return Act.KILL if stuck else Act.LEAVE
    if facts.owned is not False:
        return Act.LEAVE
    if state is StateType.CANCELLING:
        return Act.CLEAR
    if state is StateType.CRASHED:
        return Act.AGAIN if facts.age < RECENT else Act.LEAVE
    if state is StateType.PENDING and pods:
        # A pod may wait for room; if it is lost, the worker says so; a lost worker does not.
        return Act.AGAIN if facts.age > LAUNCHING and not facts.launched else Act.LEAVE
    if state in (StateType.PENDING, StateType.RUNNING, StateType.PAUSED):
        return Act.AGAIN if facts.age > (SETTLING_POD if pods else SETTLING) else Act.LEAVE
    return Act.LEAVE


def pause(deaths: Sequence[float], now: float) -> float:
    """Seconds to wait before a run is begun again that has died at these times before."""
    recent = sum(now - at < HOUR for at in deaths)
    return min(LONGEST, FIRST * 2.0 ** (recent - 1)) if recent else 0.0


def words(deaths: Sequence[float], now: float, why: str = "") -> str:
    recent = sum(now - at < HOUR for at in deaths)
    often = f", {recent + 1} times within an hour" if recent else ""
    wait = pause(deaths, now)
    when = f" in {wait:.0f} s" if wait else ""
    return f"{AGAIN}{often}{f' ({why})' if why else ''}; the study goes on where it was{when}"
