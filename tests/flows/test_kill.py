"""kill -9 of real controllers over real trials: nothing is lost, nothing runs twice, nothing is left."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.study.store import open_store
from hpo_engine.types import AttemptEnded, AttemptStarted, Report, Start
from tests.flows.invariants import check_journal
from tests.flows.real_study import controller, trial_processes, write_study

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

KILLS = 22
TRIALS = 250


def gone(folder: Path, within: float) -> bool:
    deadline = time.monotonic() + within
    while trial_processes(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_many_kills_in_one_study(tmp_path: Path) -> None:
    chance = random.Random(7)
    path, study = write_study(tmp_path, trials=TRIALS)
    store = open_store(study)
    killed = 0
    while killed < KILLS:
        batches = len(store.list("killed/journal/"))
        process = controller(path)
        until(lambda before=batches: len(store.list("killed/journal/")) > before)
        time.sleep(chance.random() * 0.8)
        assert process.poll() is None, f"ended after {killed} kills: {process.communicate()}"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
        if killed % 5 == 0:
            assert gone(tmp_path, within=5), "training code outlived its controller"
    process = controller(path)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert f"the budget of {TRIALS} trials is used" in out

    events = check_journal(study, store)
    assert sum(isinstance(event, Start) for event in events) == TRIALS
    assert store.list("killed/inbox/") == []
    assert gone(tmp_path, within=5)
    reports = [event for event in events if isinstance(event, Report)]
    for trial in range(TRIALS):
        told = sorted((r.resource, r.metrics["sum"]) for r in reports if r.trial == trial)
        # The sum is carried by checkpoints alone: one that was lost, torn or another trial's would show.
        assert told == [(epoch, epoch * (epoch + 1) / 2) for epoch in range(1, len(told) + 1)]


def test_a_second_controller_is_refused_and_can_take_over(tmp_path: Path) -> None:
    path, study = write_study(tmp_path, name="taken", trials=100_000)
    first = controller(path)
    store = open_store(study)
    until(lambda: len(store.list("taken/journal/")) > 3)
    second = controller(path)
    _, err = second.communicate(timeout=60)
    assert second.returncode != 0
    assert f"process {first.pid}" in err
    assert "--take-over" in err
    assert first.poll() is None

    third = controller(path, "take-over")
    _, err = first.communicate(timeout=60)
    assert first.returncode != 0
    assert "Fenced" in err
    batches = len(store.list("taken/journal/"))
    until(lambda: len(store.list("taken/journal/")) > batches + 10)

    third.send_signal(signal.SIGINT)
    _, err = third.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert gone(tmp_path, within=1), "an interrupt leaves no trial"
    events = check_journal(study, store)
    started = sum(isinstance(event, AttemptStarted) for event in events)
    assert sum(isinstance(event, AttemptEnded) for event in events) == started
    fourth = controller(path)  # nobody holds it: it goes on at once
    until(lambda: len(store.list("taken/journal/")) > batches + 20)
    fourth.send_signal(signal.SIGINT)
    fourth.communicate(timeout=30)
    check_journal(study, store)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
