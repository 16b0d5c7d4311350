"""The loop on a virtual clock: an unwell store, other controllers, budgets, steering, orders."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from flows.controller.build import attempt_spec
from flows.controller.loop import Ending
from flows.controller.session import Session, open_study
from flows.study.model import Study
from flows.views.view import Leg, LegEnded, LegStarted
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Failed,
    Finished,
    Held,
    Opened,
    Outcome,
    Released,
    Report,
    Resume,
    Start,
    Status,
    Steered,
    Stop,
    Trial,
    Waiting,
)
from operators.attempt import Order, encode_order, encode_report, order_key, report_key
from operators.journal import Fenced, Journal
from tests.flows.invariants import check_journal
from tests.flows.stand_ins import Crash, MemoryStore, Under, Weather, Workers
from tests.flows.test_loop_crash import make_study

STEPS = 400  # what a study here takes at most: one that takes more never ends


class World:
    """A study's store and workers, and the controllers that come and go."""

    def __init__(self, study: Study, weather: Weather | None = None, **workers: object) -> None:
        self.study = study
        self.store = MemoryStore()
        self.workers = Workers(self.store, random.Random(0), **workers)  # type: ignore[arg-type]
        self.weather = weather or Weather()
        self.told: list[Event] = []  # what sessions returned
        self.legs: list[Leg] = []
        self.alive: list[int] = []  # attempts alive before each tick

    def open(self) -> Session:
        store, backend = Under(self.store, self.weather), Under(self.workers, self.weather)
        return open_study(self.study, store, backend, clock=lambda: self.workers.now)

    def step(self, session: Session) -> Ending | None:
        events, ending = session.controller.step()
        self.told += events
        for event in events:
            session.watch.saw(event, self.workers.now)
        self.legs += session.watch.legs()
        return ending

    def run(self, session: Session | None = None, steps: int = STEPS) -> Ending | None:
        session = session or self.open()
        for _ in range(steps):
            ending = self.step(session)
            if ending:
                return ending
            self.tick()
        assert steps < STEPS, "the study does not end"
        return None

    def tick(self) -> None:
        self.alive.append(sum(key not in self.workers.verdicts for key in self.workers.attempts))
        self.workers.tick()

    def steer(self, setting: str, value: object, name: str = "1") -> None:
        document = json.dumps({"setting": setting, "value": value})
        self.store.data[f"test/steer/{name}.json"] = document.encode()

    def events(self) -> list[Event]:
        return check_journal(self.study, self.store)

    def journal(self) -> list[Event]:
        return [event for batch in Journal(self.store, "test").read() for event in batch.events]


def count(events: Sequence[Event], kind: type) -> int:
    return sum(isinstance(event, kind) for event in events)


def one_leg_each(events: Sequence[Event], legs: Sequence[Leg]) -> None:
    begun = Counter((leg.trial, leg.attempt) for leg in legs if isinstance(leg, LegStarted))
    ended = Counter((leg.trial, leg.attempt) for leg in legs if isinstance(leg, LegEnded))
    assert begun == Counter((e.trial, e.attempt) for e in events if isinstance(e, AttemptStarted))
    assert ended == Counter((e.trial, e.attempt) for e in events if isinstance(e, AttemptEnded))


def no_gap(events: Sequence[Event]) -> None:
    """The workers report every epoch: one that the journal does not have was lost."""
    told: dict[int, int] = {}
    for event in events:
        if isinstance(event, Report):
            assert event.resource == told.get(event.trial, 0) + 1, f"{event} after {told}"
            told[event.trial] = event.resource


# -- what goes wrong around it -----------------------------------------------------------------------


