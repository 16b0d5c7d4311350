"""An agent that is killed, or whose store goes away, at every single moment; the training code runs on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpo_engine.types import Outcome
from operators.agent import Attempt
from operators.attempt import AttemptSpec, Order, encode_order, order_key
from operators.checkpoints import Checkpoints
from operators.store import DirectoryStore
from operators.verdict import Death, judge
from tests.operators.trials import SPEC, reports


class KilledError(BaseException):
    """SIGKILL: nothing in the agent catches it."""


class Faulty:
    """A store that fails at its `at`-th call, before it is done or after; all that it was given is kept."""

    def __init__(self, root: Path, at: int, error: BaseException, after: bool) -> None:
        self.store, self.at, self.error, self.after = DirectoryStore(root), at, error, after
        self.calls = 0
        self.puts: dict[str, set[bytes]] = {}

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., object] = getattr(self.store, name)

        def call(*arguments: Any) -> object:
            self.calls += 1
            if self.calls == self.at and not self.after:
                raise self.error
            if name == "put":
                self.puts.setdefault(arguments[0], set()).add(arguments[1])
            result = method(*arguments)
            if self.calls == self.at:
                raise self.error
            return result

        return call


def write(folder: Path, epoch: int) -> None:
    """As the training code does: a checkpoint of two files, then the line."""
    checkpoint = folder / f"ckpt-{epoch}"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text(f"weights {epoch}")
    (checkpoint / "vocabulary").write_text("the same in all of them")
    loss = "NaN" if epoch == 2 else 1 / epoch
    line = f'{{"epoch": {epoch}, "loss": {loss}, "checkpoint": "ckpt-{epoch}"}}\n'
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line)


def run(root: Path, at: int, error: BaseException, after: bool) -> tuple[Attempt, Faulty]:
    """Four epochs, of which one is committed before the other three; on the fault, whatever follows it."""
    folder = root / "trial"
    spec = replace(SPEC, until=4)
    store = Faulty(root / "store", 0, error, after)
    ticks = iter(range(10_000))

    def agent() -> Attempt:
        return Attempt(spec, store, folder, lambda: float(next(ticks)), root / "progress.json")

    attempt = agent()
    attempt.prepare()
    attempt.remember()
    store.calls, store.at = 0, at
    for epochs in ((1,), (2, 3, 4)):
        for epoch in epochs:
            write(folder, epoch)
        while True:
            try:
                attempt.pump()
                attempt.follow()
                break
            except KilledError:
                attempt = agent()
                attempt.take_up()
            except OSError:
                pass  # the same agent tries again
    return attempt, store


CALLS = 80  # more than there are


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after"])
@pytest.mark.parametrize("error", [KilledError(), OSError("away")], ids=["killed", "store away"])
def test_no_line_is_lost_and_none_told_twice_in_two_ways(
    tmp_path: Path, error: BaseException, after: bool
) -> None:
    at, calls = 0, CALLS
    while at <= calls:
        at += 1
        root = tmp_path / str(at)
        attempt, store = run(root, at, error, after)
        calls = store.calls
        assert (attempt.fault, attempt.reached, attempt.start, attempt.fulfilled) == ("", 4, 0, True)
        assert [report.resource for report in reports(root)] == [1, 2, 3, 4]
        assert {key for key, written in store.puts.items() if len(written) > 1} == set()
        newest = Checkpoints(store.store, "s/trials/00000000/").restore(root / "again")[0]
        assert newest is not None
        assert newest.report == reports(root)[-1]
        assert (root / "again/weights").read_text() == "weights 4"
        assert not list((root / "trial").glob("ckpt-*"))
        assert judge(attempt.facts(), Death(0), 0, 1).units == 4
    assert 30 < at < CALLS  # every call was met, the last one with no fault at all


def resumed(root: Path, spec: AttemptSpec) -> Attempt:
    attempt = Attempt(spec, DirectoryStore(root / "store"), root / "trial", memory=root / "progress.json")
    attempt.take_up()
    return attempt


def begun(root: Path, spec: AttemptSpec) -> Attempt:
    attempt = Attempt(spec, DirectoryStore(root / "store"), root / "trial", memory=root / "progress.json")
    attempt.prepare()
    attempt.remember()
    return attempt


def test_a_follower_knows_what_its_forerunner_did(tmp_path: Path) -> None:
    spec = replace(SPEC, until=5)
    first = begun(tmp_path, spec)
    write(first.folder, 1)
    first.pump()
    second = resumed(tmp_path, spec)
    write(first.folder, 2)
    second.pump()
    assert (second.reached, second.facts().units) == (2, 2)
    third = resumed(tmp_path, spec)
    with (first.folder / "metrics.jsonl").open("a") as file:
        file.write('{"loss": 1, "checkpoint": "ckpt-1"}\n')
    third.pump()
    assert third.fault == "metrics.jsonl, line 3: checkpoint 'ckpt-1' again: give each a new name"


def test_half_a_checkpoint_left_by_a_killed_agent_is_not_uploaded(tmp_path: Path) -> None:
    """It was killed while it made room: the manifest is there, of the files only some."""
    first = begun(tmp_path, replace(SPEC, until=5))
    write(first.folder, 1)
    first.pump()
    files = first.folder / "ckpt-1"
    files.mkdir()
    (files / "vocabulary").write_text("the same in all of them")  # `weights` is gone already
    memory = tmp_path / "progress.json"
    values = json.loads(memory.read_text())
    seconds = reports(tmp_path)[0].seconds
    memory.write_text(json.dumps({**values, "lines": 0, "seconds": seconds}))
    before = reports(tmp_path)
    second = resumed(tmp_path, replace(SPEC, until=5))
    second.pump()
    assert (second.reached, reports(tmp_path)) == (1, before)
    newest = Checkpoints(second.store, "s/trials/00000000/").newest()
    assert newest is not None
    assert [file.path for file in newest.files] == ["vocabulary", "weights"]
    assert not files.exists()


def test_lines_that_vanish_under_a_restarted_agent_break_the_contract(tmp_path: Path) -> None:
    first = begun(tmp_path, replace(SPEC, until=5))
    write(first.folder, 1)
    first.pump()
    (first.folder / "metrics.jsonl").write_text("")
    second = resumed(tmp_path, replace(SPEC, until=5))
    assert second.fault.startswith("metrics.jsonl: lines that were there are gone")
    assert judge(second.facts(), Death(0), 0, 1).outcome is Outcome.NO_METRIC


def test_an_exit_that_crossed_a_raised_order_is_no_failure_after_a_restart(tmp_path: Path) -> None:
    first = begun(tmp_path, replace(SPEC, until=1))
    write(first.folder, 1)
    first.pump()
    second = resumed(tmp_path, replace(SPEC, until=1))
    second.store.put(order_key("s", 0), encode_order(Order(3)))
    second.follow()
    assert not second.fulfilled
    assert judge(second.facts(), Death(0), 0, 1).outcome is Outcome.OK


def test_a_later_attempt_fences_an_earlier_one(tmp_path: Path) -> None:
    attempt = begun(tmp_path, replace(SPEC, until=5, attempt=2))
    attempt.store.put(order_key("s", 0), encode_order(Order(5, attempt=2)))
    attempt.follow()
    write(attempt.folder, 1)
    attempt.pump()
    attempt.store.put(order_key("s", 0), encode_order(Order(9, attempt=3)))
    assert attempt.follow() is False
    write(attempt.folder, 2)
    assert (attempt.pump(), attempt.reached, attempt.order.until) == (0, 1, 5)
    facts = attempt.facts(Outcome.INTERRUPTED)
    assert judge(facts, Death(143), 0, 2).evidence["message"] == "attempt 3 has taken over"
    assert json.loads((attempt.folder / "order.json").read_text()) == {"until": 5, "stop": False}


def test_metrics_that_cannot_be_read_are_no_store_that_is_away(tmp_path: Path) -> None:
    attempt = begun(tmp_path, SPEC)
    (attempt.folder / "metrics.jsonl").mkdir()
    attempt.pump()
    assert attempt.fault == "metrics.jsonl, line 0: the file cannot be read: Is a directory"
