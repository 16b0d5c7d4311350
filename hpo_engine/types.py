"""The words of the project: what can happen to a study, and what the engine may decide.

Everything that is durable is an `Event`; a study is the fold of its events (`hpo_engine.history`).

    AbohbError
    |-- SpaceError      a search space, or a point of it, that cannot be
    |-- MethodError     an unknown method, or options that it does not take
    `-- HistoryError    an event that contradicts the events before it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from hpo_engine.outcome import Blame as Blame
from hpo_engine.outcome import Outcome as Outcome

Value: TypeAlias = float | int | str | bool
Config: TypeAlias = Mapping[str, Value]  # as the user wrote the space; inactive parameters are absent


class AbohbError(Exception):
    """Base of the errors that are meant for a user's eyes."""


class SpaceError(AbohbError):
    """A search space, or a configuration, that cannot be."""


class MethodError(AbohbError):
    """An unknown method, or options that it does not take."""


class HistoryError(AbohbError):
    """An event that contradicts the events before it."""


# -- decisions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a new trial and run it until it has used `until` units of the resource."""

    trial: int  # 0, 1, 2, ...: the number of trials before it
    config: Config
    until: int
    bracket: int = 0  # its first rung is the bracket-th level
    origin: str = "random"  # which part of the method proposed it; a fallback says why


@dataclass(frozen=True, slots=True)
class Resume:
    """Promote a paused trial: go on from its checkpoint until `until`."""

    trial: int
    until: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a trial for good."""

    trial: int
    reason: str


Decision: TypeAlias = Start | Resume | Stop


# -- what the world tells ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """From here on, attempt `attempt` (1, 2, ...) may run; earlier ones of this trial may not."""

    trial: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attempt does not run yet, or not now, for a cause that may pass; "": it no longer waits."""

    trial: int
    attempt: int
    cause: str  # "unschedulable: Insufficient nvidia.com/gpu"
    evidence: Mapping[str, str] = field(default_factory=dict)  # the scheduler's message


@dataclass(frozen=True, slots=True)
class Report:
    """The metrics of a trial after `resource` units. (trial, resource) is its identity."""

    trial: int
    attempt: int
    resource: int
    metrics: Mapping[str, float]  # as the user's code wrote them; nan and inf are allowed and mean diverged
    checkpoint: bool = False  # a committed checkpoint belongs to it
    seconds: float = 0.0  # since the attempt began


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """No process of this attempt is left."""

    trial: int
    attempt: int
    outcome: Outcome
    units: int = 0  # resource units it ran, repeated ones included
    started_at: int = 0  # the resource of the checkpoint that it was resumed from
    seconds: float = 0.0
    evidence: Mapping[str, str] = field(default_factory=dict)  # exit code, signal, last log lines


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial is given up: it has used its budget of failures or of disruptions."""

    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model fit over the first `prefix` events. Decisions use the last one in the journal."""

    prefix: int
    model: str  # which model it is; "random" when none could be fitted
    parameters: Mapping[str, tuple[float, ...]]  # output name -> log hyper-parameters
    note: str = ""  # what failed before this model was settled on


@dataclass(frozen=True, slots=True)
class Held:
    """A running trial pauses at its next report, keeping its order, until it is released."""

    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    trial: int


@dataclass(frozen=True, slots=True)
class Steered:
    """A person changed a running study: `workers` = N, or `paused` = 0 or 1."""

    setting: str
    value: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The study as its file says it; told again when a resumed study's file has changed."""

    study: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing more will be decided. `failed`: it ended by its failures, not by its budget."""

    reason: str
    failed: bool = False


Event: TypeAlias = (
    Opened | Start | Resume | Stop | AttemptStarted | Waiting | Report | AttemptEnded
    | Failed | Fitted | Held | Released | Steered | Finished
)  # fmt: skip


# -- what `ask` may answer besides a decision or a fit -------------------------------------------


@dataclass(frozen=True, slots=True)
class Wait:
    """No decision now; `reason` says what it waits for, in words for a user."""

    reason: str


# -- a trial, as the history sees it -------------------------------------------------------------


class Status(StrEnum):
    RUNNING = "running"  # ordered further than it has reached
    PAUSED = "paused"  # reached its order; may be promoted
    COMPLETED = "completed"  # reached the largest resource
    STOPPED = "stopped"  # by the scheduler, or diverged
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    id: int
    config: Config
    until: int
    bracket: int = 0
    origin: str = "random"
    status: Status = Status.RUNNING
    held: bool = False
    diverged: bool = False
    resource: int = 0  # reached
    checkpoint: int = 0  # the resource of its newest committed checkpoint, 0: none
    attempt: int = 0  # the last one that may run
    live: bool = False  # that attempt has not ended
    failures: int = 0
    disruptions: int = 0
    blame: Blame = Blame.NOBODY  # for the end of its last attempt
    units: int = 0  # run in all attempts that have ended
    reason: str = ""  # why it was stopped, or failed