def calm(study: Study, **workers: object) -> World:
    world = World(study, **workers)
    world.run()
    return world


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after it"])
@pytest.mark.parametrize("method", ["asha", "asha-stop"])
def test_the_store_or_the_backend_away_at_every_call(method: str, after: bool) -> None:
    study = make_study(method, budget={"trials": 5 if method == "asha" else 3}, workers=2)
    still = calm(study)
    first = still.weather.calls
    World(study, weather := Weather()).open()
    for at in range(weather.calls + 1, first + 1):
        world = World(study, Weather(at, after))
        session, failed = world.open(), 0
        for _ in range(STEPS):
            try:
                if world.step(session):
                    break
            except OSError:
                failed += 1
            world.tick()
        events = world.events()
        assert failed == 1
        assert repr([e for e in events if not isinstance(e, Opened)]) == repr(world.told), f"call {at}"
        assert count(events, Start) == count(still.events(), Start)
        assert count(events, Finished) == 1
        assert world.store.list("test/inbox/") == []
        no_gap(events)
        one_leg_each(events, world.legs)


def test_a_crash_at_every_write_while_trials_are_promoted_alive() -> None:
    """Attempts linger when they have done as ordered, and are promoted meanwhile, as far as to the top."""
    study = make_study("asha", budget={"trials": 5}, workers=9, resource={"min": 1, "max": 4, "eta": 2})

    def world_of(store: MemoryStore) -> World:
        world = World(study, patience=9, loss=lambda trial, resource, config: -trial)
        world.store = world.workers.store = store
        return world

    still = world_of(MemoryStore())
    still.run()
    longest = max(attempt for _, attempt in still.workers.launched)
    ends = [event for event in still.events() if isinstance(event, AttemptEnded)]
    assert any(end.attempt == 1 and end.units == 4 for end in ends), (
        "one was promoted twice in its first attempt"
    )
    for after in (False, True):
        for at in range(1, still.store.writes + 1):
            world = world_of(MemoryStore(crash_at=at, after=after))
            try:
                world.run()
            except Crash:
                world.run()
            events = world.events()
            assert count(events, Start) == 5, f"write {at}"
            assert max(attempt for _, attempt in world.workers.launched) <= longest + 1, f"write {at}"


def untouched(world: World) -> object:
    workers = world.workers
    return dict(world.store.data), set(workers.ending), dict(workers.attempts), list(workers.launched)


@pytest.mark.parametrize("head_start", [0, 1, 4])
def test_a_controller_that_was_fenced_touches_nothing(head_start: int) -> None:
    """Also when it has no news of its own, and sees attempts and reports of its successor."""
    study = make_study("asha", workers=2)
    for passes in range(12):
        world = World(study)
        old = world.open()
        world.run(old, passes)
        world.study = study.model_copy(update={"workers": 5})
        new = world.open()
        world.run(new, head_start)
        before = untouched(world)
        with pytest.raises(Fenced):
            old.controller.step()
        assert untouched(world) == before, f"after {passes} passes"
        assert world.run(new) == Ending("the budget of 9 trials is used")
        assert count(world.events(), Start) == 9


def test_a_take_over_in_the_middle_of_every_call() -> None:
    study = make_study("asha", budget={"trials": 5}, workers=2)
    calls = calm(study).weather.calls
    for at in range(1, calls):
        world = World(study, loss=lambda trial, resource, config: (trial * 7 % 5) / resource)
        successor: list[Session] = []

        def take_over(world: World = world, successor: list[Session] = successor) -> None:
            world.weather.at = None
            successor.append(world.open())
            world.run(successor[0], 2)

        world.weather.at, world.weather.happens = at, take_over
        try:
            world.run()
        except Fenced:
            world.run(successor[0])
        events = world.events()
        assert count(events, Start) == 5, f"call {at}"
        ended = [e for e in events if isinstance(e, AttemptEnded)]
        assert {e.outcome for e in ended} == {Outcome.OK}, f"call {at}: one ended the other's attempts"
        no_gap(events)
        assert world.store.list("test/inbox/") == []


