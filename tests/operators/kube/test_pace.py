"""How often the API server is asked, on a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.kube.pace import FIRST, MOST, TokenBucket, backoff


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def bucket(time: Time, rate: float = 20.0, burst: int = 40) -> TokenBucket:
    return TokenBucket(rate, burst, time.clock, time.sleep)


def test_a_burst_and_then_the_rate() -> None:
    time = Time()
    calls = bucket(time)
    moments = []
    for _ in range(60):
        calls.take()
        moments.append(round(time.now - 100.0, 6))
    assert moments[:40] == [0.0] * 40
    assert moments[40:] == [round(0.05 * n, 6) for n in range(1, 21)]


def test_a_pause_fills_it_again_but_not_over_the_brim() -> None:
    time = Time()
    calls = bucket(time, rate=2.0, burst=3)
    for _ in range(3):
        calls.take()
    time.now += 1000.0
    assert [calls.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_who_comes_while_others_wait_waits_behind_them() -> None:
    """Threads sleep at the same time: each is told its own moment."""
    asleep: list[float] = []
    calls = TokenBucket(10.0, 1, lambda: 0.0, asleep.append)
    assert [calls.take() for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert asleep == pytest.approx([0.1, 0.2, 0.3])


def test_the_server_wants_to_be_left_alone() -> None:
    time = Time()
    calls = bucket(time)
    calls.take()
    calls.hold(3.0)
    calls.hold(1.0)  # a shorter wish does not shorten the first
    assert [round(calls.take(), 6) for _ in range(3)] == [3.05, 0.05, 0.05]


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5) | st.none()), max_size=60),
    st.floats(0.5, 50),
    st.integers(1, 20),
)
def test_never_more_than_promised(steps: list[tuple[float, float | None]], rate: float, burst: int) -> None:
    """In every stretch of time: at most the burst, and the rate times its length; nothing while held."""
    time = Time()
    calls = bucket(time, rate, burst)
    moments: list[float] = []
    for pause, held in steps:
        time.now += pause
        if held is not None:
            calls.hold(held)
        until = time.now + (held or 0.0)
        calls.take()
        assert time.now >= until - 1e-6
        moments.append(time.now)
    for i, first in enumerate(moments):
        for j, last in enumerate(moments[i:], 1):
            assert j <= burst + rate * (last - first) + 1e-3


@pytest.mark.parametrize(
    ("failures", "luck", "seconds"),
    [
        (0, 0.0, 0.0),
        (1, 0.0, 0.25),
        (1, 1.0, 0.125),
        (2, 0.0, 0.5),
        (5, 0.0, 4.0),
        (7, 0.0, 10.0),
        (99, 1.0, 5.0),
    ],
)
def test_backoff(failures: int, luck: float, seconds: float) -> None:
    assert backoff(failures, luck) == seconds


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_backoff_stays_between_its_ends(failures: int, luck: float) -> None:
    assert FIRST / 2 <= backoff(failures, luck) <= MOST
    assert backoff(failures, 0.0) <= backoff(failures + 1, 0.0)
