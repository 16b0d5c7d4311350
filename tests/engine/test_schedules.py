"""Schedules as pictures: workers take work in turn, and the one that has had its longest gets it done."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from hpo_engine.engine import Engine, Limits, Method
from hpo_engine.history import History
from hpo_engine.objective import Metric, Objective
from hpo_engine.schedulers import Place, Scheduler
from hpo_engine.schedulers.asha import Asha
from hpo_engine.schedulers.asha_stop import AshaStop
from hpo_engine.schedulers.brackets import Brackets
from hpo_engine.schedulers.fifo import Fifo
from hpo_engine.searchers import Suggestion
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Fitted,
    Outcome,
    Report,
    Resume,
    Start,
    Status,
    Stop,
    Wait,
)

NINE, NAN = (1, 3, 9), math.nan


class Numbers:
    """A searcher that proposes 0, 1, 2, ..."""

    def fit(self, history: History, rng: np.random.Generator) -> Fitted | None:
        return None

    def suggest(self, history: History, rng: np.random.Generator, level: int) -> Suggestion | None:
        return Suggestion({"n": len(history.trials)}, "numbers")


@dataclass(frozen=True)
class Drawn:
    """A generator that always draws the same."""

    bracket: int

    def choice(self, count: int, p: Sequence[float]) -> int:
        return self.bracket


@dataclass(frozen=True)
class InTurn:
    """A scheduler that draws the brackets given, one for each trial."""

    inner: Scheduler
    brackets: tuple[int, ...]

    def next(self, history: History, rng: np.random.Generator) -> Resume | Place | Wait:
        bracket = (*self.brackets, 0)[len(history.trials)]
        return self.inner.next(history, Drawn(bracket))  # type: ignore[arg-type]

    def judge(self, history: History, trial: int) -> str | None:
        return self.inner.judge(history, trial)


def loss_of(losses: Sequence[float | Mapping[int, float]], trial: int, resource: int) -> float:
    """A number: at every resource; a table: from each resource on."""
    found = losses[trial]
    if isinstance(found, Mapping):
        return found[max(step for step in found if step <= resource)]
    return found


def play(
    scheduler: Scheduler, losses: Sequence[float | Mapping[int, float]], *, workers: int = 1
) -> tuple[list[str], Engine]:
    """The decisions in words until all losses are used up and all work is done."""
    history = History(NINE, Objective((Metric("v"),)))
    engine = Engine(Method(scheduler, Numbers()), history, limits=Limits(trials=len(losses)))
    lines: list[str] = []
    busy: deque[int] = deque()
    while True:
        while len(busy) < workers:
            answer = engine.ask()
            if isinstance(answer, Wait):
                break
            engine.tell(answer)
            assert not isinstance(answer, Fitted)
            bracket = f" b{answer.bracket}" if isinstance(answer, Start) and answer.bracket else ""
            lines.append(f"{type(answer).__name__.lower()} {answer.trial} ->{answer.until}{bracket}")
            busy.append(answer.trial)
        if not busy:
            return lines, engine
        lines += _train(engine, busy.popleft(), losses)


def _train(engine: Engine, id: int, losses: Sequence[float | Mapping[int, float]]) -> Iterator[str]:
    trial = engine.history.trials[id]
    attempt = trial.attempt + 1
    engine.tell(AttemptStarted(id, attempt))
    for resource in range(trial.resource + 1, trial.until + 1):
        told = engine.tell(Report(id, attempt, resource, {"v": loss_of(losses, id, resource)}))
        if isinstance(told[-1], Stop):
            yield f"stop {id} at {resource}"
            break
    engine.tell(AttemptEnded(id, attempt, Outcome.OK))


def picture(engine: Engine) -> list[str]:
    """A line for each trial: how far it came; * at the end, | stopped, . paused."""
    mark = {Status.COMPLETED: "*", Status.STOPPED: "|", Status.PAUSED: "."}
    return [f"{trial.id} {'=' * trial.resource}{mark[trial.status]}" for trial in engine.history.trials]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def asha(eta: int = 3, brackets: int = 1) -> Asha:
    return Asha(Brackets(NINE, eta, brackets))


def asha_stop(eta: int = 3, brackets: int = 1) -> AshaStop:
    return AshaStop(Brackets(NINE, eta, brackets))


# -- promotion ---------------------------------------------------------------------------------------


def test_asha_promotes_the_top_third() -> None:
    told, engine = play(asha(), [5, 1, 4, 2, 6, 3, 7, 8, 9])
    # After three records one may go on: trial 1. After six, two: trial 1 has gone, 3 is next. Three records
    # at 3 come only with the ninth trial: of nine at 1, three go on, 1 3 5, and of those the best, 1.
    assert told == lines("""
        start 0 ->1
        start 1 ->1
        start 2 ->1
        resume 1 ->3
        start 3 ->1
        start 4 ->1
        start 5 ->1
        resume 3 ->3
        start 6 ->1
        start 7 ->1
        start 8 ->1
        resume 5 ->3
        resume 1 ->9
    """)
    assert picture(engine) == lines("""
        0 =.
        1 =========*
        2 =.
        3 ===.
        4 =.
        5 ===.
        6 =.
        7 =.
        8 =.
    """)
    assert [engine.history.rungs[level].kept for level in NINE] == [3, 1, 0]


def test_nobody_is_promoted_from_fewer_than_eta() -> None:
    told, _ = play(asha(), [1, 2])
    assert told == ["start 0 ->1", "start 1 ->1"]


def test_who_was_too_weak_then_may_be_strong_enough_later() -> None:
    # Three records: 0 goes on. Then 1 is second of six when 5 has come, and two of six may go on.
    told, _ = play(asha(), [1, 2, 3, 4, 5, 6])
    assert told == lines("""
        start 0 ->1
        start 1 ->1
        start 2 ->1
        resume 0 ->3
        start 3 ->1
        start 4 ->1
        start 5 ->1
        resume 1 ->3
    """)


def test_a_promoted_trial_still_counts_at_the_rung_it_left() -> None:
    # Six records, two may go on: 0 and 1 have, and are better than the rest. Were they taken out of the
    # ranks, 2 would be "first of four" and go on as well.
    told, engine = play(asha(), [1, 2, 3, 4, 5, 6])
    assert "resume 2 ->3" not in told
    assert len(engine.history.rungs[1]) == 6


def test_a_tie_goes_to_the_older_trial() -> None:
    told, _ = play(asha(), [5, 5, 5, 5, 5, 5])
    assert [line for line in told if "resume" in line] == ["resume 0 ->3", "resume 1 ->3"]


def test_the_highest_rung_is_served_first() -> None:
    # eta 2. At 1: 0 1 | 2 3, two of four may go on, and 0 has. At 3: 0 | 4, one of two may go on.
    losses = [1, 2, 8, 9, 5]
    engine = Engine(Method(asha(eta=2), Numbers()), History(NINE, Objective((Metric("v"),))))
    for decision in (
        *(Start(trial, {}, until=1) for trial in range(4)),
        Resume(0, until=3),
        Start(4, {}, until=3, bracket=1),
    ):
        engine.tell(decision)
        assert list(_train(engine, decision.trial, losses)) == []
    assert engine.ask() == Resume(0, until=9)
    engine.tell(Resume(0, until=9))
    assert engine.ask() == Resume(1, until=3)


def test_workers_begin_new_trials_while_nobody_may_be_promoted() -> None:
    told, _ = play(asha(), [3, 2, 1, 4, 5, 6], workers=4)
    # The fourth record is not in when the third is: 2 is promoted then, as best of three.
    assert told == lines("""
        start 0 ->1
        start 1 ->1
        start 2 ->1
        start 3 ->1
        start 4 ->1
        start 5 ->1
        resume 2 ->3
        resume 1 ->3
    """)


def test_a_diverged_trial_counts_and_is_never_promoted() -> None:
    told, engine = play(asha(), [NAN, 2, NAN, NAN, NAN, NAN])
    # Three records at 1, two of them diverged: the one that is not goes on. Six records, two may go on,
    # but the others have ended.
    assert told == lines("""
        start 0 ->1
        stop 0 at 1
        start 1 ->1
        start 2 ->1
        stop 2 at 1
        resume 1 ->3
        start 3 ->1
        stop 3 at 1
        start 4 ->1
        stop 4 at 1
        start 5 ->1
        stop 5 at 1
    """)
    assert len(engine.history.rungs[1]) == 6


def test_who_diverges_on_the_way_is_last_at_the_rung_ahead() -> None:
    told, engine = play(asha(eta=2), [{1: 1, 2: NAN}, 5, 2, 6, 3, 7])
    assert told == lines("""
        start 0 ->1
        start 1 ->1
        resume 0 ->3
        stop 0 at 2
        start 2 ->1
        start 3 ->1
        resume 2 ->3
        resume 2 ->9
        start 4 ->1
        start 5 ->1
        resume 4 ->3
    """)
    # At 3: trial 2 is the better of two, the other being 0, which never got there.
    assert [entry.trial for entry in engine.history.rungs[3].entries] == [2, 4, 0]


# -- stopping ------------------------------------------------------------------------------------------


def test_asha_stop_lets_the_first_go_on_and_stops_who_is_not_in_the_top_third() -> None:
    told, engine = play(asha_stop(), [5, 6, 4, 9, 3, 4.5, 7])
    # At 1: 5 alone, goes on. 5 6: two records, goes on. 5 6 4: 4 is first of three. 9: fourth, one may go
    # on. 3: first. 4.5: third of six, two may. 7: sixth of seven, two may.
    # At 3: 0 and 1 are fewer than three. 2 is first of three. 4 is first of four.
    assert told == lines("""
        start 0 ->9
        start 1 ->9
        start 2 ->9
        start 3 ->9
        stop 3 at 1
        start 4 ->9
        start 5 ->9
        stop 5 at 1
        start 6 ->9
        stop 6 at 1
    """)
    assert picture(engine) == lines("""
        0 =========*
        1 =========*
        2 =========*
        3 =|
        4 =========*
        5 =|
        6 =|
    """)
    assert [engine.history.rungs[level].kept for level in NINE] == [4, 4, 0]


def test_asha_stop_at_a_higher_rung() -> None:
    told, engine = play(asha_stop(), [{1: 9, 3: 1}, {1: 8, 3: 2}, {1: 7, 3: 3}, {1: 6, 3: 0}])
    # Each is the best so far at 1. At 3: 2 is third of three; 3 is first of four.
    assert told == ["start 0 ->9", "start 1 ->9", "start 2 ->9", "stop 2 at 3", "start 3 ->9"]
    assert engine.history.trials[2].reason == "rank 3 of 3 at 3, the best 1 go on"


def test_asha_stop_judges_once_a_trial_that_went_on_is_not_judged_again() -> None:
    # 0 is last of all at 1 in the end; it was alone when it was judged.
    told, engine = play(asha_stop(), [9, 1, 2, 3, 4, 5], workers=1)
    assert "stop 0 at 1" not in told
    assert engine.history.trials[0].status is Status.COMPLETED


def test_a_tie_stops_the_younger() -> None:
    told, _ = play(asha_stop(), [5, 5, 5, 5])
    assert told == ["start 0 ->9", "start 1 ->9", "start 2 ->9", "stop 2 at 1", "start 3 ->9", "stop 3 at 1"]


def test_nobody_is_stopped_by_the_rule_between_rungs_or_at_the_end() -> None:
    told, engine = play(
        asha_stop(), [{1: 3, 2: 99, 3: 3, 9: 99}, {1: 2, 2: 99, 3: 2, 9: 98}, {1: 1, 2: 99, 3: 1, 9: 99}]
    )
    assert told == ["start 0 ->9", "start 1 ->9", "start 2 ->9"]
    assert picture(engine) == ["0 =========*", "1 =========*", "2 =========*"]


def test_a_diverged_trial_is_stopped_wherever_it_is_and_counts_ahead() -> None:
    told, engine = play(asha_stop(), [{1: 1, 4: NAN}, NAN, {1: 2, 2: NAN}, {1: 1.5, 3: 5}])
    # At 1: 1 is the second record, diverged. 2 is second of three: the best one goes on. 3: second of four.
    assert told == lines("""
        start 0 ->9
        stop 0 at 4
        start 1 ->9
        stop 1 at 1
        start 2 ->9
        stop 2 at 1
        start 3 ->9
        stop 3 at 1
    """)
    assert [entry.trial for entry in engine.history.rungs[9].entries] == [0], "diverged at 4, on its way to 9"
    assert engine.history.trials[0].reason == "diverged at 4"


# -- brackets -------------------------------------------------------------------------------------------


def test_brackets_begin_at_their_own_rung_and_share_the_rungs_above() -> None:
    # eta 2. 0 and 3 begin at 3, 4 at 9, 1 and 2 at 1. 0 is the only record at 3 until 1 has been promoted to
    # it; 1 is the better of the two and goes on to the end. 3 is second of three there, and one may go on.
    told, engine = play(InTurn(asha(eta=2, brackets=3), (1, 0, 0, 1, 2)), [5, 1, 7, 3, 9])
    assert told == lines("""
        start 0 ->3 b1
        start 1 ->1
        start 2 ->1
        resume 1 ->3
        resume 1 ->9
        start 3 ->3 b1
        start 4 ->9 b2
    """)
    assert [[entry.trial for entry in engine.history.rungs[level].entries] for level in NINE] == [
        [1, 2],
        [1, 3, 0],  # brackets 1, 1 and the promoted 1
        [1, 4],
    ]


def test_a_stopping_trial_is_not_judged_below_its_bracket() -> None:
    told, engine = play(InTurn(asha_stop(eta=2, brackets=2), (0, 0, 1, 1)), [1, 2, 9, 3])
    # At 1: 0 alone; 1 is second of two: stopped. 2 and 3 pass 1 unjudged. At 3: 0, then 2 is second of two.
    # 3 is second of three: one of three goes on.
    assert told == lines("""
        start 0 ->9
        start 1 ->9
        stop 1 at 1
        start 2 ->9 b1
        stop 2 at 3
        start 3 ->9 b1
        stop 3 at 3
    """)
    assert [len(engine.history.rungs[level]) for level in NINE] == [2, 3, 1]


def test_fifo_runs_everybody_to_the_end() -> None:
    told, engine = play(Fifo(NINE), [3, NAN, 1])
    assert told == ["start 0 ->9 b2", "start 1 ->9 b2", "stop 1 at 1", "start 2 ->9 b2"]
    assert [len(engine.history.rungs[level]) for level in NINE] == [0, 0, 3]


# -- the engine around it -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", [asha(), asha_stop(), Fifo(NINE)])
def test_asking_changes_nothing(scheduler: Scheduler) -> None:
    _, engine = play(scheduler, [3, 1, 2])
    assert engine.ask() == engine.ask() == Wait("the budget of 3 trials is used")


def test_who_has_paused_is_promoted_though_no_trial_may_be_started_any_more() -> None:
    told, _ = play(asha(eta=2), [1, 2])
    assert told == ["start 0 ->1", "start 1 ->1", "resume 0 ->3"]