def test_what_cannot_be_read_is_dropped_and_told_once() -> None:
    world = World(make_study("asha"))
    session = world.open()
    world.run(session, 3)
    nonsense = [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"event": "Start"}',
        b'{"event": "Report", "trial": "x"}',
        b"7",
    ]
    for number, data in enumerate(nonsense):
        world.store.data[f"test/inbox/nonsense-{number}"] = data
    wrong = [{"setting": "speed", "value": 1}, {"setting": "workers", "value": -3}, {"value": 1}, [], None]
    wrong += [{"setting": "workers", "value": value} for value in ("2", 1.5, True, None, float("inf"))]
    for number, document in enumerate(wrong):
        world.store.data[f"test/steer/nonsense-{number}"] = json.dumps(document).encode()
    world.weather.at = world.weather.calls + 30  # in the middle of clearing it all
    for _ in range(3):
        with suppress(OSError):
            world.step(session)
        while session.controller.messages:
            session.watch.say(session.controller.messages.pop(0))
    told = session.watch.messages
    assert len(told) == len(set(told)) == len(nonsense) + len(wrong)
    assert world.store.list("test/inbox/") == world.store.list("test/steer/") == []
    assert world.run(session) == Ending("the budget of 9 trials is used")
    assert count(world.events(), Steered) == 0


def test_reports_again_late_and_of_nobody_change_nothing() -> None:
    world = World(make_study("asha"))
    session = world.open()
    world.run(session, 4)
    known = [event for event in world.told if isinstance(event, Report)]
    strangers = [
        Report(99, 1, 1, {"loss": 0.0}),
        Report(-1, 1, 1, {"loss": 0.0}),
        Report(0, 7, 9, {"loss": 0.0}),
    ]
    assert known
    told, fresh = count(world.told, Report), len(world.store.list("test/inbox/"))
    for report in [*known, *strangers]:
        world.store.data[report_key("test", report)] = encode_report(report)
    world.step(session)
    assert count(world.told, Report) == told + fresh
    assert world.store.list("test/inbox/") == []
    world.run(session)
    world.events()


# -- how it ends, and goes on ------------------------------------------------------------------------


def test_cancelled_after_any_pass_it_goes_on() -> None:
    study = make_study("asha")
    still = calm(study)
    for passes in range(len(still.alive)):
        world = World(study)
        session = world.open()
        world.run(session, passes)
        session.controller.cancel("enough")
        assert world.run(session) == Ending("enough", final=False)
        assert [key for key in world.workers.attempts if key not in world.workers.verdicts] == []
        assert world.open().controller.history.finished is None
        assert world.run() == Ending("the budget of 9 trials is used")
        events = world.events()
        assert count(events, Start) == 9
        assert count(events, Opened) == 1
        assert count(events, AttemptStarted) == count(events, AttemptEnded)
        one_leg_each(events, world.legs)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"budget": {"trials": 4}}, "the budget of 4 trials is used"),
        ({"budget": {"resource": 10}}, "the budget of 10 epochs is used"),
        ({"budget": {"hours": 10 / 3600}}, "the budget of 0.00277778 hours is used"),
        ({"budget": {"target": 0.4}}, "the target of 0.4 is reached"),
        (
            {"budget": {"target": 0.6}, "metrics": [{"name": "loss", "mode": "max"}]},
            "the target of 0.6 is reached",
        ),
    ],
    ids=["trials", "resource", "hours", "target of a minimum", "target of a maximum"],
)
def test_budgets(more: dict[str, object], reason: str) -> None:
    world = World(make_study("asha", **more))
    assert world.run() == Ending(reason)
    events = world.events()
    assert events[-1] == Finished(reason)
    assert count(events, AttemptStarted) == count(events, AttemptEnded)
    reports = [event for event in events if isinstance(event, Report)]
    if "resource" in reason or "epochs" in reason:
        assert 10 <= len(reports) <= 10 + 2 * world.study.workers
    if "target" in reason:
        values = [report.metrics["loss"] for report in reports]
        target = world.study.budget.target or 0
        least = world.study.metrics[0].mode == "min"
        assert any(value <= target if least else value >= target for value in values)
        assert not any(
            value <= target if least else value >= target for value in values[: -world.study.workers]
        )


