"""Expected improvement against plain sampling, and the search for its maximum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from hpo_engine.gp.acquisition import Acquisition, Limit, incumbents, log_improvement
from hpo_engine.gp.maximise import ascend, maximise, neighbours
from hpo_engine.gp.regression import condition
from hpo_engine.space import Categorical, Condition, Float, Int, Parameter, SearchSpace

GROUPS = np.array([0, 1, 2])
THETA = np.array([-1.0, 0.2, 0.5, 0.0, -5.0, 0.0])


def model(seed, fantasies=1):
    rng = np.random.default_rng(seed)
    pending = rng.random((3 if fantasies > 1 else 0, 3))
    normals = rng.standard_normal((len(pending), fantasies))
    return condition(THETA, GROUPS, rng.random((10, 3)), rng.standard_normal(10), pending, normals)


@pytest.mark.parametrize("t", [-40.0, -6.0, -1.5, -0.5, 0.0, 2.0, 30.0])
def test_log_improvement_is_the_integral(t):
    # E max(0, t - e), e standard normal; scaled by phi(t), or the tail is too small to integrate
    scaled, _ = quad(lambda a: a * np.exp(-0.5 * a * a + a * t), 0, 60) if t < 0 else (None, None)
    expected = np.log(scaled) + norm.logpdf(t) if t < 0 else np.log(t * norm.cdf(t) + norm.pdf(t))
    assert log_improvement(t) == pytest.approx(expected, rel=1e-8)


def test_log_improvement_is_finite_and_increasing_from_end_to_end():
    t = np.concatenate([-np.logspace(150, -5, 400), np.logspace(-5, 150, 400)])
    value = log_improvement(t)
    assert np.isfinite(value).all()
    assert (np.diff(value) > 0).all()


def test_feasible_improvement_averaged_over_fantasies_is_the_monte_carlo_mean():
    loss, slack = model(0, fantasies=4), model(1, fantasies=4)
    best = np.array([1.1, 0.8, 1.0, 1.5])
    u = np.random.default_rng(5).random((3, 2))
    acquisition = Acquisition(loss, (Limit(slack, 0.8),), best, 1.0)
    z = np.column_stack([u, np.ones(3)])
    draws = np.random.default_rng(6).standard_normal((2, 100_000, 3, 1))
    (m, sd), (mc, sc) = loss.predict(z), slack.predict(z)
    gain = np.maximum(best - (m + sd * draws[0]), 0) * (mc + sc * draws[1] <= 0.8)
    np.testing.assert_allclose(np.exp(acquisition(u)), gain.mean((0, 2)), rtol=0.01, atol=2e-4)
    assert (gain.mean((0, 2)) > 0.01).all()  # or the test would say little


@pytest.mark.parametrize(
    ("feasible", "expected"),
    [
        ([[1, 1], [1, 1], [1, 1]], [1.0, 0.0]),
        ([[0, 1], [1, 0], [1, 1]], [2.0, 4.0]),  # each fantasy has its own
        ([[0, 0], [0, 0], [0, 0]], [3.0, 5.0]),  # none: anything feasible improves on the worst
    ],
)
def test_incumbents(feasible, expected):
    means = np.array([[1.0, 5.0], [2.0, 0.0], [3.0, 4.0]])
    assert incumbents(means, np.array(feasible, bool)).tolist() == expected


SPACE = SearchSpace(
    [
        Parameter("x", Float(0.0, 1.0)),
        Parameter("k", Int(0, 9)),
        Parameter("c", Categorical(("a", "b", "d"))),
        Parameter("y", Float(0.0, 1.0), Condition("c", ("b",))),
    ]
)


def bowl(u):  # best at x = 0.3, k = 7, c = b, y = 0.8
    target = SPACE.encode([{"x": 0.3, "k": 7, "c": "b", "y": 0.8}])[0]
    return -((u - target) ** 2).sum(1)


@pytest.mark.parametrize("seed", range(5))
def test_maximise_finds_the_top_through_integers_categories_and_conditions(seed):
    centres = SPACE.encode(SPACE.sample(3, np.random.default_rng(100 + seed)))
    best = maximise(bowl, SPACE, centres, np.random.default_rng(seed), count=250)[0]
    assert (best["c"], best["k"]) == ("b", 7)
    assert best["x"] == pytest.approx(0.3, abs=1e-3)
    assert best["y"] == pytest.approx(0.8, abs=1e-3)


def test_ascent_stays_in_the_cube_and_moves_only_what_is_free():
    u = np.full((2, SPACE.width), 0.4)
    free = np.zeros_like(u, bool)
    free[0, 0] = True
    reached = ascend(lambda v: 5 * v.sum(1), u, free)
    assert reached[0, 0] == 1.0
    assert (reached[~free] == 0.4).all()


def test_ascent_of_what_has_no_value_goes_nowhere():
    u = np.full((2, SPACE.width), 0.4)
    reached = ascend(lambda v: v.sum(1) * np.nan, u, np.ones_like(u, bool))
    assert ((reached >= 0) & (reached <= 1)).all()


def test_a_neighbour_differs_in_something():
    centre = SPACE.encode([{"x": 0.5, "k": 3, "c": "a"}])
    near = neighbours(SPACE, centre, 200, np.random.default_rng(0))
    configs = SPACE.decode(near)
    assert {config["c"] for config in configs} == {"a", "b", "d"}
    assert sum(config["c"] == "a" for config in configs) > 100
    assert len({config["y"] for config in configs if "y" in config}) > 10  # woken by its parent: anywhere
    assert np.median(np.abs(near[:, 0] - 0.5)) < 0.1


def test_a_small_space_is_searched_whole():
    space = SearchSpace([Parameter("k", Int(0, 9)), Parameter("c", Categorical(("a", "b")))])
    best = maximise(lambda u: u[:, 0] + u[:, 1], space, space.encode([{"k": 0, "c": "b"}]),
                    np.random.default_rng(0), count=50)  # fmt: skip
    assert best[0] == {"k": 9, "c": "a"}
    assert {space.key(config) for config in best} == {space.key(config) for config in space.points()}
