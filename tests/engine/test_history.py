from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from hpo_engine.history import History
from hpo_engine.objective import DIVERGED, Constraint, Metric, Objective, Score
from hpo_engine.rung import Observation
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Failed,
    Finished,
    Fitted,
    Held,
    HistoryError,
    Opened,
    Outcome,
    Released,
    Report,
    Resume,
    Start,
    Status,
    Steered,
    Stop,
)

NAN = math.nan
RUNNING, PAUSED, COMPLETED, STOPPED, FAILED = Status


def fold(*events: Event, constraints: tuple[Constraint, ...] = ()) -> History:
    history = History((1, 3, 9), Objective((Metric("v"),), constraints))
    for event in events:
        history.apply(event)
    return history


def start(trial: int = 0, until: int = 1, bracket: int = 0) -> Start:
    return Start(trial, {"x": trial}, until, bracket)


def began(trial: int = 0, attempt: int = 1) -> AttemptStarted:
    return AttemptStarted(trial, attempt)


def ended(trial: int = 0, attempt: int = 1, outcome: Outcome = Outcome.OK, units: int = 0) -> AttemptEnded:
    return AttemptEnded(trial, attempt, outcome, units)


def said(resource: int, value: float = 0.5, trial: int = 0, attempt: int = 1, **other: float) -> Report:
    return Report(trial, attempt, resource, {"v": value, **other})


def run(
    trial: int, to: int, value: float, *, until: int = 1, bracket: int = 0, **other: float
) -> list[Event]:
    """A trial from its start to a resource, all in one attempt; its last report is the value."""
    way = [said(step, 0.9 if step < to else value, trial, **other) for step in range(1, to + 1)]
    return [start(trial, until, bracket), began(trial), *way]


# -- a trial --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "status", "resource", "live"),
    [
        ([start()], RUNNING, 0, False),
        ([start(), began()], RUNNING, 0, True),
        ([start(), began(), said(1)], PAUSED, 1, True),
        ([start(), began(), said(1), ended()], PAUSED, 1, False),
        ([start(), began(), said(1), ended(), Resume(0, 3)], RUNNING, 1, False),
        ([start(), began(), said(1), Resume(0, 3)], RUNNING, 1, True),  # promoted before its process is gone
        ([start(), began(), said(1), Resume(0, 3), said(2)], RUNNING, 2, True),
        (
            [start(), began(), said(1), ended(), Resume(0, 3), began(0, 2), said(2, attempt=2)],
            RUNNING,
            2,
            True,
        ),
        ([start(until=9), began(), said(1)], RUNNING, 1, True),
        ([start(until=9), began(), said(3)], RUNNING, 3, True),
        ([start(until=9), began(), said(9)], COMPLETED, 9, True),
        ([start(until=9), began(), said(9, NAN)], PAUSED, 9, True),  # the engine stops it in the same batch
        ([start(until=9), began(), said(9, NAN), Stop(0, "diverged")], STOPPED, 9, True),
        ([start(until=9), began(), said(1), Stop(0, "r"), ended()], STOPPED, 1, False),
        ([start(), began(), said(1), Stop(0, "r")], STOPPED, 1, True),
        ([start(until=9), began(), ended(outcome=Outcome.USER_ERROR)], RUNNING, 0, False),
        ([start(until=9), began(), ended(outcome=Outcome.USER_ERROR), Failed(0, "r")], FAILED, 0, False),
    ],
)
def test_the_status_of_a_trial(events: Sequence[Event], status: Status, resource: int, live: bool) -> None:
    history = fold(*events)
    trial = history.trials[0]
    assert (trial.status, trial.resource, trial.live) == (status, resource, live)
    assert list(history.running) == ([0] if status is RUNNING else [])
    assert list(history.live) == ([0] if live else [])
    assert history.counts == {**dict.fromkeys(Status, 0), status: 1}
    assert history.length == len(events)