def test_hours_are_of_all_sessions_and_not_of_the_time_between() -> None:
    world = World(make_study("asha", budget={"hours": 20 / 3600}))
    for _ in range(3):
        session = world.open()
        world.run(session, 5)
        session.controller.cancel("later")
        world.run(session)
        world.workers.now += 1000
    session = world.open()
    assert 14 <= session.controller.elapsed <= 18
    began = world.workers.now
    assert world.run(session) == Ending("the budget of 0.00555556 hours is used")
    assert world.workers.now - began <= 8


def test_trials_that_fail_in_a_row_end_the_study_and_it_goes_on_when_mended() -> None:
    study = make_study("asha", max_failed_trials=3, max_failures=1)
    world = World(study, crash=frozenset(range(100)))
    ending = world.run()
    assert ending is not None
    assert ending.failed
    assert ending.reason.startswith("3 trials in a row failed; the last failure: user error")
    history = world.open().controller.history
    assert history.failed_in_a_row == 0
    assert all(trial.failures == 2 for trial in history.trials if trial.status is Status.FAILED)
    world.workers.crash = frozenset()
    assert world.run() == Ending("the budget of 9 trials is used")
    assert [e.failed for e in world.events() if isinstance(e, Finished)] == [True, False]


def test_a_study_that_fails_does_not_change_its_mind() -> None:
    """Trials that are well are ended for it, and may tell something until they are gone."""
    study = make_study("random", max_failed_trials=3, max_failures=0, workers=4)
    world = World(study, crash=frozenset({0, 1, 2}))
    session = world.open()
    world.step(session)
    world.tick()
    assert world.step(session) is None
    assert (3, 1) in world.workers.ending
    last = Report(3, 1, 2, {"loss": 0.1})
    world.store.data[report_key("test", last)] = encode_report(last)
    ending = world.run(session)
    assert ending is not None
    assert ending.reason.startswith("3 trials in a row failed")
    assert last in world.journal()
    assert len(world.workers.launched) == 4


def test_a_study_of_which_every_trial_failed_has_failed() -> None:
    world = World(make_study("asha", budget={"trials": 2}), crash=frozenset(range(9)))
    ending = world.run()
    assert ending is not None
    assert ending.failed
    assert ending.reason.startswith(
        "the budget of 2 trials is used, and there is no usable result; the last failure: user error"
    )
    assert ending.reason.endswith("; to try again, raise budget.trials")


def test_more_budget_goes_on_where_it_ended() -> None:
    world = World(make_study("asha"))
    world.run()
    world.study = make_study("asha", budget={"trials": 12}, workers=1)
    world.alive.clear()
    assert world.run() == Ending("the budget of 12 trials is used")
    assert count(world.events(), Start) == 12
    assert max(world.alive) == 1


# -- how many run ------------------------------------------------------------------------------------


def running(world: World) -> int:
    return sum(key not in world.workers.verdicts for key in world.workers.attempts)


