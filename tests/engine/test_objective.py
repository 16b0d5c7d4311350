from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_engine.objective import DIVERGED, Constraint, Metric, Objective, Score

INF, NAN = math.inf, math.nan
least, most = Objective((Metric("v"),)), Objective((Metric("v", maximise=True), Metric("other")))
bounded = Objective((Metric("v"),), (Constraint("size", high=10.0), Constraint("speed", low=2.0, high=5.0)))


@pytest.mark.parametrize(
    ("objective", "metrics", "score"),
    [
        (least, {"v": 0.25}, Score(False, 0.0, 0.25)),
        (least, {"v": 3}, Score(False, 0.0, 3)),
        (least, {"v": NAN}, DIVERGED),
        (least, {"v": INF}, DIVERGED),
        (least, {"v": -INF}, DIVERGED),  # the best of all losses is no loss
        (least, {}, DIVERGED),
        (most, {"v": 0.75}, Score(False, 0.0, -0.75)),
        (most, {"v": INF}, DIVERGED),
        (most, {"v": -INF}, DIVERGED),
        (most, {"v": 0.5, "other": NAN}, Score(False, 0.0, -0.5)),  # it is shown, not optimised
        (bounded, {"v": 1.0, "size": 10.0, "speed": 2.0}, Score(False, 0.0, 1.0)),
        (bounded, {"v": 1.0, "size": 12.0, "speed": 3.0}, Score(False, 2.0, 1.0)),
        (bounded, {"v": 1.0, "size": 12.0, "speed": 1.5}, Score(False, 2.5, 1.0)),
        (bounded, {"v": 1.0, "size": 9.0, "speed": 9.0}, Score(False, 4.0, 1.0)),
        (bounded, {"v": 1.0, "size": NAN, "speed": 3.0}, DIVERGED),
        (bounded, {"v": 1.0, "size": -INF, "speed": 3.0}, DIVERGED),
        (bounded, {"v": 1.0, "size": 1.0}, DIVERGED),
        (bounded, {"v": NAN, "size": 1.0, "speed": 3.0}, DIVERGED),
    ],
)
def test_scores(objective: Objective, metrics: dict[str, float], score: Score) -> None:
    assert objective.score(metrics) == score


def test_best_first() -> None:
    ranked = [
        Score(False, 0.0, -5.0),
        Score(False, 0.0, 7.0),
        Score(False, 0.1, -100.0),  # infeasible, whatever its loss
        Score(False, 0.1, 3.0),
        Score(False, 2.0, -100.0),
        DIVERGED,
    ]
    worst_first = ranked[::-1]
    assert sorted(worst_first) == ranked
    assert [score.feasible for score in ranked] == [True, True, False, False, False, False]


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_finite_record_has_one_slack_for_each_bound(value: float, size: float, speed: float) -> None:
    metrics = {"v": value, "size": size, "speed": speed}
    assert len(bounded.slacks(metrics)) == 3


@given(st.dictionaries(st.sampled_from(["v", "size", "speed"]), st.floats()))
def test_no_score_holds_nan_and_only_whole_ones_are_feasible(metrics: dict[str, float]) -> None:
    score = bounded.score(metrics)
    assert not any(math.isnan(part) for part in score)
    finite = len(metrics) == 3 and all(map(math.isfinite, metrics.values()))
    assert score.feasible == (finite and metrics["size"] <= 10 and 2 <= metrics["speed"] <= 5)
