from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from operators.attempt import AttemptSpec, Observed


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

    def close(self, grace: float) -> None:
        """End everything, within about `grace` seconds."""