@pytest.mark.parametrize(
    ("resource", "bracket", "level"),
    [(0, 0, 1), (1, 0, 3), (2, 0, 3), (3, 0, 9), (8, 0, 9), (0, 1, 3), (1, 1, 3), (2, 1, 3), (3, 1, 9),
     (0, 2, 9), (5, 2, 9)],
)  # fmt: skip
def test_where_a_trial_is_judged_next(resource: int, bracket: int, level: int) -> None:
    events = [start(0, 9, bracket), *([began(), said(resource)] if resource else [])]
    history = fold(*events)
    assert history.next_level(history.trials[0]) == level
    assert history.pending() == [(0, level)]


def test_only_what_runs_is_pending() -> None:
    history = fold(*run(0, 1, 0.5), start(1, 9), *run(2, 9, 0.5, until=9), start(3, 1), Stop(3, "r"))
    assert history.pending() == [(1, 1)]


@pytest.mark.parametrize(
    ("reports", "checkpoint"),
    [
        ([], 0),
        ([(1, True)], 1),
        ([(1, True), (2, False)], 1),
        ([(1, True), (2, False), (3, True)], 3),
        ([(1, False)], 0),
    ],
)
def test_the_newest_checkpoint(reports: list[tuple[int, bool]], checkpoint: int) -> None:
    told = [Report(0, 1, resource, {"v": 1.0}, saved) for resource, saved in reports]
    assert fold(start(until=9), began(), *told).trials[0].checkpoint == checkpoint


@pytest.mark.parametrize(
    ("outcome", "failures", "disruptions"),
    [
        (Outcome.OK, 0, 0),
        (Outcome.INTERRUPTED, 0, 0),
        (Outcome.USER_ERROR, 1, 0),
        (Outcome.NO_METRIC, 1, 0),
        (Outcome.STALLED, 1, 0),
        (Outcome.KILLED, 0, 1),
        (Outcome.LOST, 0, 1),
    ],
)
def test_who_is_to_blame(outcome: Outcome, failures: int, disruptions: int) -> None:
    history = fold(start(), began(), ended(outcome=outcome))
    assert (history.trials[0].failures, history.trials[0].disruptions) == (failures, disruptions)
    assert {out: count for out, count in history.outcomes.items() if count} == {outcome: 1}


# -- records --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "records"),
    [
        (run(0, 1, 0.5), {1: [(0, 0.5)]}),
        (run(0, 2, 0.5, until=3), {1: [(0, 0.9)]}),  # 2 is no rung
        (run(0, 3, 0.5, until=3), {1: [(0, 0.9)], 3: [(0, 0.5)]}),
        (run(0, 3, 0.5, until=3, bracket=1), {3: [(0, 0.5)]}),  # not judged at 1
        (run(0, 9, 0.5, until=9, bracket=2), {9: [(0, 0.5)]}),
        (run(0, 1, NAN), {1: [(0, math.inf)]}),
        (run(0, 2, NAN, until=9), {1: [(0, 0.9)], 3: [(0, math.inf)]}),
        (run(0, 3, NAN, until=9), {1: [(0, 0.9)], 3: [(0, math.inf)]}),
        (run(0, 4, math.inf, until=9), {1: [(0, 0.9)], 3: [(0, 0.9)], 9: [(0, math.inf)]}),
        (run(0, 1, -math.inf, until=9, bracket=1), {3: [(0, math.inf)]}),
        (run(0, 2, NAN, until=9, bracket=2), {9: [(0, math.inf)]}),
        ([*run(0, 1, 0.5), *run(1, 1, 0.4), *run(2, 1, NAN), *run(3, 1, 0.5)],
         {1: [(1, 0.4), (0, 0.5), (3, 0.5), (2, math.inf)]}),
    ],
)  # fmt: skip
def test_records_are_at_rungs_best_first(
    events: Sequence[Event], records: dict[int, list[tuple[int, float]]]
) -> None:
    history = fold(*events)
    found = {
        level: [(e.trial, e.score.loss) for e in rung.entries]
        for level, rung in history.rungs.items()
        if len(rung)
    }
    assert found == records
    seen = sorted((o.level, o.trial, o.loss) for o in history.observations())
    assert seen == sorted(
        (level, trial, loss) for level, entries in records.items() for trial, loss in entries
    )
    for level in history.levels:
        assert history.record_count(level) == sum(math.isfinite(loss) for _, loss in records.get(level, []))


