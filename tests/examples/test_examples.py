"""The examples run as their readers will run them: under a real agent."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.study.file import load_study
from hpo_engine.types import Outcome, Report
from operators.attempt import AttemptSpec
from tests.operators.trials import SPEC, reports, run, store

ROOT = Path(__file__).parents[2]
DIGITS = {
    "activation": "relu", "alpha": 1e-3, "batch_size": 64, "layers": 2, "learning_rate": 0.05,
    "momentum": 0.9, "noise": 0.3, "width": 32,
}  # fmt: skip


@pytest.mark.parametrize("name", ["digits", "shell"])
def test_study_files_are_valid(name: str) -> None:
    study = load_study(ROOT / f"examples/{name}/study.yaml")
    assert study.levels() == (1, 3, 9, 27)


def test_digits_has_eight_hyperparameters_one_of_them_categorical() -> None:
    space = load_study(ROOT / "examples/digits/study.yaml").space
    assert len(space) == len(DIGITS) == 8
    assert sorted(space) == sorted(DIGITS)
    assert [name for name, parameter in space.items() if parameter.type == "categorical"] == ["activation"]


def digits(until: int, attempt: int = 1) -> AttemptSpec:
    return replace(
        SPEC,
        attempt=attempt,
        config=DIGITS,
        until=until,
        reported=until - 1,
        command=(sys.executable, "train.py"),
        metrics=("val_error", "test_error"),
        env={"PYTHONPATH": str(ROOT / "images/trial"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        workdir=str(ROOT / "examples/digits"),
    )


def curve(root: Path) -> list[tuple[int, dict[str, float]]]:
    return [(report.resource, dict(report.metrics)) for report in reports(root)]


def test_digits_resumed_is_digits_uninterrupted_to_the_last_bit(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, digits(3), seconds=120.0, patience=5.0).outcome is Outcome.OK
    assert run(parts, digits(1), seconds=120.0, patience=5.0).outcome is Outcome.OK
    second = run(parts, digits(3, attempt=2), seconds=120.0, patience=5.0)
    assert (second.outcome, second.started_at, second.units) == (Outcome.OK, 1, 2)
    assert curve(whole) == curve(parts)
    losses = [metrics["train_loss"] for _, metrics in curve(whole)]
    assert losses == sorted(losses, reverse=True)


def shell(until: int, attempt: int = 1) -> AttemptSpec:
    return replace(
        SPEC,
        attempt=attempt,
        config={"learning_rate": 1e-1},
        until=until,
        command=("sh", "train.sh"),
        env={"PATH": os.environ["PATH"]},
        workdir=str(ROOT / "examples/shell"),
    )


@pytest.mark.skipif(shutil.which("awk") is None, reason="needs awk")
def test_shell_follows_the_contract(tmp_path: Path) -> None:
    assert run(tmp_path, shell(3)).outcome is Outcome.OK
    second = run(tmp_path, shell(9, attempt=2))
    assert (second.outcome, second.started_at, second.units) == (Outcome.OK, 3, 6)
    told: dict[int, Report] = {report.resource: report for report in reports(tmp_path)}
    assert [told[epoch].checkpoint for epoch in range(1, 10)] == [True] * 9
    assert told[9].metrics["loss"] == pytest.approx(1 + (3 * 0.8**9) ** 2, rel=1e-9)
    assert len(store(tmp_path).list("s/trials/00000000/checkpoints/")) == 2
