"""Who may run, as tables: each trial is one word, `live`, `due`, `held` or `pausing` (held and live)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from flows.controller.balance import allowed, balance, due, occupied
from hpo_engine.history import History
from hpo_engine.objective import Metric, Objective
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Held,
    Outcome,
    Released,
    Report,
    Start,
    Steered,
)

WORDS = ("live", "due", "held", "pausing", "paused", "leaving", "gone")


def history(*words: str) -> History:
    """`paused`: at its rung, its attempt has ended; `leaving`: it has not; `gone`: completed."""
    found = History((1, 3), Objective((Metric("loss"),)))
    for id, word in enumerate(words):
        until = 3 if word == "gone" else 1
        found.apply(Start(id, {}, until))
        if word == "due":
            continue
        found.apply(AttemptStarted(id, 1))
        if word in ("held", "pausing"):
            found.apply(Held(id, "because"))
        if word in ("paused", "leaving", "gone"):
            found.apply(Report(id, 1, until, {"loss": 0.0}))
        if word in ("held", "paused", "gone"):
            found.apply(AttemptEnded(id, 1, Outcome.OK))
    return found


def said(words: str, workers: int) -> str:
    """`balance` applied, then `due`: what happens, in words."""
    now = history(*words.split())
    short = []
    for event in list(balance(now, workers)):
        now.apply(event)
        short.append(f"{'hold' if isinstance(event, Held) else 'release'} {event.trial}")
    return ", ".join([*short, *(f"begin {start.trial}.{start.attempt}" for start in due(now, workers))])


@pytest.mark.parametrize(
    ("trials", "workers", "what"),
    [
        ("", 4, ""),
        ("live live", 2, ""),
        ("live live live live", 2, "hold 2, hold 3"),
        ("live pausing live live", 2, "hold 3"),
        ("live live", 0, "hold 0, hold 1"),
        ("live due due", 2, "begin 1.1"),
        ("due due due", 2, "begin 0.1, begin 1.1"),
        ("live live pausing", 3, ""),  # its attempt has to end first
        ("live live held held", 2, ""),
        ("live live held held", 3, "release 2, begin 2.2"),
        ("live live held held", 9, "release 2, release 3, begin 2.2, begin 3.2"),
        ("live due held", 2, "begin 1.1"),  # who is due was there first
        ("leaving leaving due", 2, ""),  # a slot is free when its process is gone
        ("leaving held", 2, "release 1, begin 1.2"),
        ("paused gone live", 1, ""),
        ("live held", 0, "hold 0"),
    ],
)
def test_who_runs(trials: str, workers: int, what: str) -> None:
    assert said(trials, workers) == what


@given(some.lists(some.sampled_from(WORDS), max_size=12), some.integers(0, 8))
def test_never_more_than_workers_and_a_second_look_changes_nothing(words: list[str], workers: int) -> None:
    now = history(*words)
    before = len(now.live)
    for event in list(balance(now, workers)):
        now.apply(event)
    for start in due(now, workers):
        now.apply(start)
    assert len(now.live) <= max(workers, before)
    assert list(balance(now, workers)) == due(now, workers) == []
    free = [t for t in now.trials if t.id in now.running and not t.live]
    assert len(now.live) >= min(workers, len(now.live) + len(free)), "a worker is idle while a trial waits"
    assert occupied(now) == len(now.live) + sum(not trial.held for trial in free)


def test_released_trials_are_the_oldest_and_held_ones_the_newest() -> None:
    now = history("live", "live", "held", "held")
    assert list(balance(now, 3)) == [Released(2)]
    assert list(balance(now, 1)) == [Held(1, "workers=1")]
    assert due(now, 4) == []
    assert [*due(history("due"), 1)] == [AttemptStarted(0, 1)]


def test_a_policy_is_the_most_that_anybody_gets() -> None:
    found = history("live")
    assert [allowed(found, 4), allowed(found, 4, 2), allowed(found, 4, 9)] == [4, 2, 4]
    found.apply(Steered("workers", 100))
    assert [allowed(found, 4), allowed(found, 4, 2)] == [100, 2]
    found.apply(Steered("paused", 1))
    assert allowed(found, 4, 2) == 0