def test_the_record_of_a_trial() -> None:
    history = fold(*run(0, 3, 0.5, until=9), *run(1, 2, NAN, until=9))
    assert history.record(3, 0) == (Score(False, 0.0, 0.5), 0)
    assert history.record(3, 1) == (DIVERGED, 1)
    assert history.record(9, 0) is None
    assert history.record(2, 0) is None  # no rung
    assert history.record(3, 7) is None  # no trial


def test_infeasible_is_behind_feasible_and_diverged_behind_all() -> None:
    history = fold(
        *run(0, 1, 0.1, size=12),
        *run(1, 1, 0.9, size=10),
        *run(2, 1, NAN, size=1),
        *run(3, 1, 0.5, size=11),
        *run(4, 1, 0.2, size=NAN),
        *run(5, 1, 0.8, size=3),
        constraints=(Constraint("size", high=10),),
    )
    assert [entry.trial for entry in history.rungs[1].entries] == [5, 1, 3, 0, 2, 4]
    assert history.incumbent is not None
    assert history.incumbent.report.trial == 5
    assert history.observations()[0] == Observation(0, 1, 0.1, (2.0,))
    assert history.observations()[2] == Observation(2, 1, math.inf, ())
    assert history.record_count(1) == 4


@pytest.mark.parametrize(
    ("events", "best"),
    [
        ([start()], None),
        (run(0, 1, NAN), None),
        (run(0, 2, 0.5, until=3), (0, 2)),  # between rungs as well
        ([*run(0, 1, 0.5), *run(1, 1, 0.5)], (0, 1)),  # the first to reach it
        ([*run(0, 1, 0.5), *run(1, 1, 0.4)], (1, 1)),
        ([*run(0, 1, 0.4), *run(1, 9, 0.5, until=9)], (0, 1)),
        ([start(until=9), began(), said(1, 0.4), said(2, 0.7)], (0, 1)),
        ([*run(0, 1, 0.4), Stop(0, "r")], (0, 1)),
    ],
)
def test_the_incumbent_is_the_best_report(events: Sequence[Event], best: tuple[int, int] | None) -> None:
    incumbent = fold(*events).incumbent
    assert (incumbent and (incumbent.report.trial, incumbent.report.resource)) == best


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        (run(0, 1, 0.5), 0),  # paused
        ([*run(0, 1, 0.5), Resume(0, 3)], 1),
        ([*run(0, 1, 0.5), Resume(0, 3), Failed(0, "r")], 1),
        ([*run(0, 1, 0.5), Stop(0, "r")], 0),
        (run(0, 1, 0.5, until=9), 1),  # goes on
        ([*run(0, 1, 0.5, until=9), Stop(0, "r")], 0),  # does not: judged at this report
        ([*run(0, 2, 0.5, until=9), Stop(0, "r")], 1),
        ([*run(0, 1, 0.5, until=9), Failed(0, "r")], 1),
        (run(0, 1, NAN, until=9), 0),
        ([*run(0, 1, NAN, until=9), Stop(0, "r")], 0),
        ([*run(0, 1, NAN), Stop(0, "r")], 0),
        ([*run(0, 2, NAN, until=9), Stop(0, "r")], 1),
        (run(0, 2, 0.5, until=9, bracket=1), 0),  # was no record there
    ],
)
def test_how_many_went_on_from_the_first_rung(events: Sequence[Event], kept: int) -> None:
    assert fold(*events).rungs[1].kept == kept


