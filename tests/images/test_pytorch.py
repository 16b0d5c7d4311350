"""The PyTorch trial: paused and promoted it is, bit for bit, what it would have been without a pause.

Where torch is installed; in its image, on a cluster, tests/cluster/test_pytorch.py sees the same.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo_engine.types import Outcome
from operators.attempt import AttemptSpec, trial_prefix
from operators.checkpoints import Checkpoints
from tests.operators.trials import SPEC, reports, run, store

torch = pytest.importorskip("torch", reason="torch is not installed here: pip install torch scikit-learn")
ROOT = Path(__file__).parents[2]
CONFIG = {"alpha": 1e-4, "batch_size": 64, "learning_rate": 0.05, "momentum": 0.9, "width": 32}


def trial(reported: int, until: int, *options: str) -> AttemptSpec:
    return replace(
        SPEC,
        attempt=reported + 1,
        config=CONFIG,
        reported=reported,
        until=until,
        command=(sys.executable, "train.py", *options),
        metrics=("val_error", "train_loss"),
        env={"PYTHONPATH": str(ROOT / "images/trial"), "OMP_NUM_THREADS": "1"},
        workdir=str(ROOT / "images/trial-pytorch"),
    )


def curve(root: Path) -> list[tuple[int, dict[str, float]]]:
    return [(report.resource, dict(report.metrics)) for report in reports(root)]


def saved(root: Path) -> dict[str, Any]:
    """What the checkpoint of epoch 3 holds."""
    kept = Checkpoints(store(root), trial_prefix(SPEC.study, SPEC.trial))
    assert kept.restore_at(3, root / "restored") is not None
    found: dict[str, Any] = torch.load(root / "restored/state.pt", weights_only=False)
    return found


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, in all that is in them."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)


@pytest.mark.parametrize("options", [["--workers=2"], ["--amp", "--workers=0"]], ids=" ".join)
def test_a_promoted_trial_is_an_uninterrupted_one_bit_for_bit(tmp_path: Path, options: list[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for root, reported, until in ((whole, 0, 3), (parts, 0, 1), (parts, 1, 3)):
        ended = run(root, trial(reported, until, *options), seconds=120.0, patience=5.0)
        assert (ended.outcome, ended.started_at) == (Outcome.OK, reported)
    assert curve(whole) == curve(parts)
    one, other = saved(whole), saved(parts)
    assert {"model", "optimiser", "schedule", "order", "python", "numpy", "torch", "cuda"} == one.keys()
    assert same(one, other)
    errors = [metrics["val_error"] for _, metrics in curve(whole)]
    assert errors[-1] < errors[0] < 0.9  # it learns
    # What is random was used: else all this would be no proof.
    torch.manual_seed(0)
    assert not torch.equal(one["torch"], torch.get_rng_state())
    assert not torch.equal(one["order"], torch.Generator().get_state())
