"""A controller that is killed at random times, and started again at once, until its study has ended."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from operators.store import Store
from tests.cluster.desk import Abohb, Desk
from tests.cluster.faults import Fault
from tests.cluster.kit import until

SETTLING = 30.0  # seconds after an outage in which a controller may still be refused something


@dataclass(frozen=True, slots=True)
class Exit:
    """A controller that has ended by itself, and not well."""

    at: float  # unix seconds
    code: int
    text: str  # its last words


@dataclass
class Keeper:
    """Runs `abohb tune` again and again until it ends well; kills it so many times."""

    desk: Desk
    path: Path
    chance: random.Random
    kills: int
    life: tuple[float, float]  # seconds, at least and at most, until a kill
    killed: list[Fault] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    last: Abohb | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _calm: threading.Event = field(default_factory=threading.Event)  # nobody is killed
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Kill what runs, start no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def over(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    @property
    def absences(self) -> list[float]:
        """When a controller went, and for some seconds there was none."""
        return [*(fault.ended for fault in self.killed), *(exit.at for exit in self.exits)]

    def wait(self, within: float) -> None:
        assert self._thread is not None
        self._thread.join(max(0.0, within))
        assert self.over, f"not within {within:.0f} s:\n{self.last.text()[-4000:] if self.last else ''}"

    @contextmanager
    def calm(self, store: Store, study: str, within: float = 60.0) -> Iterator[None]:
        """A controller is at work, and is not killed before the end of the block."""
        self._calm.set()
        try:
            until("a controller is at work", lambda: self.over or self._works(store, study), within)
            yield
        finally:
            self._calm.clear()

    def _works(self, store: Store, study: str) -> bool:
        owner = json.loads(store.get(f"{study}/owner.json") or b"{}")
        return self.last is not None and self.last.process.pid == owner.get("pid")

    def _keep(self) -> None:
        while not self._over.is_set():
            run = self.last = self.desk.tune(self.path, "--json")
            life = self.chance.uniform(*self.life) if len(self.killed) < self.kills else float("inf")
            if self._outlives(run, life):
                began = time.time()
                run.kill()
                self.killed.append(Fault("controller killed", began, time.time(), str(run.process.pid)))
                print(self.killed[-1], flush=True)
                continue
            if run.process.returncode == 0:
                return
            self.exits.append(Exit(time.time(), run.process.returncode, run.text().strip()[-500:]))
            clock = time.strftime("%H:%M:%S")
            print(f"{clock} controller exited {run.process.returncode}: {self.exits[-1].text}", flush=True)
            self._over.wait(2.0)

    def _outlives(self, run: Abohb, life: float) -> bool:
        """Whether it still runs after that."""
        end = time.monotonic() + life
        while run.process.poll() is None and not self._over.is_set():
            if time.monotonic() >= end and not self._calm.is_set():
                break
            time.sleep(0.05)
        return run.process.poll() is None

    def unexcused(self, faults: Iterable[Fault]) -> list[Exit]:
        """Those while nothing was away."""
        outages = [fault for fault in faults if fault.kind.endswith("stopped")]

        def excused(exit: Exit) -> bool:
            return any(fault.began <= exit.at <= fault.ended + SETTLING for fault in outages)

        return [exit for exit in self.exits if not excused(exit)]


@contextmanager
def kept(keeper: Keeper) -> Iterator[Keeper]:
    """While the block runs; what it leaves unfinished is removed."""
    keeper.start()
    try:
        yield keeper
    finally:
        unfinished = not keeper.over
        keeper.stop()
        if unfinished:
            keeper.desk.cluster.remove_left()
