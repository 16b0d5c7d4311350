"""What people are shown: values as they reported them, each leg once, each message once."""

from __future__ import annotations

import math

import pytest

from flows.controller.session import replay
from flows.study.model import Study
from flows.views.view import Budget, Counts, FailedAttempt, LegEnded, LegStarted, Level, Slot, StudyView
from flows.views.watch import Watch
from hpo_engine.history import History
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Held,
    Opened,
    Outcome,
    Report,
    Resume,
    Start,
    Stop,
)
from tests.flows.test_loop import World
from tests.flows.test_loop_crash import make_study

ACCURACY: dict[str, object] = {"metrics": [{"name": "accuracy", "mode": "max"}, "size"]}


def seen(study: Study, events: list[Event]) -> tuple[Watch, History]:
    watch, history = Watch(study), History(study.levels(), study.objective())
    for at, event in enumerate(events):
        history.apply(event)
        watch.saw(event, float(at))
    return watch, history


def view(study: Study, events: list[Event], workers: int | None = None) -> StudyView:
    watch, history = seen(study, events)
    return watch.view(history, elapsed=36.0, workers=workers)


def trial(id: int, *accuracies: float, until: int = 1) -> list[Event]:
    reports = [
        Report(id, 1, epoch, {"accuracy": value, "size": 3.0})
        for epoch, value in enumerate(accuracies, start=1)
    ]
    return [Start(id, {"x": id / 10}, until), AttemptStarted(id, 1), *reports]


def test_a_maximum_is_shown_as_it_was_reported() -> None:
    study = make_study("asha", **ACCURACY)
    shown = view(study, [*trial(0, 0.7), *trial(1, 0.9), *trial(2, 0.8), *trial(3, 0.0)])
    assert shown.mode == "max"
    assert shown.best is not None
    assert (shown.best.trial, shown.best.value, shown.best.config) == (1, 0.9, {"x": 0.1})
    assert shown.best.metrics == {"accuracy": 0.9, "size": 3.0}
    assert shown.levels[0] == Level(1, recorded=4, kept=0, running=0, best=0.9)
    assert [slot.value for slot in shown.workers] == [0.7, 0.9, 0.8, 0.0]
    assert math.copysign(1, view(study, trial(0, 0.0)).levels[0].best or 0.0) == 1, "no -0"


def test_levels_count_who_is_on_the_way_and_who_went_on() -> None:
    study = make_study("asha", **ACCURACY)
    events = [*trial(0, 0.7), *trial(1, 0.9), *trial(2, math.nan), *trial(3)]
    ended = AttemptEnded(1, 1, Outcome.OK, 1)
    shown = view(
        study, [*events, ended, Resume(1, 3), AttemptStarted(1, 2), Report(1, 2, 2, {"accuracy": 0.95})]
    )
    assert shown.levels == (
        Level(1, recorded=3, kept=1, running=1, best=0.9),
        Level(3, recorded=0, kept=0, running=1),
        Level(9, recorded=0, kept=None, running=0),
    )
    assert shown.best is not None
    assert (shown.best.value, shown.best.resource) == (0.95, 2)


def test_a_level_of_diverged_trials_has_no_best() -> None:
    assert view(make_study("asha", **ACCURACY), trial(0, math.inf)).levels[0].best is None


def test_counts_and_slots() -> None:
    study = make_study("asha", workers=5, **ACCURACY)
    events: list[Event] = [
        *trial(0, 0.1, until=9), *trial(1, 0.1, until=9), Held(1, "less"), *trial(2, 0.5),
        *trial(3, 0.1, until=9), Stop(3, "rank"), *trial(4, until=9), AttemptEnded(4, 1, Outcome.LOST),
    ]  # fmt: skip
    shown = view(study, events)
    assert shown.counts == Counts(started=5, running=3, paused=1, stopped=1)
    assert shown.workers == (
        Slot(0, 1, "running", 1, 9, 0.1),
        Slot(1, 1, "pausing", 1, 9, 0.1),
        Slot(2, 1, "ending", 1, 1, 0.5),
        Slot(3, 1, "ending", 1, 9, 0.1),
        Slot(),
    )
    assert len(view(study, events, workers=2).workers) == 4, "those that have yet to end are shown"
    assert [(f.outcome, f.count, f.trial) for f in shown.failures] == [(Outcome.LOST, 1, 4)]


