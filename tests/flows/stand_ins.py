"""Stand-ins for what surrounds the controller: a store that can crash it, workers on a virtual clock."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpo_engine.types import AttemptEnded, Outcome, Report
from operators.attempt import (
    AttemptSpec,
    Observed,
    Order,
    decode_order,
    encode_report,
    order_key,
    report_key,
)


class Crash(BaseException):
    """The controller is gone, at this very point."""


@dataclass
class MemoryStore:
    """Crashes whoever writes at write number `crash_at`: before it takes effect, or right after."""

    crash_at: int | None = None
    after: bool = False
    writes: int = 0
    data: dict[str, bytes] = field(default_factory=dict)

    def _write(self, effect: Callable[[], None]) -> None:
        self.writes += 1
        crash = self.writes == self.crash_at
        if crash and not self.after:
            raise Crash
        effect()
        if crash:
            raise Crash

    def get(self, key: str) -> bytes | None:
        return self.data.get(key)

    def put(self, key: str, data: bytes) -> None:
        self._write(lambda: self.data.update({key: data}))

    def put_once(self, key: str, data: bytes) -> bool:
        free = key not in self.data
        self._write(lambda: self.data.update({key: data}) if free else None)
        return free

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in self.data if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self._write(lambda: self.data.pop(key, None) and None)

    def upload(self, key: str, source: Path) -> None:
        self.put(key, source.read_bytes())

    def download(self, key: str, target: Path) -> None:
        target.write_bytes(self.data[key])


def loss_of(trial: int, resource: int, config: dict[str, object]) -> float:
    """Depends on the trial alone: an attempt that repeats an epoch must find the same number again."""
    x = float(config["x"])  # type: ignore[arg-type]
    return (x - 0.3) ** 2 + 1 / resource if x < 0.95 else math.nan


@dataclass
class Weather:
    """Counts the calls of all that it is over; at one of them something happens."""

    at: int | None = None
    after: bool = False
    happens: Callable[[], None] = lambda: _away()
    calls: int = 0

    def call(self, effect: Callable[[], Any]) -> Any:
        self.calls += 1
        now = self.calls == self.at
        if now and not self.after:
            self.happens()
        result = effect()
        if now and self.after:
            self.happens()
        return result


def _away() -> None:
    raise OSError("away")


@dataclass
class Under:
    """A store or a backend under some weather."""

    inner: Any
    weather: Weather

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        return lambda *arguments: self.weather.call(lambda: method(*arguments))


@dataclass
class Workers:
    """Attempts that make one epoch a tick; they outlive the controller, like Jobs, unless `die` is called.

    Writes behind the controller's back go straight to the store's data: an agent's write crashes nobody else.
    """

    store: MemoryStore
    chance: random.Random
    fault: float = 0.0  # probability that an attempt is lost, or fails, at a tick
    messy: float = 0.0  # probability that a report is late by some ticks, or told again
    patience: int = 0  # ticks from the report that fulfils an order until the attempt ends
    crash: frozenset[int] = frozenset()  # trials whose code fails at once
    attempts: dict[tuple[int, int], AttemptSpec] = field(default_factory=dict)
    progress: dict[tuple[int, int], int] = field(default_factory=dict)
    began: dict[tuple[int, int], int] = field(default_factory=dict)
    verdicts: dict[tuple[int, int], AttemptEnded] = field(default_factory=dict)
    ending: set[tuple[int, int]] = field(default_factory=set)
    checkpoints: dict[int, int] = field(default_factory=dict)
    late: list[tuple[int, Report]] = field(default_factory=list)
    launched: list[tuple[int, int]] = field(default_factory=list)
    idle: dict[tuple[int, int], int] = field(default_factory=dict)
    loss: Callable[[int, int, dict[str, object]], float] = loss_of
    now: float = 0.0
    waits: dict[int, str] = field(default_factory=dict)  # by trial: what it waits for, instead of working

    def observe(self) -> dict[tuple[int, int], Observed]:
        return {
            key: Observed(key not in self.verdicts, self.verdicts.get(key), self.waits.get(key[0], ""))
            for key in self.attempts
        }

    def launch(self, spec: AttemptSpec) -> None:
        key = (spec.trial, spec.attempt)
        if key not in self.attempts:
            running = [k for k in self.attempts if k[0] == spec.trial and k not in self.verdicts]
            assert not running, f"{key} launched beside {running}"
            assert key not in self.launched, f"{key} ran before"
            self.launched.append(key)
            self.attempts[key] = spec
            self.began[key] = self.progress[key] = self.checkpoints.get(spec.trial, 0)

    def end(self, trial: int, attempt: int) -> None:
        self.ending.add((trial, attempt))

    def forget(self, trial: int, attempt: int) -> None:
        assert (trial, attempt) in self.verdicts
        self.attempts.pop((trial, attempt), None)

    def notes(self) -> tuple[str, ...]:
        return ()

    def wait(self, seconds: float) -> None: ...

    def abandon(self) -> None: ...

    def close(self, grace: float) -> None:
        self.die()

    def die(self) -> None:
        for key in self.attempts:
            if key not in self.verdicts:
                self._finish(key, Outcome.INTERRUPTED)

    def tick(self) -> None:
        self.now += 1
        for due, report in list(self.late):
            if due <= self.now:
                self.late.remove((due, report))
                self._send(report)
        for key, spec in list(self.attempts.items()):
            if key not in self.verdicts:
                self._work(key, spec)

    def _work(self, key: tuple[int, int], spec: AttemptSpec) -> None:
        data = self.store.data.get(order_key(spec.study, spec.trial))
        order = decode_order(data) if data else Order(spec.until)
        if key in self.ending:
            return self._finish(key, Outcome.INTERRUPTED)
        if key[0] in self.waits:
            return None
        if key[0] in self.crash:
            return self._finish(key, Outcome.USER_ERROR)
        if self.progress[key] >= order.until or (order.stop and self.progress[key] > self.began[key]):
            self.idle[key] = self.idle.get(key, -1) + 1
            return self._finish(key, Outcome.OK) if self.idle[key] >= self.patience else None
        self.idle.pop(key, None)
        if self.chance.random() < self.fault:
            return self._finish(key, self.chance.choice([Outcome.LOST, Outcome.KILLED, Outcome.USER_ERROR]))
        self.progress[key] = resource = self.progress[key] + 1
        checkpoint = resource % 2 == 0 or resource == order.until
        if checkpoint:
            self.checkpoints[spec.trial] = max(resource, self.checkpoints.get(spec.trial, 0))
        loss = self.loss(spec.trial, resource, dict(spec.config))
        report = Report(spec.trial, spec.attempt, resource, {"loss": loss}, checkpoint, self.now)
        if self.chance.random() < self.messy:
            self.late.append((int(self.now) + self.chance.randint(1, 9), report))  # again, later
        self._send(report)

    def _send(self, report: Report) -> None:
        self.store.data[report_key("test", report)] = encode_report(report)

    def _finish(self, key: tuple[int, int], outcome: Outcome) -> None:
        units = self.progress[key] - self.began[key]
        self.verdicts[key] = AttemptEnded(*key, outcome, units, self.began[key], float(units))
