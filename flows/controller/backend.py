"""What the loop asks of a place where attempts run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hpo_engine.types import AbohbError
from operators.attempt import AttemptSpec, Observed


class AwayError(AbohbError):
    """The cluster or the store does not answer; the same call may go well later."""


class Backend(Protocol):
    """Where attempts run. All is named by (trial, attempt), so every call may be repeated."""

    def observe(self) -> Mapping[tuple[int, int], Observed]:
        """Every attempt that exists, each time. Reports of an ended one are in the inbox already."""

    def launch(self, spec: AttemptSpec) -> None:
        """Exists already: nothing."""

    def end(self, trial: int, attempt: int) -> None:
        """Ask it to end; it will be observed as ended. Gone already: nothing."""

    def forget(self, trial: int, attempt: int) -> None:
        """Its end is journalled: remove what is left of it."""

    def notes(self) -> Sequence[str]:
        """What the user should be told, since the last call."""

    def wait(self, seconds: float) -> None:
        """Return after so long, or sooner when there is something to observe."""

    def abandon(self) -> None:
        """Stop acting at once and leave all as it is: another controller has it."""

    def close(self, grace: float) -> None:
        """End everything, within about `grace` seconds, and remove what belongs to the study."""