@pytest.mark.parametrize("method", ["random", "asha", "asha-stop"])
@pytest.mark.parametrize("restart", [False, True], ids=["one session", "killed while it drains"])
def test_fewer_workers_drain_by_holding_and_more_release(method: str, restart: bool) -> None:
    world = World(make_study(method, workers=6, budget={"trials": 60}))
    session = world.open()
    world.run(session, 3)
    assert running(world) == 6
    trials = len(session.controller.history.trials)
    world.steer("workers", 2)
    world.run(session, 1)
    assert running(world) <= 6
    trials_now = session.controller.history.trials
    assert all(trials_now[id].status is Status.STOPPED for id, _ in world.workers.ending), (
        "all pause at a report"
    )
    if restart:
        world.workers.die()
        session = world.open()
    world.run(session, 4)
    assert session.controller.workers == 2
    world.alive.clear()
    world.run(session, 6)
    assert max(world.alive) <= 2
    held = [trial for trial in session.controller.history.trials if trial.held]
    world.steer("workers", 5, "2")
    world.alive.clear()
    world.run(session, 6)
    assert max(world.alive) == 5
    assert world.run(session) == Ending("the budget of 60 trials is used")
    events = world.events()
    assert max(world.alive) <= 5
    assert {event.trial for event in events if isinstance(event, Released)} >= {trial.id for trial in held}
    assert all(event.trial < trials for event in events if isinstance(event, Held))
    assert not any(trial.held for trial in session.controller.history.trials)
    assert world.store.list("test/steer/") == []
    assert count(events, Steered) == 2


def test_paused_it_runs_nothing_says_so_and_goes_on() -> None:
    world = World(make_study("asha"))
    session = world.open()
    world.run(session, 2)
    world.steer("paused", 1)
    world.run(session, 6)
    world.alive.clear()
    assert world.run(session, 30) is None
    assert max(world.alive) == 0
    assert "paused" in session.controller.waiting
    session = world.open()  # also over a restart
    assert world.run(session, 5) is None
    world.steer("paused", 0)
    assert world.run(session) == Ending("the budget of 9 trials is used")
    world.events()


@pytest.mark.parametrize("method", ["random", "asha", "asha-stop"])
def test_a_trial_that_a_person_cancels_ends_and_nothing_else_does(method: str) -> None:
    world = World(make_study(method, workers=3, budget={"trials": 20}))
    session = world.open()
    while running(world) < 3 or session.controller.history.units < 6:
        world.step(session)
        world.tick()
    history = session.controller.history
    victim = max(history.live)
    records = len(history.observations())
    world.steer("cancel", victim)
    world.step(session)
    assert history.trials[victim].status is Status.STOPPED
    assert history.trials[victim].reason == "cancelled by a person"
    assert len(history.observations()) <= records + 3, "no record says that its configuration is bad"
    world.steer("cancel", victim, "2")
    world.steer("cancel", 99, "3")
    world.step(session)
    told = session.watch.messages + session.controller.messages
    assert f"not cancelled: trial {victim} has ended already: cancelled by a person" in told
    assert any(line.startswith("not cancelled: there is no trial 99") for line in told)
    session = world.open()  # replayed, it is as it was
    assert session.controller.history.trials[victim].status is Status.STOPPED
    assert world.run(session) == Ending("the budget of 20 trials is used")
    events = world.events()
    assert [event for event in events if isinstance(event, Stop) and event.trial == victim] == [
        Stop(victim, "cancelled by a person")
    ]
    assert count(events, Failed) == 0
    assert not any(key[0] == victim for key in world.workers.attempts)


def test_a_paused_trial_that_is_cancelled_is_never_promoted() -> None:
    world = World(make_study("asha", workers=2, budget={"trials": 30}))
    session = world.open()
    history = session.controller.history

    def paused() -> list[int]:
        return [trial.id for trial in history.trials if trial.status is Status.PAUSED and not trial.live]

    while not paused():
        world.step(session)
        world.tick()
    best = min(paused(), key=lambda id: history.rungs[1].rank(history.record(1, id)))  # type: ignore[arg-type]
    world.steer("cancel", best)
    world.run(session)
    assert history.trials[best].status is Status.STOPPED
    assert history.trials[best].resource == 1
    world.events()


def test_workers_of_a_changed_file_count_after_a_person_has_steered_them() -> None:
    world = World(make_study("asha", budget={"trials": 30}))
    session = world.open()
    world.steer("workers", 1)
    world.run(session, 3)
    assert world.open().controller.workers == 1
    world.study = world.study.model_copy(update={"workers": 4})
    session = world.open()
    assert session.controller.workers == 4
    world.run(session, 3)
    assert running(world) == 4
    assert world.open().controller.workers == 4
    world.events()


