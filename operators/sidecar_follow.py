"""Beside the training code: commit what it reports, hand on its orders, end it when it must end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hpo_engine.types import Outcome
from operators.agent import Attempt
from operators.attempt import facts_key
from operators.sidecar_keys import Renewal, open_with_newest
from operators.sidecar_place import Away, Place, insist, tell
from operators.sidecar_probes import Probes
from operators.store import Store, StoreError
from operators.verdict import Facts, encode_facts
from operators.watchdog import Watchdog

TICK = 0.1  # seconds between two looks at metrics.jsonl
POLL = 1.0  # at the order in the store
LAST = 10.0  # seconds for the facts to reach the store: the termination message has them already


@dataclass
class Farewell:
    """SIGTERM: the training code has ended, or its pod's time is up. Seen also during an upload."""

    told: threading.Event = field(default_factory=threading.Event)
    first: Callable[[], None] = lambda: None  # done at once, in a thread of its own

    def listen(self) -> None:
        """The signal is blocked in this thread already, and so in those that it starts."""
        threading.Thread(target=self._wait, name="farewell", daemon=True).start()

    def _wait(self) -> None:
        signal.sigwait({signal.SIGTERM})
        self.first()
        self.told.set()


def follow(place: Place, env: Mapping[str, str]) -> int:
    """The exit code; any other than 0 is of an agent that failed, which the kubelet starts again."""
    os.umask(0o002)
    farewell, probes = Farewell(), Probes(place.port)
    farewell.listen()
    probes.start()
    while not place.memory.exists():
        if farewell.told.wait(0.02):
            return 0  # the training code was never allowed to begin
    store, keys = open_with_newest(place, env)
    attempt = Attempt(place.spec, store, place.trial, memory=place.memory)
    attempt.take_up()
    follower = Follower(place, attempt, probes, farewell.told, keys)
    farewell.first = lambda: place.say(follower.facts(saved=False))  # should we be killed before the end
    try:
        follower.run()
    except Exception as error:
        message = f"the agent failed: {error!r}"
        place.say(attempt.facts(Outcome.LOST, message, saved=False))
        raise
    facts = follower.facts()
    place.say(facts)
    _keep(store, place, facts)
    return 0


def _keep(store: Store, place: Place, facts: Facts) -> None:
    """In the store as well: a pod may be removed before anybody has read its message."""
    key = facts_key(place.spec.study, place.spec.trial, place.spec.attempt)
    deadline = time.monotonic() + LAST

    def wait(seconds: float) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(min(seconds, 1.0))

    try:
        insist(lambda: store.put(key, encode_facts(facts)), wait)
    except (TimeoutError, StoreError) as error:
        tell(f"the facts could not be kept in the store: {error}")


@dataclass
class Follower:
    """One agent's time with the training code. It starts nothing; `probes` ends it."""

    place: Place
    attempt: Attempt
    probes: Probes
    told: threading.Event  # to wind up
    keys: Renewal
    _dog: Watchdog = field(init=False)
    _away: Away = field(init=False)
    _polled: float = field(default=0.0, init=False)
    _ended: Outcome | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._dog = Watchdog(self.attempt, self.place.patience)
        self._away = Away(self.told.wait)

    def run(self) -> None:
        """Until `told`, and all that was written by then is committed, which may take until we are killed."""
        while not self.told.wait(TICK):
            self._turn()
        insist(self.attempt.pump, lambda seconds: time.sleep(min(seconds, 1.0)))

    def facts(self, saved: bool = True) -> Facts:
        """An end that nobody was told of was not ours."""
        return self.attempt.facts(self._ended if self.probes.refused.is_set() else None, saved=saved)

    def _turn(self) -> None:
        try:
            committed = self._look()
        except (OSError, StoreError) as error:
            self._away.bear(error)
            return
        # The time that a commit or an outage takes is not the training code's, nor that of pulling its image.
        if self._away.over() or committed or not self.probes.asked.is_set():
            self._dog.heard()
        if self._ended is None and (ended := self._dog.over()) is not None:
            self._ended = ended
            self.probes.over = f"the training code must end: {self.attempt.fault or ended}"
            tell(self.probes.over)

    def _look(self) -> int:
        """How many lines it committed. After them the training code reads its order, so we look at it too."""
        self._follow(POLL)
        self.keys.look()
        count = 0
        while self.attempt.pump(1):
            count += 1
            self._follow(POLL)  # lines may come faster than they can be committed
        if count:
            self._follow(0.0)
        return count

    def _follow(self, age: float) -> None:
        if time.monotonic() - self._polled >= age:
            self.attempt.follow()
            self._polled = time.monotonic()
