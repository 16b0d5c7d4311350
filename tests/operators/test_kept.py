"""Which checkpoints an agent keeps of a trial: what the engine takes for the best must be among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpo_engine.objective import Constraint, Metric, Objective
from operators.agent import Attempt
from operators.attempt import AttemptSpec, Order, encode_order, order_key, trial_prefix
from operators.checkpoints import Checkpoints
from operators.store import DirectoryStore
from operators.trial_dir import METRICS
from tests.operators.trials import SPEC, reports

LONG = replace(SPEC, until=9)


def attempt(root: Path, spec: AttemptSpec, store: DirectoryStore | None = None) -> Attempt:
    begun = Attempt(spec, store or DirectoryStore(root / "store"), root / f"trial-{spec.attempt}")
    begun.prepare()
    return begun


def report(trial: Attempt, resource: int, metrics: str) -> None:
    """A line with a checkpoint that only this attempt could have written."""
    (trial.folder / f"ckpt-{resource}").write_text(f"{trial.spec.attempt} {resource}")
    with (trial.folder / METRICS).open("a") as lines:
        lines.write(f'{{"epoch": {resource}, "checkpoint": "ckpt-{resource}", {metrics}}}\n')
    trial.pump()
    assert not trial.fault


def kept(root: Path) -> dict[int, str]:
    """resource -> what is restored."""
    checkpoints = Checkpoints(DirectoryStore(root / "store"), trial_prefix("s", 0))
    found = {}
    for resource in range(1, 10):
        if checkpoints.restore_at(resource, root / "found") is not None:
            found[resource] = (root / "found" / f"ckpt-{resource}").read_text()
    return found


ODD = {
    "a loss of -inf": ("min", ['"loss": 0.1', '"loss": "-Infinity"'], ()),
    "a loss of inf, maximised": ("max", ['"loss": 0.1', '"loss": "Infinity"'], ()),
    "a constraint's metric of NaN": ("min", ['"loss": 0.1, "ms": 3', '"loss": 0.05, "ms": NaN'], ("ms",)),
    "one that is infeasible": ("min", ['"loss": 0.1, "ms": 3', '"loss": 0.05, "ms": 5.5'], ("ms",)),
}


@pytest.mark.parametrize("case", ODD)
def test_the_best_is_the_engines(tmp_path: Path, case: str) -> None:
    mode, (good, odd), bound = ODD[case]
    spec = replace(
        LONG,
        maximise=mode == "max",
        metrics=("loss", *bound),
        bounds=dict.fromkeys(bound, (None, 5.0)),
    )
    trial = attempt(tmp_path, spec)
    lines = [good, odd, odd, odd]
    for resource, line in enumerate(lines, 1):
        report(trial, resource, line)
    objective = Objective(
        (Metric("loss", mode == "max"),), tuple(Constraint(name, high=5.0) for name in bound)
    )
    best = min(reports(tmp_path), key=lambda told: objective.score(told.metrics))
    assert best.resource == 1
    assert kept(tmp_path).keys() == {1, 3, 4}


def test_what_is_measured_once_more_does_not_replace_what_counts(tmp_path: Path) -> None:
    """From 0 again, and training that is not repeatable: the engine has dropped these reports."""
    spec = replace(LONG, resumable=False, until=3)
    first = attempt(tmp_path, spec)
    for resource, loss in enumerate((0.3, 0.1, 0.2), 1):
        report(first, resource, f'"loss": {loss}')
    again = attempt(tmp_path, replace(spec, attempt=2, until=9, reported=3))
    for resource in (1, 2, 3):
        report(again, resource, '"loss": 0.15')
    assert kept(tmp_path) == {2: "1 2", 3: "1 3"}
    report(again, 4, '"loss": 0.12')
    report(again, 5, '"loss": 0.13')
    assert kept(tmp_path) == {2: "1 2", 4: "2 4", 5: "2 5"}
    assert not list((tmp_path / "trial-2").glob("ckpt-*")), "there is room again"


class Slow(DirectoryStore):
    """Something happens while a file is uploaded."""

    then: Callable[[], object]

    def upload(self, key: str, path: Path) -> None:
        super().upload(key, path)
        self.then()


def test_who_was_replaced_during_an_upload_prunes_and_tells_nothing(tmp_path: Path) -> None:
    slow = Slow(tmp_path / "store")
    slow.then = lambda: None
    trial = attempt(tmp_path, LONG, slow)
    for resource in (1, 2):
        report(trial, resource, f'"loss": {1 / resource}')
    slow.then = lambda: slow.put(order_key("s", 0), encode_order(Order(9, False, 2)))
    report(trial, 3, '"loss": 0.01')
    assert trial.fenced == 2
    assert [told.resource for told in reports(tmp_path)] == [1, 2]
    assert kept(tmp_path).keys() == {1, 2, 3}


@pytest.mark.parametrize("name", ["../mine", ".", "..", "nowhere"])
def test_what_is_not_kept_has_to_be_a_checkpoint_too(tmp_path: Path, name: str) -> None:
    """It is removed: so it must be below the trial's directory."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").write_text("years of work")
    again = attempt(tmp_path, replace(LONG, resumable=False, attempt=2, reported=3))
    (again.folder / METRICS).write_text(f'{{"epoch": 1, "checkpoint": "{name}", "loss": 1}}\n')
    again.pump()
    assert "checkpoint" in again.fault
    assert (tmp_path / "mine" / "model").exists()