def test_many_workers_fill_in_one_pass() -> None:
    world = World(make_study("asha", workers=1000, budget={"trials": 2000}))
    session = world.open()
    world.step(session)
    assert len(world.workers.launched) == 1000


# -- orders ------------------------------------------------------------------------------------------


def test_the_order_stands_in_the_store_before_every_launch_but_a_first() -> None:
    world = World(make_study("asha"))
    session, orders = world.open(), []
    launch = world.workers.launch

    def spy(spec):  # type: ignore[no-untyped-def]
        orders.append((spec.attempt, spec.until, world.store.data.get(order_key("test", spec.trial))))
        launch(spec)

    world.workers.launch = spy  # type: ignore[method-assign]
    world.run(session)
    later = [(Order(until, attempt=attempt), data) for attempt, until, data in orders if attempt > 1]
    assert later
    assert all(data == encode_order(order) for order, data in later)


@pytest.mark.parametrize("stale", [Order(1), Order(1, stop=True), Order(9, stop=True)])
def test_a_stale_order_of_an_old_controller_is_replaced(stale: Order) -> None:
    """It was written late, by one that was already fenced; the next attempt must not obey it for ever."""
    world = World(make_study("asha"), loss=lambda trial, resource, config: trial)
    session = world.open()
    while session.controller.history.trials[:1] == [] or session.controller.history.trials[0].until == 1:
        world.run(session, 1)
    world.store.data[order_key("test", 0)] = encode_order(stale)
    assert world.run(session) == Ending("the budget of 9 trials is used")
    assert 2 <= max(attempt for _, attempt in world.workers.launched) <= 4
    world.events()


def test_a_stopped_or_failed_trial_is_ended() -> None:
    world = World(make_study("asha-stop"))
    session = world.open()
    for _ in range(STEPS):
        ending = world.step(session)
        history = session.controller.history
        for id in history.live:
            if history.trials[id].status is Status.STOPPED:
                assert (id, history.trials[id].attempt) in world.workers.ending
        if ending:
            break
        world.tick()
    stopped = [trial for trial in history.trials if trial.status is Status.STOPPED]
    assert stopped
    assert all((trial.id, trial.attempt) in world.workers.ending for trial in stopped)
    assert world.workers.attempts == {}, "all that ended is forgotten"


def test_trials_that_cannot_be_resumed_start_over_and_nothing_is_told_twice() -> None:
    resource = {"min": 1, "max": 9, "eta": 3, "resumable": False}
    world = World(make_study("asha", resource=resource), patience=0)
    session = world.open()
    for _ in range(STEPS):
        world.workers.checkpoints.clear()  # what an agent does that is told resumable: false
        if world.step(session):
            break
        world.tick()
    events = world.events()
    assert any(isinstance(event, Resume) for event in events)
    assert all(event.started_at == 0 for event in events if isinstance(event, AttemptEnded))
    assert session.controller.history.units > count(events, Report)
    assert session.watch.messages == [], "they start over by design"


def test_constraints_decide_what_is_best_and_when_the_target_is_reached() -> None:
    constraints = [{"metric": "size", "max": 1.0}]
    study = make_study("asha", metrics=["loss", "size"], constraints=constraints, budget={"target": 0.1})
    world = World(study)
    session = world.open()
    world.step(session)

    def told(trial: int, loss: float, size: float) -> None:
        report = Report(trial, 1, 1, {"loss": loss, "size": size})
        world.store.data[report_key("test", report)] = encode_report(report)

    told(0, 0.01, 2.0)
    assert world.step(session) is None
    assert session.controller.history.incumbent is None
    told(1, 0.05, 0.5)
    while (ending := world.step(session)) is None:
        world.workers.die()
    assert ending == Ending("the target of 0.1 is reached")
    best = session.watch.view(session.controller.history, elapsed=0.0).best
    assert best is not None
    assert (best.trial, best.value) == (1, 0.05)