@pytest.mark.parametrize(
    ("events", "candidate"),
    [
        (run(0, 1, 0.5), 0),
        ([*run(0, 1, 0.5), *run(1, 1, 0.4)], 1),
        ([*run(0, 1, 0.5), *run(1, 1, 0.4), Resume(1, 3)], 0),
        ([*run(0, 1, 0.5), *run(1, 1, 0.4), Stop(1, "r")], 0),
        ([*run(0, 1, 0.5), *run(1, 1, 0.4), Failed(1, "r")], 0),
        (run(0, 1, NAN), None),
        (run(0, 1, 0.5, until=9), None),  # it is not waiting
    ],
)
def test_who_may_be_promoted(events: Sequence[Event], candidate: int | None) -> None:
    found = fold(*events).rungs[1].candidate
    assert (found and found.trial) == candidate


# -- units --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "units", "of_trial"),
    [
        ([start(until=9), began(), said(1), said(2)], 2, 0),
        ([start(until=9), began(), said(1), said(2), ended(units=2)], 2, 2),
        ([start(until=9), began(), said(1), said(2), ended(units=3)], 3, 3),  # died in the third
        # Back to the checkpoint of 1: the second unit is run again, and is not told again.
        ([start(until=9), began(), said(1), said(2), ended(units=2),
          began(0, 2), said(3, attempt=2), ended(attempt=2, units=2)], 4, 4),
        ([start(until=9), began(), ended(units=2), began(0, 2), ended(attempt=2, units=1)], 3, 3),
        ([start(until=9), began(), said(1), said(2), ended(units=0)], 2, 0),  # lost: it left no verdict
        ([start(until=9), began(), said(3), ended(units=3)], 3, 3),  # tells every third unit only
    ],
)  # fmt: skip
def test_units_are_counted_once_and_repeated_ones_again(
    events: Sequence[Event], units: int, of_trial: int
) -> None:
    history = fold(*events)
    assert (history.units, history.trials[0].units) == (units, of_trial)


# -- what is known already -------------------------------------------------------------------------------

HALFWAY = [start(until=3), began(), said(1), ended(outcome=Outcome.LOST), began(0, 2), said(2, attempt=2)]


@pytest.mark.parametrize(
    ("report", "known"),
    [
        (said(3, attempt=2), False),
        (said(2, attempt=2), True),  # again
        (said(1, attempt=2), True),  # late
        (said(3, attempt=1), True),  # of a fenced attempt
        (said(3, attempt=3), True),  # of one that has not begun
        (said(4, attempt=2), True),  # past its order
        (said(0, attempt=2), True),
        (said(-1, attempt=2), True),
        (said(3, trial=1, attempt=2), True),  # of a trial that there is not
        (said(3, trial=-1, attempt=2), True),
    ],
)
def test_reports_that_change_nothing(report: Report, known: bool) -> None:
    history = fold(*HALFWAY)
    assert history.knows(report) is known
    if known:
        with pytest.raises(HistoryError, match="known, or of no live attempt"):
            history.apply(report)
        assert history.length == len(HALFWAY)
        assert len(history.reports[0]) == 2


