"""Processes of flow runs, forked from a server that has imported all that they need: each begins at once."""

from __future__ import annotations

import multiprocessing
import threading
import time
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from uuid import UUID

from flows.deployment.child import execute

LOADED = [
    "flows.deployment.child",
    "flows.controller.kubernetes",
    "flows.views.pictures",
]  # what a study's process imports


class Processes:
    """At most one of a run. Safe to share between threads."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(LOADED)
        forkserver.ensure_running()  # it imports while we begin
        self._lock = threading.Lock()
        self._running: dict[UUID, tuple[str, ForkServerProcess]] = {}
        self._exits: dict[UUID, int] = {}

    def start(self, kind: str, run: UUID) -> None:
        process = self._context.Process(target=execute, args=(kind, str(run)), name=f"{kind}-{run}")
        with self._lock:
            process.start()
            self._running[run] = kind, process

    def here(self) -> set[UUID]:
        """The runs that have a process which lives."""
        with self._lock:
            for run, (_, process) in list(self._running.items()):
                if process.exitcode is not None:
                    self._exits[run] = process.exitcode
                    del self._running[run]
                    process.close()
            return set(self._running)

    def count(self, kind: str) -> int:
        self.here()
        with self._lock:
            return sum(kind == one for one, _ in self._running.values())

    def last_words(self, run: UUID) -> str:
        """How its last process ended; "" if that was not ours."""
        code = self._exits.get(run)
        if code is None:
            return ""
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self, run: UUID) -> None:
        with self._lock, suppress(KeyError, ValueError):
            self._running[run][1].kill()

    def end_all(self, within: float) -> None:
        """SIGTERM to each, and SIGKILL to what is left in the end."""
        deadline = time.monotonic() + within
        with self._lock:
            processes = [process for _, process in self._running.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
