"""When an agent has to end the training code beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hpo_engine.types import Outcome
from operators.agent import Attempt


@dataclass
class Watchdog:
    """Asked again and again while the training code runs."""

    attempt: Attempt
    patience: float  # seconds for it to exit by itself once it has done as ordered
    clock: Callable[[], float] = time.monotonic
    _heard: float = field(init=False)
    _done: float | None = field(default=None, init=False)  # since when it could have exited

    def __post_init__(self) -> None:
        self.heard()

    def heard(self) -> None:
        """It is at work: from now on it may be silent for `stall_after`."""
        self._heard = self.clock()

    def over(self) -> Outcome | None:
        """Why it must end now; None if it may go on."""
        attempt, now = self.attempt, self.clock()
        self._done = None if not attempt.fulfilled else self._done or now
        if attempt.fault:
            return Outcome.NO_METRIC
        if attempt.fenced:
            return Outcome.INTERRUPTED
        if attempt.overran or (self._done is not None and now - self._done > self.patience):
            return Outcome.OK
        silence = attempt.spec.stall_after
        stalled = silence is not None and now - self._heard > silence
        return Outcome.STALLED if stalled and self._done is None else None
