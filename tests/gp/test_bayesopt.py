"""The searchers on histories, good and bad."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from hpo_engine.history import History, Observation
from hpo_engine.objective import Constraint, Metric, Objective
from hpo_engine.searchers.bayesopt import BayesOpt, acquisition_level
from hpo_engine.searchers.outputs import Axes, chosen, compressed, gather
from hpo_engine.searchers.random import Random
from hpo_engine.space import Categorical, Condition, Float, Int, Parameter, SearchSpace
from hpo_engine.types import AttemptEnded, AttemptStarted, Failed, Fitted, Outcome, Report, Start

LEVELS = (1, 3, 9)
SPACE = SearchSpace([Parameter("x", Float(0.0, 1.0)), Parameter("y", Float(0.0, 1.0))])
TREE = SearchSpace(
    [
        Parameter("c", Categorical(("a", "b"))),
        Parameter("k", Int(1, 64, log=True), Condition("c", ("b",))),
        Parameter("x", Float(1e-4, 1.0, log=True)),
    ]
)
BOUNDED = Objective((Metric("loss"),), (Constraint("size", high=0.5),))


def history_of(runs, levels=LEVELS, objective=Objective((Metric("loss"),))):  # noqa: B008  frozen
    """Trials of (config, losses at the first rungs): one that has reported at no rung is running."""
    history = History(levels, objective)
    for trial, (config, losses) in enumerate(runs):
        history.apply(Start(trial, config, until=levels[max(len(losses), 1) - 1]))
        history.apply(AttemptStarted(trial, 1))
        for level, loss in zip(levels, losses, strict=False):
            metrics = loss if isinstance(loss, dict) else {"loss": loss}
            history.apply(Report(trial, 1, level, metrics))
    return history


def suggest(searcher, history, seed=0):
    """What an engine would do: a fit that is due is journalled first."""
    fitted = searcher.fit(history, np.random.default_rng(seed))
    if fitted is not None:
        history.apply(fitted)
    return searcher.suggest(history, np.random.default_rng(seed), history.levels[0])


def bowl(config):
    return (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2


def scattered(n, space=SPACE, seed=0):
    return space.sample(n, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("counts", "dimension", "expected"),
    [
        ((0, 0, 0), 2, None),
        ((1, 0, 0), 2, None),
        ((2, 0, 0), 2, 1),
        ((9, 1, 0), 2, 1),
        ((9, 1, 1), 2, 3),
        ((9, 2, 2), 2, 9),
        ((9, 9, 2), 3, 3),
        ((0, 0, 3), 3, 9),
        ((1, 1, 1), 3, 1),
    ],
)
def test_level_of_the_acquisition(counts, dimension, expected):
    """`counts` trials ended at each level; a trial's records are at that level and all below it."""
    lengths = [n for n, count in zip((1, 2, 3), counts, strict=True) for _ in range(count)]
    history = history_of([(c, [1.0] * n) for c, n in zip(scattered(len(lengths)), lengths, strict=True)])
    assert acquisition_level(history, dimension) == expected


def test_a_diverged_record_counts_for_no_level():
    assert acquisition_level(history_of([(c, [math.nan]) for c in scattered(5)]), 2) is None


def test_random_until_there_is_data_then_the_model():
    searcher = BayesOpt(SPACE, LEVELS)
    assert suggest(searcher, history_of([])).origin == "random"
    assert suggest(searcher, history_of([(c, [bowl(c)]) for c in scattered(1)])).origin == "random"
    assert suggest(searcher, history_of([(c, [bowl(c)]) for c in scattered(2)])).origin == "model"


def test_it_goes_where_the_loss_is_small():
    found = suggest(BayesOpt(SPACE, LEVELS), history_of([(c, [bowl(c)]) for c in scattered(20)]))
    assert bowl(found.config) < 0.02


def test_it_keeps_off_what_is_pending():
    done = [(c, [bowl(c)]) for c in scattered(15)]
    alone = suggest(BayesOpt(SPACE, LEVELS), history_of(done)).config
    other = suggest(BayesOpt(SPACE, LEVELS), history_of([*done, *[(alone, [])]])).config
    assert math.dist(alone.values(), other.values()) > 0.02


def test_a_fit_is_due_when_the_records_have_grown_by_a_tenth():
    searcher, rng = BayesOpt(SPACE, LEVELS), np.random.default_rng(0)
    runs = [(c, [bowl(c)]) for c in scattered(26)]
    due = [searcher.fit(fitted_at(runs[:n], 20), rng) is not None for n in range(20, 26)]
    assert due == [False, False, True, True, True, True]
    assert [searcher.fit(fitted_at(runs[:n], 3), rng) is not None for n in (3, 4)] == [False, True]


def fitted_at(runs, records):
    history = history_of(runs[:records])
    history.apply(Fitted(history.length, "joint gp", {}))
    for config, losses in runs[records:]:
        trial = len(history.trials)
        history.apply(Start(trial, config, until=1))
        history.apply(AttemptStarted(trial, 1))
        history.apply(Report(trial, 1, 1, {"loss": losses[0]}))
    return history


