"""The demo's promise, on recorded curves: better than random search with the same number of epochs."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from benchmarks.digits import compared

TABLE = Path(__file__).parents[2] / "benchmarks" / "tables" / "digits.npz"


def test_the_default_method_beats_random_search_with_the_same_epochs() -> None:
    pairs = list(compared(TABLE, seeds=5))
    assert all(ours.epochs == theirs.epochs for ours, theirs in pairs)
    assert mean(ours.test for ours, _ in pairs) < mean(theirs.test for _, theirs in pairs)
    assert sum(ours.validation < theirs.validation for ours, theirs in pairs) >= 4