def test_an_agent_knows_the_narrowest_bounds() -> None:
    bounds = [{"metric": "size", "min": 1.0}, {"metric": "size", "max": 5.0}, {"metric": "size", "max": 4.0}]
    study = make_study(
        "asha", metrics=["loss", "size", "ms"], constraints=[*bounds, {"metric": "ms", "max": 9}]
    )
    assert attempt_spec(study, Trial(0, {}, 1)).bounds == {"size": (1.0, 4.0), "ms": (None, 9.0)}


def test_disruptions_and_failures_have_budgets_of_their_own() -> None:
    study = make_study("asha", max_failures=0, max_disruptions=1, budget={"trials": 1}, workers=1)
    world = World(study)
    session = world.open()
    for attempt, outcome in [(1, Outcome.KILLED), (2, Outcome.INTERRUPTED), (3, Outcome.LOST)]:
        world.step(session)
        assert world.workers.launched[-1] == (0, attempt)
        world.workers.verdicts[0, attempt] = AttemptEnded(0, attempt, outcome)
    ending = world.step(session)
    assert ending is not None
    assert ending.failed
    trial = session.controller.history.trials[0]
    assert trial == replace(trial, status=Status.FAILED, disruptions=2, failures=0, attempt=3)


def test_the_next_controller_says_that_a_trial_waits_no_longer() -> None:
    world = World(make_study("random", budget={"trials": 2}, workers=2))
    session = world.open()
    world.workers.waits = {1: "suspended"}
    for _ in range(3):
        world.step(session)
    world.workers.waits = {}  # it begins while nobody looks
    session = world.open()
    world.step(session)
    waits = [event.cause for event in world.journal() if isinstance(event, Waiting)]
    assert waits == ["suspended", ""]
    assert session.watch.causes == {1: ""}


def test_what_a_trial_waits_for_is_journalled_when_it_changes() -> None:
    world = World(make_study("random", budget={"trials": 2}, workers=2))
    session = world.open()
    world.workers.waits = {1: "unschedulable: Insufficient nvidia.com/gpu"}
    for _ in range(20):
        world.step(session)
    world.workers.waits = {1: "suspended"}
    for _ in range(5):
        world.step(session)
    world.workers.waits = {}
    assert world.run(session) is not None
    waits = [event for event in world.told if isinstance(event, Waiting)]
    causes = [event.cause for event in waits]
    assert causes == ["unschedulable: Insufficient nvidia.com/gpu", "suspended", ""]
    assert {(event.trial, event.attempt) for event in waits} == {(1, 1)}
    assert session.watch.messages == [
        "trial 1 waits: unschedulable: Insufficient nvidia.com/gpu", "trial 1 waits: suspended",
    ]  # fmt: skip
    check_journal(world.study, world.store)


@pytest.mark.parametrize("outcome", [Outcome.IMAGE, Outcome.POD_SPEC])
def test_when_no_trial_can_run_the_study_ends_and_the_same_command_tries_again(outcome: Outcome) -> None:
    world = World(make_study("random", budget={"trials": 3}, workers=2))
    session = world.open()
    world.step(session)
    end = AttemptEnded(0, 1, outcome, evidence={"message": "no such tag"})
    world.workers.verdicts[0, 1] = end
    ending = world.run(session)
    assert ending == Ending(f"{outcome}: no such tag", failed=True)
    history = session.controller.history
    assert history.finished is not None
    assert history.finished.failed
    assert not history.live
    assert all(trial.failures == trial.disruptions == 0 for trial in history.trials)
    again = world.run(world.open())
    assert again == Ending("the budget of 3 trials is used")
    check_journal(world.study, world.store)