def test_a_fit_names_its_prefix_and_its_outputs():
    sizes = [{"loss": bowl(c), "size": c["x"]} for c in scattered(9)]
    runs = [(c, [m]) for c, m in zip(scattered(9), sizes, strict=True)]
    history = history_of([*runs, ({"x": 0, "y": 0}, [math.nan])], objective=BOUNDED)
    fitted = BayesOpt(SPACE, LEVELS).fit(history, np.random.default_rng(0))
    assert fitted.prefix == history.length
    assert {name: len(theta) for name, theta in fitted.parameters.items()} == {
        "loss": 6, "constraint 0": 6, "failure": 6
    }  # fmt: skip
    assert fitted.note == ""


def test_the_same_history_and_seed_give_the_same_bits():
    def once():
        pending = [(c, []) for c in scattered(3, seed=1)]
        history = history_of([(c, [bowl(c)] * 2) for c in scattered(20)] + pending)
        return suggest(BayesOpt(SPACE, LEVELS), history), history.fitted

    assert once() == once()


def test_the_last_journalled_fit_decides_not_a_new_one():
    history = history_of([(c, [bowl(c)]) for c in scattered(20)])
    first = suggest(BayesOpt(SPACE, LEVELS), history)
    loss = history.fitted.parameters["loss"]
    history.fitted = replace(history.fitted, parameters={"loss": tuple(t + 1 for t in loss)})
    assert BayesOpt(SPACE, LEVELS).suggest(history, np.random.default_rng(0), 1) != first


def test_constraints_are_kept():
    def runs(n):
        return [(c, [{"loss": bowl(c), "size": 1 - c["x"]}]) for c in scattered(n)]  # size <= 0.5: x >= 0.5

    history = history_of(runs(30), objective=BOUNDED)
    found = [suggest(BayesOpt(SPACE, LEVELS), history, seed).config for seed in range(4)]
    assert min(config["x"] for config in found) > 0.45
    assert max(abs(config["y"] - 0.7) for config in found) < 0.2


def test_where_nothing_is_feasible_yet_it_looks_for_what_is():
    runs = [(c, [{"loss": bowl(c), "size": 1 - c["x"]}]) for c in scattered(60) if c["x"] < 0.45]
    assert suggest(BayesOpt(SPACE, LEVELS), history_of(runs, objective=BOUNDED)).config["x"] > 0.45


@pytest.mark.parametrize("end", ["diverges", "crashes"])
def test_it_keeps_off_what_diverges_or_crashes(end):
    """The loss falls towards x = 0, where trials have no loss to tell."""
    good, bad = ([c for c in scattered(40) if (c["x"] < 0.4) is side] for side in (False, True))
    history = history_of([(c, [c["x"]]) for c in good])
    for config in bad:
        trial = len(history.trials)
        history.apply(Start(trial, config, until=1))
        history.apply(AttemptStarted(trial, 1))
        if end == "diverges":
            history.apply(Report(trial, 1, 1, {"loss": math.inf}))
        else:
            history.apply(AttemptEnded(trial, 1, Outcome.USER_ERROR))
            history.apply(Failed(trial, "exit code 1"))
    found = [suggest(BayesOpt(SPACE, LEVELS), history, seed).config["x"] for seed in range(4)]
    assert min(found) > 0.3


def test_disruptions_are_not_held_against_a_configuration():
    history = history_of([(c, [bowl(c)]) for c in scattered(5)] + [({"x": 0.3, "y": 0.7}, [])])
    history.apply(AttemptEnded(5, 1, Outcome.LOST))
    history.apply(Failed(5, "disrupted too often"))
    history.apply(Start(6, {"x": 0.31, "y": 0.7}, until=1))
    for attempt, outcome in ((1, Outcome.USER_ERROR), (2, Outcome.LOST)):  # it was borne once
        history.apply(AttemptStarted(6, attempt))
        history.apply(AttemptEnded(6, attempt, outcome))
    history.apply(Failed(6, "disrupted too often"))
    data = gather(history, Axes(SPACE, LEVELS), 1, rows=400, pending=200)
    assert [output.name for output in data.outputs] == ["loss"]


HARD = {
    "constant": lambda c, i: 1.0,
    "huge": lambda c, i: 1e300 * (c["x"] - 0.5),
    "largest": lambda c, i: math.copysign(1.7e308, c["x"] - 0.5),
    "tiny": lambda c, i: 1e-300 * c["x"],
    "denormal": lambda c, i: 5e-324,
    "one outlier": lambda c, i: 1e300 if i == 3 else c["x"],
    "some diverge": lambda c, i: math.nan if i % 3 else c["x"],
    "all diverge": lambda c, i: -math.inf,
}


