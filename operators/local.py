"""Trials as processes of this machine: the backend whose "Job object" is a work directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from operators.attempt import AttemptSpec, Observed


@dataclass
class LocalBackend:
    """Runs each attempt as an agent process in `<work>/<trial>-<attempt>/`; survives its own death."""

    work: Path
    store: str  # URL that the agents open: file:///...
    threads: int | None = None  # default of OMP_NUM_THREADS and its kin in the training code
    grace: float = 1.0  # seconds between SIGTERM and SIGKILL when an attempt is told to end
    patience: float = 5.0  # seconds a trial may take to exit once it has reached `until`
    _agents: dict[tuple[int, int], object] = field(default_factory=dict, init=False)

    def observe(self) -> dict[tuple[int, int], Observed]:
        """(trial, attempt) -> what exists now."""
        raise NotImplementedError

    def launch(self, spec: AttemptSpec) -> None:
        """Idempotent by name: if it exists already, in whatever state, nothing happens."""
        raise NotImplementedError

    def end(self, trial: int, attempt: int) -> None:
        """Ask it to end now; it will leave a verdict. Gone already: nothing."""
        raise NotImplementedError

    def forget(self, trial: int, attempt: int) -> None:
        """Its end is journalled: remove the work directory."""
        raise NotImplementedError

    def close(self, grace: float) -> None:
        """End all that is ours, wait up to `grace` seconds, kill what is left."""
        raise NotImplementedError
