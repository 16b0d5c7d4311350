"""A thread that keeps a cache of one kind of object up to date: list, watch, and list again."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from operators.kube.api import QUIET, Api
from operators.kube.cache import Cache
from operators.kube.errors import ApiError
from operators.kube.pace import backoff
from operators.kube.stream import Stream

Json: TypeAlias = dict[str, Any]

CALM = 2.0  # seconds: after a watch that lived so long the next one may begin at once
SLACK = 10.0  # seconds that the server may be late with ending a watch


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds. Real ones by default; tests have less time."""

    watch: tuple[float, float] = (240.0, 300.0)  # that the server keeps a watch open, drawn anew for each
    relist: float = 240.0  # age at which a list is made again when a watch ends: all 4 to 5 minutes
    quiet: float = QUIET


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cache at one moment. Objects are shared with it: read them, do not change them."""

    objects: dict[str, Json]  # by name
    gone: dict[str, Json]  # by uid: deleted since, as they were last known; until they are forgotten


@dataclass
class Watcher:
    """Follows the objects of `resource` that `selector` selects. Begin with `start`, end with `stop`.

    `changed` is called from its thread, after the cache has; it must not wait for anything.
    `slim` takes from each object, as it arrives, what nobody needs. It leaves name, uid and resourceVersion.
    """

    api: Api
    resource: str
    selector: str
    changed: Callable[[], None]
    slim: Callable[[Json], Json] = lambda thing: thing
    rhythm: Rhythm = Rhythm()
    clock: Callable[[], float] = time.monotonic
    luck: Callable[[], float] = random.random
    synced: threading.Event = field(default_factory=threading.Event, init=False)  # a whole list was read
    faults: int = field(default=0, init=False)  # failures so far
    _cache: Cache = field(default_factory=Cache, init=False)
    _listed: float = field(default=0.0, init=False)  # when, by `clock`
    _opened: float = field(default=math.inf, init=False)  # when the watch was; inf: not yet
    _lost: tuple[float, str] | None = field(default=None, init=False)  # since when, and why
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _stream: Stream | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        self._lost = (self.clock(), "not connected yet")
        self._thread = threading.Thread(target=self._run, name=f"watch-{self.resource}", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Wait for the thread, but not long: it may be in a call, and dies with the process."""
        self._stopped.set()
        if (stream := self._stream) is not None:
            stream.interrupt()
        if self._thread is not None:
            self._thread.join(seconds)

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(dict(self._cache.objects), dict(self._cache.gone))

    def forget(self, uids: Iterable[str]) -> None:
        """These are of no more interest once they are gone. Do it on every pass: a late event brings more."""
        with self._lock:
            for uid in uids:
                self._cache.gone.pop(uid, None)

    def away(self) -> tuple[float, str]:
        """Seconds without contact, and why; (0.0, "") while a watch is open."""
        lost = self._lost
        return (self.clock() - lost[0], lost[1]) if lost is not None else (0.0, "")

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            self._opened = math.inf
            try:
                if not self._cache.version or self.clock() - self._listed >= self.rhythm.relist:
                    self._list()
                self._watch()
                why = "a watch ended"
            except Exception as error:  # of a callback too: this thread must not die, and must not spin
                why = str(error) or type(error).__name__
                self._failed(error)
            self._lost = (self._lost[0] if self._lost else self.clock(), why)
            # An end without an error counts too, if it came at once: never a hot loop, whatever the reason.
            failures = 0 if self.clock() - self._opened >= CALM else failures + 1
            self._stopped.wait(backoff(failures, self.luck()))

    def _failed(self, error: Exception) -> None:
        self.faults += 1
        if not isinstance(error, OSError):  # refused (410, 403 ...): there is a gap, or there may be one
            self._cache.version = ""

    def _list(self) -> None:
        objects: list[Json] = []
        version = ""
        for page, version in self.api.pages(self.resource, self.selector):  # noqa: B007
            objects += map(self.slim, page)
        with self._lock:
            news = self._cache.listed(objects, version)
        self._listed = self._heard()
        if news or not self.synced.is_set():
            self.synced.set()
            self.changed()

    def _watch(self) -> None:
        low, high = self.rhythm.watch
        age = self.clock() - self._listed
        # No longer than until the next list is due: this may be the second watch since the last one.
        left = max(self.rhythm.relist - age, 0.0) + high - low
        seconds = max(1, round(min(low + (high - low) * self.luck(), left)))
        end = self.clock() + seconds + SLACK
        version = self._cache.version
        with self.api.watch(self.resource, self.selector, version, seconds, self.rhythm.quiet) as stream:
            self._stream = stream
            self._opened = self._heard()
            if self._stopped.is_set():  # set after `stop` could have interrupted this stream
                return
            for event in stream:
                self._take(str(event.get("type")), event["object"])
                if self._heard() > end or self._stopped.is_set():
                    return

    def _take(self, kind: str, thing: Json) -> None:
        if kind == "ERROR":
            status, reason = int(thing.get("code") or 0), str(thing.get("reason") or "")
            raise ApiError(f"watch {self.resource}", status, reason, str(thing.get("message") or ""))
        thing = thing if kind == "BOOKMARK" else self.slim(thing)
        with self._lock:
            news = self._cache.told(kind, thing)
        if news:
            self.changed()

    def _heard(self) -> float:
        self._lost = None
        return self.clock()
