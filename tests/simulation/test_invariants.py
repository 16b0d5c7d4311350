"""What must hold of every simulated study, whatever goes wrong in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.synthetic import synthetic
from flows.simulate.blackbox import Blackbox
from flows.simulate.runs import Plan, study
from hpo_engine.engine import Engine, Limits
from hpo_engine.history import History
from hpo_engine.methods import METHODS, Setting, make_method
from hpo_engine.objective import Metric, Objective
from hpo_engine.rungs import levels
from hpo_engine.simulate import Costs, Faults, Simulation, simulate
from hpo_engine.types import AttemptEnded, AttemptStarted, Event, Outcome, Report
from tests.flows.invariants import (
    each_record_once,
    never_past_until,
    one_live_attempt,
    resumed_from_own_checkpoint,
)
from tests.simulation.worlds import Forgetful, events, most_live, same

LEVELS = levels(1, 9, 3)
COSTS = Costs(start_up=3, save=1, restore=2, decision=0.5, notice=1, stop=4, checkpoint_every=2)
ROUGH = Faults(lost_per_hour=60, fail=0.1, delay=5, duplicate=0.3)
every_method = pytest.mark.parametrize("method", METHODS)
without_model = pytest.mark.parametrize("method", [name for name in METHODS if "bohb" not in name])


@cache
def world() -> Blackbox:
    with TemporaryDirectory() as folder:
        return synthetic(Path(folder) / "bowl.npz", rows=200, length=9)


def build(method: str, seed: int = 0, trials: int = 25) -> Engine:
    made = make_method(method, Setting(world().space, LEVELS, 3), {})
    return Engine(
        made, History(LEVELS, Objective((Metric("loss"),))), seed=seed, limits=Limits(trials, 2, 50)
    )


def rough(engine: Engine | Forgetful, seed: int = 0, workers: int = 4) -> Simulation:
    return simulate(engine, world().curve, workers=workers, costs=COSTS, faults=ROUGH, seed=seed)


def check(simulation: Simulation, history: History, method: str, workers: int, seed: int = 0) -> None:
    journal = events(simulation)
    each_record_once(journal)
    one_live_attempt(journal)
    never_past_until(journal)
    resumed_from_own_checkpoint(journal)
    resumed_from_the_newest(journal)
    assert most_live(journal) <= workers
    times = [second for second, _ in simulation.journal]
    assert times == sorted(times)
    fold = build(method, seed).history
    for event in journal:
        fold.apply(event)
    assert same(fold, history)


def resumed_from_the_newest(journal: list[Event]) -> None:
    """Of the checkpoints that were told before the attempt began."""
    newest: dict[int, int] = {}
    begun: dict[int, int] = {}
    for event in journal:
        match event:
            case AttemptStarted():
                begun[event.trial] = newest.get(event.trial, 0)
            case AttemptEnded():
                assert event.started_at == begun[event.trial]
            case Report() if event.checkpoint:
                newest[event.trial] = event.resource


@every_method
def test_faults_break_nothing(method: str) -> None:
    engine = build(method)
    simulation = rough(engine)
    check(simulation, engine.history, method, workers=4)
    assert len(engine.history.trials) == 25
    outcomes = engine.history.outcomes
    assert min(outcomes[Outcome.LOST], outcomes[Outcome.USER_ERROR]) > 0, "nothing went wrong: not a test"


@without_model
@pytest.mark.parametrize("seed", range(1, 11))
def test_more_faults_break_nothing(method: str, seed: int) -> None:
    engine = build(method, seed, trials=60)
    check(rough(engine, seed, workers=7), engine.history, method, workers=7, seed=seed)


@every_method
def test_the_same_seed_is_the_same_journal(method: str) -> None:
    one, two = rough(build(method)), rough(build(method))
    assert repr(one.journal) == repr(two.journal)  # of diverged reports, whose nan is not equal to itself
    assert one.incumbents == two.incumbents
    assert repr(rough(build(method, seed=1)).journal) != repr(one.journal)


@every_method
def test_a_controller_that_dies_all_the_time_decides_the_same(method: str) -> None:
    """Rebuilt from its journal before every 7th call: no decision and no fit is another one."""
    through = rough(Forgetful(lambda: build(method), every=7))
    assert repr(through.journal) == repr(rough(build(method)).journal)


def test_all_workers_are_used_while_there_is_work() -> None:
    _, simulation = study(world(), "random", 0, Plan(workers=5, seconds=200))
    changes: dict[float, int] = {}
    for second, event in simulation.journal:
        step = isinstance(event, AttemptStarted) - isinstance(event, AttemptEnded)
        changes[second] = changes.get(second, 0) + step
    live, end = 0, simulation.journal[-1][0]
    for second in sorted(changes):
        live += changes[second]
        assert live == (0 if second == end else 5)


def test_training_takes_the_recorded_time() -> None:
    """Of calm attempts: start-up, restore, the units since the checkpoint, a save for each checkpoint."""
    costs = Costs(start_up=3, save=1, restore=2, checkpoint_every=2)
    engine, simulation = study(world(), "asha", 0, Plan(trials=40, costs=costs))
    resumed = 0
    for event in events(simulation):
        if isinstance(event, AttemptEnded) and event.outcome is Outcome.OK:
            seconds = [0.0, *world().curve(engine.history.trials[event.trial].config).seconds]
            first, last = event.started_at, event.started_at + event.units
            saves = sum(1 for r in range(first + 1, last + 1) if r % 2 == 0 or r == last)
            expected = 3 + 2 * (first > 0) + seconds[last] - seconds[first] + saves
            assert event.seconds == pytest.approx(expected)
            resumed += first > 0
    assert resumed > 5


def test_diverged_curves_are_stopped() -> None:
    engine, _ = study(world(), "random", 0, Plan(trials=60))
    diverged = [trial for trial in engine.history.trials if trial.diverged]
    assert diverged
    assert all((trial.resource, trial.reason) == (3, "diverged at 3") for trial in diverged)


def test_late_messages_of_an_attempt_stay_in_order() -> None:
    """Overtaken, a report would be old news; behind its attempt's end it would be fenced: none is lost."""
    plan = Plan(trials=20, faults=Faults(delay=30))
    engine, simulation = study(world(), "asha", 0, plan)
    ends = [event for event in events(simulation) if isinstance(event, AttemptEnded)]
    reports = [event for event in events(simulation) if isinstance(event, Report)]
    assert len(reports) == sum(end.units for end in ends) == engine.history.units
    assert len({(end.trial, end.attempt) for end in ends}) > 20  # some were promoted
