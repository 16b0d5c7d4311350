"""What people are shown of a study: values only, filled by the loop, read by the displays and by Prefect.

The objective is the number that the user's code reported, never negated; `mode` says which way is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from flows.views.effort import Effort
from flows.views.spent import Spent
from hpo_engine.types import Config, Outcome, Report


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker. `trial` is None while it has nothing to run."""

    trial: int | None = None
    attempt: int = 0
    status: str = "idle"  # "starting", "running", "stopping", ...: words for a user
    resource: int = 0  # reached by this trial
    until: int = 0  # ordered
    value: float | None = None  # the objective at `resource`


@dataclass(frozen=True, slots=True)
class Best:
    """The configuration to use. `checkpoint` is a path or URI, "" when the trial wrote none."""

    trial: int
    value: float  # the objective
    resource: int
    config: Config
    metrics: Mapping[str, float] = field(default_factory=dict)  # of that report, the objective included
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """One row of the rung table. `kept`: promoted from here, or not stopped here; None at the last level."""

    level: int
    recorded: int = 0
    kept: int | None = None
    running: int = 0  # trials on their way to this level
    best: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    started: int = 0
    running: int = 0
    paused: int = 0
    completed: int = 0
    stopped: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Failures:
    """All failed attempts of one class, with the last line that one of them logged."""

    outcome: Outcome
    count: int
    trial: int
    attempt: int
    last_line: str = ""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One that the user may want to look into; `log`: the last lines of what its code printed."""

    trial: int
    attempt: int
    outcome: Outcome
    at: float  # seconds since the epoch
    seconds: float
    message: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Gain:
    """A report that was the best of the study."""

    seconds: float  # since the study began
    trial: int
    resource: int
    value: float  # the objective


@dataclass(frozen=True, slots=True)
class Curves:
    """What pictures are drawn from. Both lists only ever grow: another thread may read them meanwhile."""

    reports: Sequence[Sequence[Report]] = field(default=(), compare=False)  # by trial, in order of resource
    gains: Sequence[Gain] = ()
    seconds: float = 0.0  # from the study's beginning to the last event


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of the budget is used: the part nearest to its end. `fraction` is in [0, 1]."""

    text: str = ""  # "31 of 100 trials"
    fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class StudyView:
    study: str
    method: str
    objective: str = "loss"  # the metric's name
    mode: str = "min"  # or "max"
    unit: str = "epoch"  # the resource's name
    elapsed: float = 0.0  # seconds, all controllers of this study together
    workers: tuple[Slot, ...] = ()
    best: Best | None = None
    levels: tuple[Level, ...] = ()  # lowest first
    counts: Counts = Counts()
    units: int = 0  # resource units run, repeated ones included
    full_units: int = 0  # what the same trials would have run at full length
    failures: tuple[Failures, ...] = ()
    failed: tuple[FailedAttempt, ...] = ()  # the newest ones, oldest first
    messages: tuple[str, ...] = ()  # what the user is told once, oldest first; only ever appended to
    budget: Budget = Budget()
    spent: Spent = field(default_factory=Spent)
    curves: Curves = Curves()
    effort: Effort = field(default_factory=Effort)
    waiting: str = ""  # why nothing was decided, "" when something was
    finished: str = ""  # why the study ended, "" while it goes on
    store: str = ""  # URI of the store
    again: str = ""  # the command that resumes the study or shows it again

    @property
    def saved(self) -> float:
        """The share of the resource that early stopping saved, in [0, 1]."""
        return max(0.0, 1 - self.units / self.full_units) if self.full_units else 0.0


@dataclass(frozen=True, slots=True)
class LegStarted:
    """An attempt of a trial began to run towards `until`; `at` is in seconds since the epoch."""

    trial: int
    attempt: int
    until: int
    at: float


@dataclass(frozen=True, slots=True)
class LegEnded:
    """It ended; `stopped`: by the scheduler, with Outcome.OK. `detail`: evidence, last log lines."""

    trial: int
    attempt: int
    until: int
    outcome: Outcome
    seconds: float
    at: float
    detail: str = ""
    stopped: bool = False
    value: float | None = None  # the objective that it ended with


Leg: TypeAlias = LegStarted | LegEnded
