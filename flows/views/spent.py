"""What a study has used, and what it would have used without stopping early."""

from __future__ import annotations

from dataclasses import dataclass, field

from flows.study.kubernetes import Gpus
from hpo_engine.types import AttemptEnded, Event, Report, Start


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that attempts ran, and the same times their GPUs; `saved`: against full length.

    Used: from when an attempt's agent began to when it ended, or to its last report while it runs. The time
    in which a pod waits for a node or pulls its image is not in it.
    Full length: each trial that was started, run to the largest resource at its own seconds per unit; one
    that has run no unit yet counts with the mean of the others.
    Saved: full length less used, never below 0. So it falls while trials go on, and what has to be run
    again after a failure counts as used.
    """

    seconds: float = 0.0
    seconds_saved: float = 0.0
    gpu_seconds: float = 0.0
    gpu_seconds_saved: float = 0.0


@dataclass(slots=True)
class _Trial:
    gpus: int
    seconds: float = 0.0  # of attempts that have ended
    units: int = 0
    live_seconds: float = 0.0  # of the one that has not, as it last reported
    live_units: int = 0

    @property
    def used(self) -> float:
        return self.seconds + self.live_seconds

    def fold(self, event: Report | AttemptEnded) -> None:
        if isinstance(event, Report):
            self.live_seconds = max(self.live_seconds, event.seconds)
            self.live_units += 1
            return
        self.seconds += max(event.seconds, self.live_seconds)  # it may have left no verdict
        self.units += max(event.units, self.live_units)
        self.live_seconds, self.live_units = 0.0, 0

    def shares(self, top: int) -> dict[str, float]:
        """Its part of each sum."""
        units = self.units + self.live_units
        if not units:
            return {"unpaced": 1, "unpaced gpus": self.gpus}
        full = self.used / units * top
        return {"full": full, "gpu full": full * self.gpus, "units": units, "paced": self.used}


_SUMS = ("full", "gpu full", "units", "paced", "unpaced", "unpaced gpus")


@dataclass
class Ledger:
    """A fold of the events, O(1) each."""

    top: int  # the largest resource
    gpus: Gpus
    _trials: list[_Trial] = field(default_factory=list)
    _seconds: float = 0.0  # only ever added to, so that it never falls by a rounding error
    _gpu_seconds: float = 0.0
    _sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0.0))

    def saw(self, event: Event) -> None:
        if isinstance(event, Start):
            self._trials.append(_Trial(self.gpus.of(event.config)))
            self._count(self._trials[-1], 1)
        elif isinstance(event, Report | AttemptEnded):
            trial = self._trials[event.trial]
            used = trial.used
            self._count(trial, -1)
            trial.fold(event)
            self._count(trial, 1)
            self._seconds += max(0.0, trial.used - used)
            self._gpu_seconds += max(0.0, trial.used - used) * trial.gpus

    def _count(self, trial: _Trial, sign: int) -> None:
        for name, share in trial.shares(self.top).items():
            self._sums[name] += sign * share

    def spent(self) -> Spent:
        sums = self._sums
        unpaced = self.top * sums["paced"] / sums["units"] if sums["units"] else 0.0
        full = sums["full"] + sums["unpaced"] * unpaced
        gpu_full = sums["gpu full"] + sums["unpaced gpus"] * unpaced
        return Spent(
            self._seconds,
            max(0.0, full - self._seconds),
            self._gpu_seconds,
            max(0.0, gpu_full - self._gpu_seconds),
        )