@pytest.mark.parametrize(
    ("budget", "shown"),
    [
        ({"trials": 4}, Budget("2 of 4 trials", 0.5)),
        ({"trials": 4, "resource": 3}, Budget("2 of 3 epochs", 2 / 3)),
        ({"trials": 100, "hours": 0.02}, Budget("0.01 of 0.02 hours", 0.5)),
        ({"target": 0.5}, Budget("until accuracy reaches 0.5", 0.0)),
        ({"target": 0.5, "trials": 4}, Budget("2 of 4 trials", 0.5)),
        ({"trials": 1}, Budget("2 of 1 trials", 1.0)),
    ],
)
def test_the_budget_is_the_part_that_is_nearest_to_its_end(budget: dict[str, float], shown: Budget) -> None:
    study = make_study("asha", budget=budget, **ACCURACY)
    assert view(study, [*trial(0, 0.1), *trial(1, 0.2)]).budget == shown


def test_each_attempt_is_one_leg_with_its_end() -> None:
    study = make_study("asha-stop", **ACCURACY)
    watch, _ = seen(
        study,
        [
            *trial(0, 0.1, until=9),  # events 0 to 2
            AttemptEnded(
                0, 1, Outcome.KILLED, 1, seconds=2.5, evidence={"signal": "SIGKILL", "log": "bye\n"}
            ),
            AttemptStarted(0, 2),
            Report(0, 2, 2, {"accuracy": 0.2}),
            Stop(0, "rank 4 of 4"),
            AttemptEnded(0, 2, Outcome.INTERRUPTED, 1, 1, 1.5),
        ],
    )
    assert watch.legs() == [
        LegStarted(0, 1, 9, 1.0),
        LegEnded(0, 1, 9, Outcome.KILLED, 2.5, 3.0, "SIGKILL | bye", value=0.1),
        LegStarted(0, 2, 9, 4.0),
        LegEnded(0, 2, 9, Outcome.OK, 1.5, 7.0, stopped=True, value=0.2),
    ]
    assert watch.legs() == []


def test_a_leg_that_was_promoted_while_it_ran_ends_where_it_got_to() -> None:
    study = make_study("asha", **ACCURACY)
    further = [Report(0, 1, epoch, {"accuracy": 0.5}) for epoch in (2, 3)]
    promoted: list[Event] = [*trial(0, 0.5), Resume(0, 3)]
    watch, _ = seen(study, [*promoted, *further, AttemptEnded(0, 1, Outcome.OK, 3)])
    assert [leg.until for leg in watch.legs()] == [1, 3]
    watch, _ = seen(study, [*promoted, AttemptEnded(0, 1, Outcome.OK, 1)])
    assert [leg.until for leg in watch.legs()] == [1, 1], "it had left already"


# -- "started over": told once, and only when it is so -------------------------------------------------


def told(*events: Event, **more: object) -> list[str]:
    study = make_study("asha", **{**ACCURACY, **more})
    return seen(study, [Start(0, {"x": 0.1}, 3), AttemptStarted(0, 1), *events])[0].messages


def end(attempt: int, units: int, start: int = 0, outcome: Outcome = Outcome.KILLED) -> AttemptEnded:
    return AttemptEnded(0, attempt, outcome, units, start)


def report(attempt: int, epoch: int, checkpoint: bool = False) -> Report:
    return Report(0, attempt, epoch, {"accuracy": 0.1}, checkpoint)


def test_starting_over_without_a_checkpoint_is_told_once() -> None:
    twice = [end(2, 1), AttemptStarted(0, 3), end(3, 2)]
    (message,) = told(report(1, 1), end(1, 1), AttemptStarted(0, 2), *twice)
    assert message.startswith("Trial 0 had no checkpoint")


@pytest.mark.parametrize(
    "events",
    [
        [report(1, 1), end(1, 1)],
        [end(1, 0), AttemptStarted(0, 2), report(2, 1), end(2, 1)],
        [report(1, 1), end(1, 1), AttemptStarted(0, 2), end(2, 0, outcome=Outcome.INTERRUPTED)],
        [report(1, 1), end(1, 1), AttemptStarted(0, 2), end(2, 0, outcome=Outcome.LOST)],
        [report(1, 1, True), end(1, 1), AttemptStarted(0, 2), report(2, 2), end(2, 1, 1)],
        [report(1, 1), report(1, 2, True), end(1, 2), AttemptStarted(0, 2), end(2, 1, 2)],
    ],
    ids=[
        "the first",
        "after a first that never reported",
        "never launched",
        "left no word",
        "resumed",
        "resumed at 2",
    ],
)
def test_nothing_is_told_of_those_that_did_not_start_over(events: list[Event]) -> None:
    assert told(*events) == []


