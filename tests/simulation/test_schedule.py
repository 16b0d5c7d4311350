"""Virtual time to the second, in worlds small enough to work out by hand."""

from __future__ import annotations

import pytest

from hpo_engine.simulate import Budget, Costs, Faults, simulate
from hpo_engine.types import AttemptEnded, AttemptStarted, Finished, Report
from tests.simulation.worlds import events, flat, listed, picture

# A unit takes 2 s. Trials 0, 1, 2 have losses 3, 1, 2: of the three, number 1 is promoted.


def test_promotion_without_costs() -> None:
    simulation = simulate(listed("asha", [3, 1, 2], 3), flat, workers=2)
    assert picture(simulation) == [
        "0: start 0 >1, start 1 >1",
        "2: 0@1*, end 0.1 ok 1u, 1@1*, end 1.1 ok 1u, start 2 >1",
        "4: 2@1*, end 2.1 ok 1u, resume 1 >3",
        "6: 1@2",
        "8: 1@3*, end 1.2 ok 2u, finished",
    ]
    assert simulation.incumbents == [(2.0, 3.0), (2.0, 1.0)]


def test_start_up_and_checkpoints_cost_what_they_should() -> None:
    """A leg of one unit: 3 start-up + 2 training + 1 save; resumed: 3 + 2 restore, two units, one save."""
    costs = Costs(start_up=3, save=1, restore=2)
    assert picture(simulate(listed("asha", [3, 1, 2], 3), flat, workers=2, costs=costs)) == [
        "0: start 0 >1, start 1 >1",
        "6: 0@1*, end 0.1 ok 1u, 1@1*, end 1.1 ok 1u, start 2 >1",
        "12: 2@1*, end 2.1 ok 1u, resume 1 >3",
        "19: 1@2",
        "22: 1@3*, end 1.2 ok 2u, finished",
    ]


def test_a_checkpoint_at_every_unit_costs_at_every_unit() -> None:
    costs = Costs(save=1, checkpoint_every=1)
    assert picture(simulate(listed("random", [5], 3), flat, workers=1, costs=costs)) == [
        "0: start 0 >3",
        "3: 0@1*",
        "6: 0@2*",
        "9: 0@3*, end 0.1 ok 3u, finished",
    ]


def test_without_checkpoints_a_promoted_trial_starts_over() -> None:
    """Its first unit is trained again, and its report, known already, is not journalled again."""
    costs = Costs(save=1, restore=9, checkpoint_every=0)
    simulation = simulate(listed("asha", [3, 1, 2], 3), flat, workers=2, costs=costs)
    assert picture(simulation)[2:] == [
        "4: 2@1, end 2.1 ok 1u, resume 1 >3",
        "8: 1@2",
        "10: 1@3, end 1.2 ok 3u, finished",
    ]


def test_decisions_take_their_time_one_after_the_other() -> None:
    """Orders are carried out when the pass is over; what is reported meanwhile is seen after it."""
    costs = Costs(decision=1.5)
    simulation = simulate(listed("asha", [3, 1, 2], 3), flat, workers=2, costs=costs)
    assert picture(simulation) == [
        "1.5: start 0 >1",
        "3: start 1 >1",
        "5: 0@1*, end 0.1 ok 1u, 1@1*, end 1.1 ok 1u",
        "6.5: start 2 >1",
        "8.5: 2@1*, end 2.1 ok 1u",
        "10: resume 1 >3",
        "12: 1@2",
        "14: 1@3*, end 1.2 ok 2u, finished",
    ]
    began = [second for second, event in simulation.journal if isinstance(event, AttemptStarted)]
    assert began == [3, 3, 6.5, 10]


def test_a_slot_is_free_when_the_controller_has_noticed() -> None:
    assert picture(simulate(listed("asha", [3, 1, 2], 3), flat, workers=1, costs=Costs(notice=5))) == [
        "0: start 0 >1",
        "7: 0@1*, end 0.1 ok 1u, start 1 >1",
        "14: 1@1*, end 1.1 ok 1u, start 2 >1",
        "21: 2@1*, end 2.1 ok 1u, resume 1 >3",
        "28: 1@2",
        "30: 1@3*, end 1.2 ok 2u, finished",
    ]


STOPPED = {
    # Noticed and read in the instant of the report: the second unit never begins.
    (0.0, 0.0): ["8: 2@1, stop 2", "8: end 2.1 ok 1u"],
    # On the way for 5 s: units 2 and 3 are trained, unit 4 has begun at 12 s and is finished; none is told.
    (0.0, 5.0): ["8: 2@1, stop 2", "14: end 2.1 ok 4u"],
    # The report takes 1 s, the stop 1 s, its trial is in unit 2, at whose end it reads it; so does its end.
    (1.0, 1.0): ["9: 2@1, stop 2", "11: end 2.1 ok 2u"],
}


@pytest.mark.parametrize("delays", STOPPED)
def test_a_trial_trains_on_while_its_stop_is_on_the_way(delays: tuple[float, float]) -> None:
    notice, stop = delays
    costs = Costs(notice=notice, stop=stop)
    simulation = simulate(listed("asha-stop", [1, 2, 3], 9), _late_third, workers=3, costs=costs)
    of_third = [
        (t, e) for t, e in simulation.journal if isinstance(e, Report | AttemptEnded) and e.trial == 2
    ]
    stop_at = next(t for t, e in simulation.journal if type(e).__name__ == "Stop")
    lines = [
        f"{t:g}: 2@1, stop 2" if isinstance(e, Report) else f"{t:g}: end 2.1 ok {e.units}u"
        for t, e in of_third
    ]
    assert lines == STOPPED[delays]
    assert f"{stop_at:g}" == lines[0].split(":")[0]


def _late_third(config, length=9):  # type: ignore[no-untyped-def]
    """The third trial's first unit takes 8 s, so that the others are on the rung before it."""
    curve = flat(config, length)
    return curve if config["loss"] < 3 else curve._replace(seconds=[s + 6 for s in curve.seconds])


def test_a_failing_trial_is_tried_again_and_then_given_up() -> None:
    simulation = simulate(listed("asha", [5], 3), flat, workers=1, faults=Faults(fail=1.0))
    assert picture(simulation) == [
        "0: start 0 >1",
        "2: end 0.1 user error 1u",
        "4: end 0.2 user error 1u, give up 0, finished",
    ]


def test_a_budget_of_time_interrupts_what_runs() -> None:
    simulation = simulate(listed("random", [5, 6], 9), flat, workers=2, budget=Budget(seconds=5))
    assert picture(simulation) == [
        "0: start 0 >9, start 1 >9",
        "2: 0@1, 1@1",
        "4: 0@2, 1@2",
        "5: end 0.1 interrupted 2u, end 1.1 interrupted 2u, finished",
    ]


def test_a_budget_of_units_ends_the_study() -> None:
    simulation = simulate(listed("random", [5, 6], 9), flat, workers=2, budget=Budget(units=3))
    assert sum(isinstance(event, Report) for event in events(simulation)) == 4  # two come in one pass
    assert isinstance(events(simulation)[-1], Finished)


def test_what_would_never_end_is_refused() -> None:
    engine = listed("random", [1], 3)
    engine.limits = type(engine.limits)(trials=None)
    with pytest.raises(ValueError, match="never end"):
        simulate(engine, flat, workers=1)