@pytest.mark.parametrize("loss", HARD.values(), ids=HARD)
@pytest.mark.parametrize("n", [2, 12])
@pytest.mark.parametrize("objective", [Objective((Metric("loss"),)), BOUNDED], ids=["free", "bounded"])
def test_no_numbers_stop_it(loss, n, objective):
    configs = scattered(n)
    runs = [(c, [{"loss": loss(c, i), "size": loss(c, i)}]) for i, c in enumerate(configs)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = suggest(BayesOpt(SPACE, LEVELS), history_of(runs, objective=objective))
    assert SPACE.problems(found.config) == []
    assert found.config not in configs


@pytest.mark.parametrize("spread", [0.0, 1e-12])
def test_the_same_configuration_over_and_over(spread):
    history = history_of([({"x": 0.5 + i * spread, "y": 0.5}, [i % 3]) for i in range(40)])
    assert suggest(BayesOpt(SPACE, LEVELS), history).origin == "model"


def test_without_a_factor_it_says_so_and_goes_on_at_random(monkeypatch):
    from hpo_engine.gp import likelihood, regression

    def fails(cov):
        raise np.linalg.LinAlgError("no factor")

    monkeypatch.setattr(likelihood, "cholesky", fails)
    monkeypatch.setattr(regression, "cholesky", fails)
    history = history_of([(c, [bowl(c)]) for c in scattered(5)])
    found = suggest(BayesOpt(SPACE, LEVELS), history)
    assert found.origin == "random: LinAlgError: no factor"
    assert history.fitted.note == "loss: default parameters, no factor"


def test_a_bad_fit_is_replaced_by_default_parameters():
    history = history_of([(c, [bowl(c)]) for c in scattered(8)])
    history.apply(Fitted(history.length, "joint gp", {"loss": (math.nan,) * 5}))
    found = BayesOpt(SPACE, LEVELS).suggest(history, np.random.default_rng(0), 1)
    assert found.origin.startswith("model with default parameters: ")


@pytest.mark.parametrize("make", [Random, lambda space: BayesOpt(space, LEVELS, candidates=50)])
def test_every_point_of_a_finite_space_once_then_none(make):
    child = Parameter("k", Int(1, 6), Condition("c", ("b",)))
    space = SearchSpace([Parameter("c", Categorical(("a", "b"))), child])
    searcher, runs = make(space), []
    for seed in range(7):
        found = suggest(searcher, history_of(runs), seed)
        runs.append((found.config, [float(seed)]))
    assert len({space.key(config) for config, _ in runs}) == space.size == 7
    assert suggest(searcher, history_of(runs)) is None


def test_conditional_spaces_get_valid_points():
    runs = [(c, [c["x"] + c.get("k", 32)] * 2) for c in scattered(25, TREE)]
    for seed in range(5):
        found = suggest(BayesOpt(TREE, LEVELS), history_of(runs), seed)
        assert (found.origin, TREE.problems(found.config)) == ("model", [])


def test_rows_are_bounded_fair_to_levels_and_keep_the_best_and_the_newest():
    rows = [Observation(i, 1, float(i % 97), ()) for i in range(900)]
    rows += [Observation(i, 3, 1.0, ()) for i in range(90)]
    rows += [Observation(1000 + i, 9, 1.0, ()) for i in range(5)]
    kept = chosen(rows, LEVELS, 100)
    assert len(kept) == 100
    assert [sum(o.level == level for o in kept) for level in LEVELS] == [48, 47, 5]
    low = {o.trial for o in kept if o.level == 1}
    assert {0, 97, 194} <= low
    assert set(range(880, 900)) <= low
    assert chosen(rows[:50], LEVELS, 100) == rows[:50]


def test_losses_keep_their_order_and_lose_their_tails():
    losses = np.array([-1e300, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 50.0, 1e300])
    y = compressed(losses[1:])
    assert (np.diff(y) > 0).all()
    assert y[-1] - y[0] < 8 * (y[3] - y[0])
    np.testing.assert_allclose(compressed(1e-6 * losses[1:] - 7), y, rtol=1e-6)  # nor units
    assert (np.diff(compressed(losses)) > 0).all()
    assert np.isfinite(compressed(losses)).all()


def test_better_than_random_on_two_fidelities():
    """30 trials of a valley whose low fidelity is biased: the mean best loss of 2 seeds."""
    space = SearchSpace([Parameter(name, Float(0.0, 1.0)) for name in "abcd"])

    def best(searcher, seed):
        rng, runs = np.random.default_rng(seed), []
        for i in range(30):
            config = suggest(searcher, history_of(runs, (1, 9)), seed=[seed, i]).config
            loss = sum((v - t) ** 2 for v, t in zip(config.values(), (0.2, 0.4, 0.6, 0.8), strict=True))
            low = loss + 0.2 * config["a"] + 0.01 * rng.standard_normal()
            runs.append((config, [low, loss][: 1 + i % 2]))
        return min(losses[-1] for _, losses in runs if len(losses) == 2)

    model = np.mean([best(BayesOpt(space, (1, 9)), seed) for seed in range(2)])
    random = np.mean([best(Random(space), seed) for seed in range(2)])
    assert model < 0.25 * random