@pytest.mark.parametrize(
    "end",
    [[Stop(0, "r")], [Failed(0, "r")], [ended(attempt=2)], [said(3, attempt=2)], [said(3, NAN, attempt=2)]],
)
def test_after_its_end_nothing_of_a_trial_is_news(end: list[Event]) -> None:
    assert fold(*HALFWAY, *end).knows(said(3, attempt=2))


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], start(1)),
        ([start()], start()),
        ([], Start(0, {}, until=2)),  # no rung
        ([], Start(0, {}, until=1, bracket=1)),  # ends below the first rung of its bracket
        ([], Start(0, {}, until=9, bracket=3)),
        ([], Resume(0, 3)),
        ([start()], Resume(0, 3)),  # runs
        (run(0, 1, 0.5), Resume(0, 1)),
        (run(0, 1, 0.5), Resume(0, 2)),  # no rung
        (run(0, 1, NAN), Resume(0, 3)),
        (run(0, 3, 0.5, until=3), Resume(0, 1)),
        (run(0, 9, 0.5, until=9), Resume(0, 9)),
        ([*run(0, 1, 0.5), Stop(0, "r")], Resume(0, 3)),
        ([start(), Stop(0, "r")], Stop(0, "r")),
        ([start(), Failed(0, "r")], Failed(0, "r")),
        (run(0, 9, 0.5, until=9), Stop(0, "r")),  # completed
        ([], Stop(0, "r")),
        ([start()], Stop(-1, "r")),
        ([], began()),
        ([start()], began(0, 2)),
        ([start(), began()], began(0, 1)),
        ([start(), began()], began(0, 2)),  # the first is live
        ([start(), began(), ended()], began(0, 1)),
        ([start(), Stop(0, "r")], began()),
        (run(0, 1, 0.5), began(0, 2)),  # nothing to do
        ([], ended()),
        ([start()], ended()),
        ([start(), began()], ended(attempt=2)),
        ([start(), began(), ended()], ended()),
        ([start(), began()], ended(trial=-1)),
        ([], Held(0, "r")),
        (run(0, 1, 0.5), Held(0, "r")),
        ([], Released(0)),
        ([start()], Released(-1)),
    ],
)
def test_contradictions_are_refused(before: list[Event], event: Event) -> None:
    history = fold(*before)
    trials, kept = list(history.trials), [rung.kept for rung in history.rungs.values()]
    with pytest.raises(HistoryError):
        history.apply(event)
    assert history.length == len(before)
    assert history.trials == trials
    assert [rung.kept for rung in history.rungs.values()] == kept


# -- the study -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "held"),
    [
        ([Held(0, "r")], True),
        ([Held(0, "r"), Released(0)], False),
        ([Held(0, "r"), said(1)], True),  # its attempt ends after this report
        ([Held(0, "r"), said(1), ended()], True),
        ([Held(0, "r"), said(1), ended(), Released(0), began(0, 2)], False),
        ([Held(0, "r"), Stop(0, "r")], False),
        ([Held(0, "r"), Failed(0, "r")], False),
        ([Held(0, "r"), said(3)], False),  # it reached its order: it is paused, there is nothing to hold
        ([Held(0, "r"), said(3), ended(), Resume(0, 9)], False),
        ([Held(0, "r"), said(3, NAN)], False),
    ],
)
def test_held_and_released(events: list[Event], held: bool) -> None:
    assert fold(start(until=3), began(), *events).trials[0].held is held


@pytest.mark.parametrize(
    ("events", "in_a_row"),
    [
        ([start(0), Failed(0, "r")], 1),
        ([start(0), Failed(0, "r"), start(1), Failed(1, "r")], 2),
        ([start(0), Failed(0, "r"), *run(1, 1, 0.5)], 0),
        ([start(0), Failed(0, "r"), start(1), Stop(1, "r")], 1),
        ([start(0), Failed(0, "r"), Opened({})], 0),
    ],
)
def test_failures_in_a_row(events: list[Event], in_a_row: int) -> None:
    assert fold(*events).failed_in_a_row == in_a_row


def test_a_study_that_is_opened_again_has_not_finished() -> None:
    first, again, finished = Opened({"name": "s"}), Opened({"name": "s", "workers": 9}), Finished("budget")
    assert fold(first, finished).finished == finished
    assert fold(first, finished, again).finished is None
    assert fold(first, finished, again).study == again


def test_settings_and_fits_are_the_last_ones() -> None:
    one, two = Fitted(2, "gp", {"v": (0.0,)}), Fitted(9, "gp", {"v": (1.0,)})
    history = fold(
        *run(0, 1, 0.5),
        one,
        Steered("workers", 4),
        Steered("paused", 1),
        *run(1, 1, 0.4),
        two,
        Steered("workers", 2),
    )
    assert history.settings == {"workers": 2, "paused": 1}
    assert (history.fitted, history.fitted_records) == (two, 2)


def test_running_is_in_the_order_in_which_they_were_told_to_run() -> None:
    history = fold(*run(0, 1, 0.5), start(1, 9), start(2, 9), Resume(0, 3), Stop(1, "r"))
    assert list(history.running) == [2, 0]