def test_nothing_is_told_where_starting_over_is_meant() -> None:
    resource = {"min": 1, "max": 9, "eta": 3, "resumable": False}
    assert told(report(1, 1), end(1, 1), AttemptStarted(0, 2), end(2, 1), resource=resource) == []


def test_a_message_is_said_once() -> None:
    watch = Watch(make_study("asha"))
    for _ in range(3):
        watch.say("one")
    watch.say("two")
    assert watch.messages == ["one", "two"]


def test_a_replayed_study_is_shown_as_the_live_one_was() -> None:
    world = World(make_study("asha"), fault=0.1)
    session = world.open()
    world.run(session)
    live = session.watch.view(session.controller.history, elapsed=0.0)
    replayed = replay(world.study, world.store)
    assert replayed.watch.view(replayed.engine.history, elapsed=0.0) == live
    assert live.finished == "the budget of 9 trials is used"
    assert live.failures


def test_a_leg_that_pauses_early_says_how_far_it_came() -> None:
    study = make_study("asha", **ACCURACY)
    held = [*trial(0, 0.7, 0.8, until=3), Held(0, "paused"), AttemptEnded(0, 1, Outcome.OK, 2)]
    assert [leg.until for leg in seen(study, held)[0].legs()] == [3, 2]
    failed = [*trial(0, 0.7, 0.8, until=3), AttemptEnded(0, 1, Outcome.KILLED, 2)]
    assert [leg.until for leg in seen(study, failed)[0].legs()] == [3, 3]


def test_the_budget_that_is_shown_is_the_one_it_was_opened_with() -> None:
    study = make_study("asha", budget={"trials": 9})
    now = make_study("asha", budget={"trials": 20})
    assert view(study, [Opened(study.model_dump(mode="json")), *trial(0)]).budget.text == "1 of 9 trials"
    assert view(study, [Opened(now.model_dump(mode="json")), *trial(0)]).budget.text == "1 of 20 trials"


# -- failures ------------------------------------------------------------------------------------------


def test_failures_are_counted_by_class_and_the_newest_are_kept_in_full() -> None:
    study = make_study("asha", max_failures=99, **ACCURACY)
    events: list[Event] = [Start(0, {"x": 0.1}, 3)]
    for attempt in range(1, 31):
        told = {"message": f"exited {attempt}", "log": "Traceback\n  x = 1\nValueError: no\n"}
        events += [
            AttemptStarted(0, attempt),
            AttemptEnded(0, attempt, Outcome.USER_ERROR, seconds=2.0, evidence=told),
        ]
    shown = view(study, events)
    assert [(f.outcome, f.count, f.last_line) for f in shown.failures] == [
        (Outcome.USER_ERROR, 30, "exited 30 | ValueError: no")
    ]
    assert [failed.attempt for failed in shown.failed] == list(range(11, 31))
    assert shown.failed[-1] == FailedAttempt(
        0, 30, Outcome.USER_ERROR, 60.0, 2.0, "exited 30", "Traceback\n  x = 1\nValueError: no"
    )


def test_an_image_that_cannot_be_pulled_is_a_failure_that_is_shown() -> None:
    study = make_study("asha", **ACCURACY)
    shown = view(study, [*trial(0), AttemptEnded(0, 1, Outcome.IMAGE, evidence={"message": "not found"})])
    assert [(f.outcome, f.last_line) for f in shown.failures] == [(Outcome.IMAGE, "not found")]


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.USER_ERROR])
def test_how_an_attempt_goes_that_was_told_to_stop_is_no_failure(outcome: Outcome) -> None:
    study = make_study("asha-stop", **ACCURACY)
    shown = view(study, [*trial(0, 0.1, until=9), Stop(0, "rank 4 of 4"), AttemptEnded(0, 1, outcome)])
    assert (shown.failures, shown.failed) == ((), ())
