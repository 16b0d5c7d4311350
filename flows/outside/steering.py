"""Telling a running study what to do: an object in its store, which the controller folds and clears."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from flows.controller.inbox import steer_prefix
from flows.views.report import plural
from hpo_engine.history import History
from operators.codec import dumps
from operators.lease import Lookout, Owner
from operators.store import Store

STEP = 0.25  # seconds between looks at the store


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds since 1970, seconds that only grow, and waiting."""

    wall: Callable[[], float]
    steady: Callable[[], float]
    sleep: Callable[[float], None]


CLOCKS = Clocks(time.time, time.monotonic, time.sleep)


@dataclass(frozen=True, slots=True)
class Answer:
    """`folded`: the controller has it in its journal. Else it stands in the store under `key`."""

    folded: bool
    owner: Owner
    key: str


def steer(store: Store, study: str, setting: str, value: int, *, wait: float, clocks: Clocks) -> Answer:
    """Ask for a setting, and see for up to `wait` seconds whether a controller takes it.

    Less if there is none. An interrupt takes it back. OSError: the store is away; it may have been asked for.
    """
    lookout, began = Lookout(store, study), clocks.steady()
    owner = lookout.look(0.0)
    key = _free_key(store, study, clocks.wall())
    store.put(key, dumps({"setting": setting, "value": value}))
    try:
        while store.get(key) is not None:
            since = clocks.steady() - began
            owner = lookout.look(since)
            if owner.alive is False or since >= wait:
                return Answer(False, owner, key)
            clocks.sleep(STEP)
    except KeyboardInterrupt:
        store.delete(key)
        raise
    return Answer(True, owner, key)


def withdraw(store: Store, answer: Answer) -> None:
    """Nobody has taken it, and nobody shall."""
    store.delete(answer.key)


def let_go(store: Store, study: str, *, wait: float, clocks: Clocks) -> bool:
    """Whether the controller lets go of the study, within `wait` seconds."""
    lookout, began = Lookout(store, study), clocks.steady()
    while lookout.look(since := clocks.steady() - began).alive is not False:
        if since >= wait:
            return False
        clocks.sleep(STEP)
    return True


def _free_key(store: Store, study: str, now: float) -> str:
    """After all that waits: what was said last counts, also when the clock of who said it is behind."""
    waiting = store.list(steer_prefix(study))
    last = max((_milliseconds(key) for key in waiting), default=0)
    return f"{steer_prefix(study)}{max(round(now * 1000), last + 1):013d}-{secrets.token_hex(4)}.json"


def _milliseconds(key: str) -> int:
    digits = key.rpartition("/")[2].partition("-")[0]
    return int(digits) if digits.isdecimal() else 0


def draining(history: History) -> str:
    """What is said besides of trials that have to make room: " 2 running trials will pause ...", or ""."""
    count = sum(history.trials[id].held for id in history.live)
    return f" {plural(count, 'running trial')} will pause at the next report." if count else ""


def pending(store: Store, study: str) -> list[str]:
    """What was asked for and no controller has taken, oldest first: "workers=2"."""
    asked = []
    for key in store.list(steer_prefix(study)):
        with suppress(ValueError, KeyError, TypeError):  # the controller will drop what cannot be read
            document = json.loads(store.get(key) or b"{}")
            asked.append(f"{document['setting']}={document['value']}")
    return asked
