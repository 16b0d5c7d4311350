"""Requests that a pass of the loop must not wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

THREADS = 8  # and as many for what is urgent
AGAIN = 2.0  # seconds before a call that failed is tried again
KEPT = 10_000  # names whose rest is remembered, before those that have rested are cleared


@dataclass
class Calls:
    """A few threads that make calls by name: each is under way at most once, and after a failure it rests.

    Who wants something says so on every pass; so a call that failed is made again, and nothing is queued
    twice. A call that raises OSError has not been made, as far as we know. What is urgent has threads of its
    own: it does not wait behind a thousand calls that are not.
    """

    changed: Callable[[], None]  # called when one has ended
    clock: Callable[[], float] = time.monotonic
    _pools: dict[bool, ThreadPoolExecutor] = field(init=False)  # by whether it is urgent
    _flying: dict[Hashable, Future[None]] = field(default_factory=dict, init=False)
    _rests: dict[Hashable, float] = field(default_factory=dict, init=False)  # name -> until when
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _stopped: bool = field(default=False, init=False)
    faults: dict[str, str] = field(default_factory=dict, init=False)  # kind of error -> the last one's text

    def __post_init__(self) -> None:
        names = {False: "calls", True: "urgent-calls"}
        self._pools = {
            urgent: ThreadPoolExecutor(THREADS, thread_name_prefix=name) for urgent, name in names.items()
        }

    def make(
        self, name: Hashable, call: Callable[[], None], *, rest: float = 0.0, urgent: bool = False
    ) -> None:
        """Begin a call, unless it is under way, has just failed, or was made less than `rest` seconds ago."""
        with self._lock:
            if self._stopped or name in self._flying or self.clock() < self._rests.get(name, 0.0):
                return
            self._flying[name] = self._pools[urgent].submit(self._run, name, call, rest)

    def flying(self, name: Hashable) -> bool:
        return name in self._flying

    def _run(self, name: Hashable, call: Callable[[], None], rest: float) -> None:
        failed: Exception | None = None
        try:
            call()
        except Exception as error:
            failed = error
        now = self.clock()
        with self._lock:
            self._flying.pop(name, None)
            self._rests[name] = now + (AGAIN if failed is not None else rest)
            if failed is not None:
                self.faults[type(failed).__name__] = str(failed)
            if len(self._rests) > KEPT:
                self._rests = {name: until for name, until in self._rests.items() if until > now}
        self.changed()

    def finish(self, seconds: float) -> None:
        """Wait for the calls under way, and make no more."""
        with self._lock:
            self._stopped = True
            flying = list(self._flying.values())
        wait(flying, timeout=seconds)
        self.stop()

    def stop(self) -> None:
        """Make no more; those under way end by themselves."""
        self._stopped = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
