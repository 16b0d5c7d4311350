"""Calls that a pass does not wait for."""

import threading
import time
from collections.abc import Iterator

import pytest

from operators.kube import calls as module
from operators.kube.calls import Calls


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def world() -> Iterator[tuple[Calls, Clock, threading.Semaphore]]:
    ended, clock = threading.Semaphore(0), Clock()
    calls = Calls(ended.release, clock)
    yield calls, clock, ended
    calls.stop()


def test_each_is_under_way_once(world: tuple[Calls, Clock, threading.Semaphore]) -> None:
    calls, _, ended = world
    gate, made = threading.Event(), []

    def slow() -> None:
        gate.wait(5)
        made.append(1)

    for _ in range(5):
        calls.make("a", slow)
    assert calls.flying("a")
    gate.set()
    assert ended.acquire(timeout=5)
    assert made == [1]
    assert not calls.flying("a")
    calls.make("a", slow)
    assert ended.acquire(timeout=5)
    assert made == [1, 1]


def test_one_that_failed_rests_and_is_told(world: tuple[Calls, Clock, threading.Semaphore]) -> None:
    calls, clock, ended = world
    made = []

    def fails() -> None:
        made.append(clock.now)
        raise OSError("no route")

    calls.make("a", fails)
    assert ended.acquire(timeout=5)
    calls.make("a", fails)  # too early
    clock.now += module.AGAIN / 2
    calls.make("a", fails)
    assert made == [0.0]
    clock.now += module.AGAIN
    calls.make("a", fails)
    assert ended.acquire(timeout=5)
    assert made == [0.0, 1.5 * module.AGAIN]
    assert calls.faults == {"OSError": "no route"}


def test_finish_waits_for_those_under_way_and_makes_no_more(
    world: tuple[Calls, Clock, threading.Semaphore],
) -> None:
    calls, _, _ = world
    made = []
    calls.make("a", lambda: (time.sleep(0.2), made.append("a")))
    calls.finish(5)
    assert made == ["a"]
    calls.make("b", lambda: made.append("b"))
    assert made == ["a"]
