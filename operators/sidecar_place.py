"""Where an agent in a pod finds what, and how it bears a store that is away."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hpo_engine.types import Outcome
from operators.attempt import AttemptSpec, decode_spec
from operators.kube.settings import PORT
from operators.store import REFUSALS, StoreError
from operators.verdict import Facts, encode_facts

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """The pod, by its environment. The directories are volumes."""

    spec: AttemptSpec
    store: str  # URL
    pod: str  # its uid
    shared: Path = Path("/abohb")  # with the training code
    own: Path = Path("/abohb-agent")  # of both agent containers
    message: Path = Path("/dev/termination-log")
    port: int = PORT
    patience: float = 5.0  # seconds for a trial to exit by itself once it has done as ordered
    init: Path = Path("/usr/bin/tini-static")  # of our image, see `lend_init`

    @property
    def trial(self) -> Path:
        return self.shared / "trial"

    @property
    def memory(self) -> Path:
        """There once the training code may begin."""
        return self.own / "progress.json"

    def say(self, facts: Facts) -> None:
        """In place: the kubelet reads this very file when the container has ended."""
        self.message.write_bytes(encode_facts(facts))

    def fail(self, error: Exception) -> None:
        """Say so, unless more is said already."""
        if not self.message.exists() or not self.message.read_bytes():
            message = f"the agent failed: {error!r}"
            spec = self.spec
            self.say(Facts(spec.trial, spec.attempt, spec.resource, ended=Outcome.LOST, message=message))


def place_of(env: Mapping[str, str]) -> Place:
    return Place(
        decode_spec(env["ABOHB_ATTEMPT"].encode()),
        env["ABOHB_STORE"],
        env["ABOHB_POD_UID"],
        Path(env.get("ABOHB_DIR", "/abohb")),
        Path(env.get("ABOHB_AGENT_DIR", "/abohb-agent")),
        Path(env.get("ABOHB_MESSAGE", "/dev/termination-log")),
        int(env.get("ABOHB_PORT", PORT)),
        float(env.get("ABOHB_PATIENCE", "5")),
        Path(env.get("ABOHB_INIT", "/usr/bin/tini-static")),
    )


@dataclass
class Away:
    """An outage of the store: how long to wait before the next try, and what to write to our log."""

    wait: Callable[[float], object]  # seconds
    longest: float = 5.0
    _pause: float = field(default=0.0, init=False)
    _refused: float | None = field(default=None, init=False)

    def bear(self, error: OSError | StoreError) -> None:
        """Wait. The error itself if the store has refused us for too long."""
        if isinstance(error, StoreError):
            now = time.monotonic()
            self._refused = now if self._refused is None else self._refused
            if now - self._refused > REFUSALS:
                raise error
        if not self._pause:
            tell(f"{error}; trying again")
        self._pause = min(self.longest, 2 * self._pause or 0.25)
        self.wait(self._pause)

    def over(self) -> bool:
        """A try went well; whether it was away until now."""
        was = self._pause > 0
        if was:
            tell("the store answers again")
        self._pause, self._refused = 0.0, None
        return was


def insist(do: Callable[[], _T], wait: Callable[[float], object]) -> _T:
    """Do it, again if the store is away, for as long as that takes."""
    away = Away(wait)
    while True:
        try:
            done = do()
        except (OSError, StoreError) as error:
            away.bear(error)
        else:
            away.over()
            return done


def tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
