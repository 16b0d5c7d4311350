"""Who controls a study now: the journal fences, this tells a newcomer before it disturbs a live owner."""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo_engine.types import AbohbError
from operators.codec import dumps
from operators.store import Store, StoreError

BEAT = 5.0  # seconds between heartbeats
PATIENCE = 3 * BEAT + 1  # how long the heartbeat of an owner on another host is watched


class Owned(AbohbError):
    """Another controller is at work on the study."""


def host_id() -> str:
    """One machine, one boot, one process namespace: where a process id means the same process."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def process_started(pid: int) -> str:
    """Tells a process from a later one with its number; '' where the system does not say, or it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a study. `alive`: None while it cannot be told: on another host, until its heart beats."""

    where: str = ""  # "process 12 on box"; "" if nobody has had it
    alive: bool | None = False


class Lookout:
    """Watches the owner of a study by reading only.

    The clocks of two hosts are not compared: an owner elsewhere is alive when its heartbeat changes.
    """

    def __init__(self, store: Store, study: str) -> None:
        self._store, self._study = store, study
        self._last: dict[str, Any] | None = None
        self._since = 0.0  # when the heartbeat was first seen as it is
        self._beaten = False

    def look(self, now: float) -> Owner:
        """The owner now, by any clock that only grows. A dead one on this host is seen at once."""
        owner = _read(self._store, self._study) or self._last
        if owner is None or owner.get("released"):
            return Owner()
        if owner != self._last:
            self._beaten = self._last is not None
            self._last, self._since = owner, now
        where = f"process {owner['pid']} on {str(owner['host']).split('/')[0]}"
        if owner["host"] == host_id():
            return Owner(where, _alive(int(owner["pid"]), str(owner["started"])))
        if now - self._since >= PATIENCE:
            return Owner(where, False)
        return Owner(where, self._beaten or None)


def check_free(store: Store, study: str, sleep: Callable[[float], None]) -> None:
    """Owned if a live controller holds the study."""
    lookout = Lookout(store, study)
    owner = lookout.look(0.0)
    if owner.alive is None:
        sleep(PATIENCE)
        owner = lookout.look(PATIENCE)
    if owner.alive:
        raise Owned(
            f"study {study!r} is being tuned by {owner.where}. Wait for it, end it, or give --take-over: "
            f"it will then stop by itself and this one goes on where it was."
        )


def _alive(pid: int, started: str) -> bool:
    if Path("/proc/self/stat").exists():
        return process_started(pid) == started != ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read(store: Store, study: str) -> dict[str, Any] | None:
    try:
        document = json.loads(store.get(_key(study)) or b"null")
    except ValueError:  # torn by somebody: the journal is what fences
        return None
    return document if isinstance(document, dict) else None


def _key(study: str) -> str:
    return f"{study}/owner.json"


class Heartbeat:
    """Says every few seconds that the owner lives, until `stop`; `lost` is set when a newer owner is seen."""

    def __init__(self, store: Store, study: str, epoch: int) -> None:
        self._store, self._study, self._epoch = store, study, epoch
        self._beats = 0
        self._stopped = threading.Event()
        self.lost = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(BEAT):
            with suppress(OSError, StoreError):  # the journal will say so where it matters
                if (_read(self._store, self._study) or {}).get("epoch", 0) > self._epoch:
                    self.lost.set()
                    return
                self._beat()

    def _beat(self, *, released: bool = False) -> None:
        self._beats += 1
        pid = os.getpid()
        self._store.put(
            _key(self._study),
            dumps(
                {
                    "epoch": self._epoch,
                    "host": host_id(),
                    "pid": pid,
                    "started": process_started(pid),
                    "beat": self._beats,
                    "released": released,
                }
            ),
        )

    def stop(self) -> None:
        """Give the study free, unless it was taken."""
        self._stopped.set()
        self._thread.join()
        with suppress(OSError, StoreError):  # the end of this process, or its silence, will say it
            if not self.lost.is_set() and (_read(self._store, self._study) or {}).get("epoch") == self._epoch:
                self._beat(released=True)
