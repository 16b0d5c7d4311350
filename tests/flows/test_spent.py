"""What a study has used and saved, reckoned by hand."""

from __future__ import annotations

import pytest

from flows.study.kubernetes import Gpus
from flows.views.effort import BOUNDS, Timing
from flows.views.gains import Gains
from flows.views.spent import Ledger, Spent
from hpo_engine.objective import Metric, Objective
from hpo_engine.types import AttemptEnded, AttemptStarted, Event, Outcome, Report, Start

TWO = Gpus.model_validate(2)


def start(trial: int, size: str = "small") -> list[Event]:
    return [Start(trial, {"size": size}, 1), AttemptStarted(trial, 1)]


def spent(events: list[Event], gpus: Gpus = TWO) -> Spent:
    ledger = Ledger(9, gpus)
    for event in events:
        ledger.saw(event)
    return ledger.spent()


def report(trial: int, resource: int, seconds: float, attempt: int = 1) -> Report:
    return Report(trial, attempt, resource, {"v": 1.0}, False, seconds)


def test_a_trial_that_was_stopped_early_saved_the_rest_at_its_own_pace() -> None:
    events = [*start(0), report(0, 1, 10.0), AttemptEnded(0, 1, Outcome.OK, 1, 0, 12.0)]
    assert spent(events) == Spent(12.0, 96.0, 24.0, 192.0)  # 9 epochs of 12 seconds each, less one


def test_while_it_runs_the_last_report_counts() -> None:
    assert spent([*start(0), report(0, 1, 10.0), report(0, 2, 18.0)]) == Spent(18.0, 63.0, 36.0, 126.0)


def test_an_attempt_without_a_verdict_ran_at_least_until_its_last_report() -> None:
    events = [*start(0), report(0, 1, 10.0), AttemptEnded(0, 1, Outcome.LOST)]
    assert spent(events).seconds == 10.0


def test_what_is_run_again_is_used_and_saves_nothing() -> None:
    whole = [*start(0), AttemptEnded(0, 1, Outcome.OK, 9, 0, 90.0)]
    assert spent(whole) == Spent(90.0, 0.0, 180.0, 0.0)
    twice: list[Event] = [*whole, AttemptStarted(0, 2), AttemptEnded(0, 2, Outcome.OK, 9, 0, 90.0)]
    assert spent(twice) == Spent(180.0, 0.0, 360.0, 0.0)


def test_a_trial_without_a_unit_counts_with_the_mean_of_the_others() -> None:
    events = [*start(0), AttemptEnded(0, 1, Outcome.OK, 2, 0, 20.0), *start(1)]
    assert spent(events) == Spent(20.0, 2 * 90.0 - 20.0, 40.0, 320.0)
    assert spent(start(0)) == Spent(), "nobody knows yet"


def test_each_configuration_has_its_own_gpus() -> None:
    gpus = Gpus.model_validate({"by": "size", "values": {"small": 1, "large": 4}})
    events = [
        *start(0, "small"), AttemptEnded(0, 1, Outcome.OK, 9, 0, 9.0),
        *start(1, "large"), AttemptEnded(1, 1, Outcome.OK, 3, 0, 3.0),
    ]  # fmt: skip
    assert spent(events, gpus) == Spent(12.0, 6.0, 9.0 + 12.0, 4 * 6.0)


def test_used_time_never_falls() -> None:
    """Prometheus would take a counter that falls, be it by a rounding error, for one that began anew."""
    ledger, before = Ledger(9, Gpus.model_validate(1)), 0.0
    for trial in range(300):
        events = [*start(trial), *(report(trial, k, 0.1 * k) for k in range(1, 4))]
        for event in [*events, AttemptEnded(trial, 1, Outcome.KILLED, 3, 0, 0.1)]:
            ledger.saw(event)
            assert ledger.spent().gpu_seconds >= before
            before = ledger.spent().gpu_seconds
    assert before == pytest.approx(300 * 0.3)


# -- how long things take ----------------------------------------------------------------------------


def test_a_timing_counts_each_duration_once() -> None:
    timing = Timing().add(0.0005).add(0.001).add(0.3).add(99.0)
    assert sum(timing.counts) == 4
    assert timing.seconds == pytest.approx(99.3015)
    assert timing.counts[0] == 2, "a bound is of the durations up to it"
    assert timing.counts[BOUNDS.index(0.5)] == timing.counts[-1] == 1
    assert timing.plus(timing).counts == tuple(2 * count for count in timing.counts)


def test_a_timing_hands_on_what_a_call_returns_and_raises() -> None:
    result, timing = Timing().of(lambda: "answer")
    assert (result, sum(timing.counts)) == ("answer", 1)
    with pytest.raises(OSError, match="away"):
        Timing().of(lambda: (_ for _ in ()).throw(OSError("away")))


# -- the best over time ------------------------------------------------------------------------------


@pytest.mark.parametrize(("maximise", "steps"), [(False, [3.0, 1.0]), (True, [3.0, 4.0])])
def test_gains_are_the_reports_that_were_the_best(maximise: bool, steps: list[float]) -> None:
    gains = Gains(Objective((Metric("v", maximise),)))
    values = [3.0, float("nan"), 1.0, 4.0, 4.0]
    for at, value in enumerate(values):
        gains.saw(Report(at, 1, 2, {"v": value}), 100.0 + at)
    assert [gain.value for gain in gains.found] == steps
    assert [gain.seconds for gain in gains.found] == [0.0, float(values.index(steps[1]))]
    assert gains.seconds == 4.0
