"""Search spaces: encode and decode are inverse, and mistakes are named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_engine.space import Categorical, Condition, Float, Int, Ordinal, Parameter, SearchSpace
from hpo_engine.types import SpaceError

MLP = SearchSpace(
    [
        Parameter("rate", Float(1e-5, 1.0, log=True)),
        Parameter("momentum", Float(0.0, 0.99), Condition("solver", ("sgd",))),
        Parameter("solver", Categorical(("sgd", "adam", "lbfgs"))),
        Parameter("units", Int(1, 512, log=True)),
        Parameter("layers", Int(1, 4)),
        Parameter("units_2", Int(8, 64), Condition("layers", (2, 3, 4))),
        Parameter("batch", Ordinal((16, 32, 64, 128))),
        Parameter("shuffle", Categorical((True, False))),
    ]
)


@st.composite
def domains(draw):
    kind = draw(st.sampled_from(["float", "log float", "int", "log int", "ordinal", "categorical"]))
    if kind == "float":
        low, high = sorted(draw(st.tuples(*[st.floats(-1e150, 1e150)] * 2)))
        return Float(low, high)
    if kind == "log float":
        low, high = sorted(draw(st.tuples(*[st.floats(1e-300, 1e300)] * 2)))
        return Float(low, high, log=True)
    if kind == "int":
        low, high = sorted(draw(st.tuples(*[st.integers(-(2**40), 2**40)] * 2)))
        return Int(low, high)
    if kind == "log int":
        low, high = sorted(draw(st.tuples(*[st.integers(1, 2**40)] * 2)))
        return Int(low, high, log=True)
    values = draw(st.lists(st.integers() | st.text() | st.booleans(), min_size=1, max_size=6, unique_by=repr))
    return (Ordinal if kind == "ordinal" else Categorical)(tuple(values))


@given(domains(), st.integers(0, 2**32 - 1))
def test_what_is_decoded_is_encoded_and_decoded_again(domain, seed):
    space = SearchSpace([Parameter("p", domain)])
    corners = np.vstack([np.zeros(space.width), np.ones(space.width)])
    for config in space.sample(8, np.random.default_rng(seed)) + space.decode(corners):
        assert space.problems(config) == []
        again = space.decode(space.encode([config]))[0]
        if isinstance(domain, Float):
            size = abs(config["p"]) if domain.log else domain.high - domain.low
            assert abs(again["p"] - config["p"]) <= 1e-12 * size
            assert domain.low <= again["p"] <= domain.high
        else:
            assert again == config
            assert type(again["p"]) is type(config["p"])


@given(st.integers(0, 2**32 - 1))
def test_a_conditional_space_round_trips(seed):
    configs = MLP.sample(20, np.random.default_rng(seed))
    u = MLP.encode(configs)
    assert ((u >= 0) & (u <= 1)).all()
    again = MLP.decode(u)
    assert [MLP.key({**a, "rate": 1.0, "momentum": 0.5}) for a in again] == [
        MLP.key({**c, "rate": 1.0, "momentum": 0.5}) for c in configs
    ]
    assert [list(a) for a in again] == [list(c) for c in configs]
    np.testing.assert_allclose(MLP.encode(again), u, rtol=0, atol=1e-12)


def test_a_configuration_in_the_unit_cube():
    u = MLP.encode([{**GOOD, "rate": 1e-5, "units": 512, "shuffle": True}])
    one = math.sqrt(0.5)
    units = (math.log(512) - math.log(0.5)) / (math.log(512.5) - math.log(0.5))
    #                       rate momentum  solver       units  layers units_2 batch   shuffle
    np.testing.assert_allclose(u, [[0, 0.5, 0, one, 0, units, 1 / 8, 0.5, 3 / 8, one, 0]])
    assert MLP.groups.tolist() == [0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 7]
    assert MLP.numeric.tolist() == [True, True, False, False, False, True, True, True, True, False, False]
    assert MLP.mask(MLP.decode(u)).tolist() == [[True, False, *[True] * 5, False, True, True, True]]


def test_different_categories_lie_at_distance_one():
    space = SearchSpace([Parameter("c", Categorical(("a", "b", "c")))])
    a, b = space.encode([{"c": "a"}, {"c": "c"}])
    assert np.linalg.norm(a - b) == pytest.approx(1.0)


@pytest.mark.parametrize("domain", [Int(3, 7), Ordinal((3, 4, 5, 6, 7)), Categorical((3, 4, 5, 6, 7))])
def test_every_value_has_the_same_mass(domain):
    space = SearchSpace([Parameter("p", domain)])
    drawn = [config["p"] for config in space.sample(20_000, np.random.default_rng(0))]
    counts = [drawn.count(value) for value in range(3, 8)]
    assert sum(counts) == 20_000
    assert max(abs(count - 4000) for count in counts) < 250  # 4.4 standard deviations


def test_decoded_values_are_plain_python():
    for config in MLP.sample(50, np.random.default_rng(1)):
        assert {type(value) for value in config.values()} <= {float, int, str, bool}


SMALL = SearchSpace(
    [
        Parameter("depth", Int(1, 3), Condition("kind", ("tree", 1))),
        Parameter("kind", Categorical(("tree", "line", True, 1))),
        Parameter("step", Ordinal((0.1, 1.0))),
    ]
)


def test_a_finite_space_counts_and_lists_its_points():
    points = list(SMALL.points())
    assert SMALL.size == len(points) == 2 * (3 + 1 + 1 + 3)
    assert len({SMALL.key(point) for point in points}) == len(points)
    assert all(SMALL.problems(point) == [] for point in points)
    drawn = SMALL.sample(2000, np.random.default_rng(0))
    assert {SMALL.key(config) for config in drawn} == {SMALL.key(point) for point in points}


@pytest.mark.parametrize(
    ("domain", "size"), [(Float(0, 1), None), (Float(2, 2), 1), (Int(-2, 2), 5), (Categorical(("x",)), 1)]
)
def test_size(domain, size):
    assert SearchSpace([Parameter("p", domain)]).size == size


def test_equal_numbers_have_one_key_but_true_is_not_one():
    space = SearchSpace([Parameter("x", Float(0, 2)), Parameter("c", Categorical((True, 1)))])
    assert space.key({"x": 1, "c": 1}) == space.key({"x": 1.0, "c": 1.0}) != space.key({"x": 1, "c": True})


GOOD = {"rate": 0.1, "solver": "adam", "units": 8, "layers": 1, "batch": 32, "shuffle": False}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"solver": "sgd"}, ["momentum: missing, expected a number from 0.0 to 0.99"]),
        ({"momentum": 0.9}, ["momentum: exists only when solver is sgd; leave it out"]),
        ({"rat": 1}, ["rat: no such hyper-parameter, did you mean 'rate'?"]),
        ({"units": 8.5}, ["units: got 8.5, expected a whole number from 1 to 512"]),
        ({"rate": math.nan}, ["rate: got nan, expected a number from 1e-05 to 1.0"]),
        ({"rate": True, "batch": "32"}, ["rate: got True, expected a number from 1e-05 to 1.0",
                                         "batch: got '32', expected one of [16, 32, 64, 128]"]),
    ],
)  # fmt: skip
def test_problems_of_a_point(change, told):
    assert MLP.problems({**GOOD, **change}) == told


def test_a_missing_parameter_is_a_problem():
    assert MLP.problems({}) != []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float(0, 1, log=True), "log scale needs low > 0, got low=0"),
        (lambda: Float(2, 1), "low must not be above high"),
        (lambda: Float(0, math.inf), "finite"),
        (lambda: Float(-1.7e308, 1.7e308), "too wide"),
        (lambda: Float("0", 1), "finite numbers, got low='0'"),
        (lambda: Int(0.5, 2), "whole numbers"),
        (lambda: Int(0, 2**50), "2\\*\\*40"),
        (lambda: Categorical(()), "at least one value"),
        (lambda: Categorical("adam"), "needs a list"),
        (lambda: Ordinal((1, 2, 1.0)), "1.0 is listed twice"),
        (lambda: Categorical((None,)), "got None"),
        (lambda: SearchSpace([Parameter("a", Int(0, 1)), Parameter("a", Int(0, 1))]), "more than once.*a"),
        (lambda: child(Condition("solvr", (1,))), "did you mean 'solver'"),
        (lambda: child(Condition("rate", (1.0,))), "is a float"),
        (lambda: child(Condition("solver", ("sdg",))), r"has values \['sdg'\]; solver is one of"),
        (lambda: child(Condition("solver", ())), "has values"),
        (lambda: child(Condition("momentum", (0.5,))), "one level"),
    ],
)
def test_impossible_spaces_are_refused(make, words):
    with pytest.raises(SpaceError, match=words):
        make()


def child(when):
    return SearchSpace([*MLP.parameters, Parameter("child", Int(0, 1), when)])
