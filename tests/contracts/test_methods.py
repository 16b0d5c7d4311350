"""What every method must do, whatever it is: one suite over the table of methods."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from hpo_engine import METHODS, Engine, History, Limits, Metric, Objective, Setting, levels, make_method
from hpo_engine.space import Categorical, Condition, Float, Int, Parameter, SearchSpace
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Fitted,
    MethodError,
    Outcome,
    Report,
    Resume,
    Start,
    Stop,
    Wait,
)

SPACE = SearchSpace(
    (
        Parameter("lr", Float(1e-4, 1.0, log=True)),
        Parameter("layers", Int(1, 4)),
        Parameter("solver", Categorical(("sgd", "adam"))),
        Parameter("momentum", Float(0.0, 0.99), Condition("solver", ("sgd",))),
    )
)
TINY = SearchSpace((Parameter("a", Int(0, 2)), Parameter("b", Categorical(("x", "y")))))
STEPS = levels(1, 9, 3)
every_method = pytest.mark.parametrize("method", METHODS)


def build(method: str, space: SearchSpace = SPACE, seed: int = 0, trials: int | None = 25) -> Engine:
    made = make_method(method, Setting(space, STEPS, 3), {})
    return Engine(made, History(STEPS, Objective((Metric("loss"),))), seed=seed, limits=Limits(trials))


def bowl(config: dict[str, object], resource: int) -> float:
    loss = (math.log10(float(config.get("lr", 0.1))) + 2) ** 2 / 4 + abs(
        int(config.get("layers", 1)) - 3
    ) / 10  # type: ignore[call-overload,arg-type]
    return loss + 1 / resource


def play(
    engine: Engine,
    loss: Callable[[dict[str, object], int], float] = bowl,
    workers: int = 4,
    chance: random.Random | None = None,
) -> list[Event]:
    """Drive an engine with workers that make an epoch at a time, in an order drawn from `chance`."""
    chance = chance or random.Random(0)
    history, journal = engine.history, []
    for _ in range(5000):
        while len(history.running) < workers:
            answer = engine.ask()
            if isinstance(answer, Wait):
                assert answer.reason
                if not history.running:
                    return journal
                break
            assert engine.ask() == answer, "asking changed something"
            journal += engine.tell(answer)
            if isinstance(answer, (Start, Resume)):
                journal += engine.tell(AttemptStarted(answer.trial, history.trials[answer.trial].attempt + 1))
        trial = history.trials[chance.choice(list(history.running))]
        told = Report(
            trial.id,
            trial.attempt,
            trial.resource + 1,
            {"loss": loss(dict(trial.config), trial.resource + 1)},
        )
        journal += engine.tell(told)
        if trial.id not in history.running:
            journal += engine.tell(AttemptEnded(trial.id, trial.attempt, Outcome.OK, 1))
    raise AssertionError("does not end")


@every_method
def test_configurations_are_in_the_space_and_differ(method: str) -> None:
    events = play(build(method))
    starts = [event for event in events if isinstance(event, Start)]
    assert [start.trial for start in starts] == list(range(25))
    assert [SPACE.problems(start.config) for start in starts] == [[]] * 25
    assert len({SPACE.key(start.config) for start in starts}) == 25


@every_method
def test_a_decision_depends_on_the_journal_alone(method: str) -> None:
    """Rebuilt after any prefix, it goes on with exactly what came next; and no fit is made again."""
    events = play(build(method))
    for cut in range(0, len(events), 7):
        engine = build(method)
        for event in events[:cut]:
            engine.history.apply(event)
        expected = events[cut]
        if isinstance(expected, (Start, Resume, Fitted)):
            assert engine.ask() == expected


@every_method
def test_another_seed_is_another_study(method: str) -> None:
    one, two = play(build(method, seed=1)), play(build(method, seed=2))
    assert [e.config for e in one if isinstance(e, Start)] != [e.config for e in two if isinstance(e, Start)]


@every_method
def test_a_finite_space_ends_when_all_of_it_was_tried(method: str) -> None:
    engine = build(method, TINY, trials=None)
    starts = [event for event in play(engine) if isinstance(event, Start)]
    assert len(starts) == TINY.size == 6
    answer = engine.ask()
    assert isinstance(answer, Wait)
    assert "all 6 configurations" in answer.reason


@every_method
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_divergence_everywhere_ends_no_study(method: str, bad: float) -> None:
    events = play(build(method), lambda config, resource: bad)
    stops = [event for event in events if isinstance(event, Stop)]
    assert len(stops) == 25
    assert not any(isinstance(event, Resume) for event in events)


@every_method
@pytest.mark.parametrize("constant", [0.0, 1e300, 1e-300, -5.0])
def test_losses_without_information_end_no_study(method: str, constant: float) -> None:
    assert (
        len([e for e in play(build(method), lambda config, resource: constant) if isinstance(e, Start)]) == 25
    )


@every_method
def test_some_diverge_and_are_never_promoted(method: str) -> None:
    def loss(config: dict[str, object], resource: int) -> float:
        return math.nan if config["solver"] == "adam" and resource >= 2 else bowl(config, resource)

    engine = build(method)
    events = play(engine, loss)
    for event in events:
        if isinstance(event, Resume):
            assert not (engine.history.trials[event.trial].diverged and event.until > 3)
    assert engine.history.incumbent is not None


@every_method
def test_no_trial_runs_past_its_order_and_some_reach_the_end(method: str) -> None:
    engine = build(method)
    play(engine)
    assert all(trial.resource <= trial.until for trial in engine.history.trials)
    assert len(engine.history.rungs[9]) >= 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a-bobh", {}, "did you mean 'a-bohb'"),
        ("asha", {"bracket": 2}, "did you mean 'brackets'"),
        ("asha", {"brackets": 9}, "with 3 rungs it may be 1 to 3"),
        ("random", {"brackets": 1}, "takes no option 'brackets'"),
    ],
)
def test_what_a_method_does_not_take_is_refused(name: str, options: dict[str, int], said: str) -> None:
    with pytest.raises(MethodError, match=said):
        make_method(name, Setting(SPACE, STEPS, 3), options)
