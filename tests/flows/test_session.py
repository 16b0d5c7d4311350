"""Opening a study: what is refused, what goes on, and whether it has ended."""

from __future__ import annotations

import time

import pytest

from flows.controller.session import ChangedError, ended, open_study, replay
from flows.study.model import Study
from flows.views.view import LegEnded, LegStarted
from hpo_engine.types import AttemptEnded, Finished, Opened, Outcome, Report, Start, Steered
from operators.codec import dumps
from operators.journal import Journal, JournalError
from operators.lease import Owned
from tests.flows.stand_ins import MemoryStore
from tests.flows.test_loop import World, count
from tests.flows.test_loop_crash import make_study


def half_way() -> World:
    world = World(make_study("asha"))
    world.run(steps=6)
    return world


def opened(world: World) -> int:
    return count(world.journal(), Opened)


def test_a_new_study_is_opened_and_going_on_says_nothing() -> None:
    world = half_way()
    assert opened(world) == 1
    epoch = world.open().epoch
    assert world.open().epoch == epoch + 1
    assert opened(world) == 1
    assert not ended(world.study, replay(world.study, world.store))


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"trials": 99}},
        {"workers": 1},
        {"max_failures": 9},
        {"max_disruptions": 0},
        {"max_failed_trials": 2},
        {"stall_after": 60.0},
        {"env": {"A": "b"}},
        {"command": ["sh", "-c", "exit 1"]},
        {"args": ["--x={x}"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_may_change_goes_on_and_is_journalled(change: dict[str, object]) -> None:
    world = half_way()
    world.study = make_study("asha", **change)
    session = world.open()
    assert opened(world) == 2
    assert session.controller.study == replay(world.study, world.store).study == world.study
    world.open()
    assert opened(world) == 2, "once"


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"seed": 7}, ["seed: was 0, is 7"]),
        ({"metrics": ["acc"]}, ["metrics[0].name: was 'loss', is 'acc'"]),
        (
            {"method": "random"},
            ["method.brackets: was 1, is not given", "method.name: was 'asha', is 'random'"],
        ),
        ({"initial": [{"x": 0.5}]}, ["initial[0].x: was not given, is 0.5"]),
        (
            {
                "resource": {"min": 1, "max": 27, "eta": 3},
                "space": {"x": {"type": "float", "low": 0.5, "high": 1.0}},
            },
            ["resource.max: was 9, is 27", "space.x.low: was 0.0, is 0.5"],
        ),
    ],
    ids=["seed", "metrics", "method", "initial", "two at once"],
)
def test_the_fixed_part_may_not_change_and_each_difference_is_told(
    change: dict[str, object], lines: list[str]
) -> None:
    world = half_way()
    before = dict(world.store.data)
    world.study = make_study(**{"method": "asha", **change})  # type: ignore[arg-type]
    with pytest.raises(ChangedError) as refused:
        world.open()
    text = str(refused.value).splitlines()
    assert {f"  {line}" for line in lines} <= set(text)
    assert "another name" in text[-1]
    assert world.store.data == before


def test_ended_until_the_file_asks_for_more() -> None:
    world = World(make_study("asha"))
    world.run()
    assert ended(world.study, replay(world.study, world.store))
    more = make_study("asha", budget={"trials": 12})
    assert not ended(more, replay(more, world.store))


def test_a_failed_study_has_not_ended_for_good() -> None:
    world = World(make_study("asha", max_failed_trials=1), crash=frozenset(range(9)))
    world.run()
    replayed = replay(world.study, world.store)
    assert replayed.engine.history.finished is not None
    assert not ended(world.study, replayed)


def test_who_writes_while_it_is_taken_over_is_folded_before() -> None:
    world = half_way()
    late = Journal(world.store, "test")
    assert [*late.read()]
    put_once, raced = world.store.put_once, []

    def race(key: str, data: bytes) -> bool:
        if not raced:
            raced.append(key)
            late.claim(0.0, [Steered("workers", 2)])
        return put_once(key, data)

    world.store.put_once = race  # type: ignore[method-assign]
    session = world.open()
    assert raced
    assert session.controller.workers == 2
    assert session.epoch == late.epoch + 1


def test_a_study_that_others_claim_again_and_again_is_theirs() -> None:
    world = half_way()
    late = Journal(world.store, "test")
    put_once = world.store.put_once

    def race(key: str, data: bytes) -> bool:
        world.store.put_once = put_once  # type: ignore[method-assign]
        [*late.read()]
        late.claim(0.0)
        world.store.put_once = race  # type: ignore[method-assign]
        return put_once(key, data)

    world.store.put_once = race  # type: ignore[method-assign]
    with pytest.raises(Owned, match="faster than it can be taken over"):
        world.open()


def test_legs_of_earlier_sessions_are_not_shown_again() -> None:
    world = half_way()
    session = world.open()
    live = {(id, session.controller.history.trials[id].attempt) for id in session.controller.history.live}
    assert live
    assert session.watch.legs() == []
    world.legs.clear()
    world.run(session)
    begun = {(leg.trial, leg.attempt) for leg in world.legs if isinstance(leg, LegStarted)}
    assert {(leg.trial, leg.attempt) for leg in world.legs if isinstance(leg, LegEnded)} == begun | live


def batch(store: MemoryStore, events: list[dict[str, object]], number: int = 2) -> None:
    document = {"schema": 1, "number": number, "epoch": 1, "writer": "x", "time": 0.0, "events": events}
    store.data[f"test/journal/{number:08d}.json"] = dumps(document)


@pytest.mark.parametrize(
    "events",
    [
        [{"event": "Resume", "trial": 7, "until": 3}],
        [{"event": "Opened", "study": {"name": "test"}}],
        [{"event": "Start", "trial": 0, "config": {}, "until": 5}],
    ],
    ids=["of no trial", "no study", "of no level"],
)
def test_a_journal_that_contradicts_itself_is_unreadable(events: list[dict[str, object]]) -> None:
    world = World(make_study("asha"))
    world.open()
    batch(world.store, events)
    with pytest.raises(JournalError, match="batch 2"):
        world.open()


def test_replay_costs_little_for_each_event() -> None:
    """5,000 trials, 20,000 events; a study of 10,000 opens within 10 s."""
    study = make_study("random", budget={"trials": 5000})
    store = MemoryStore()
    session = open_study(study, store, None, clock=lambda: 0.0)  # type: ignore[arg-type]
    journal = Journal(store, "test")
    [*journal.read()]
    for trial in range(5000):
        report = Report(trial, 1, 9, {"loss": trial / 5000}, True)
        start = Start(trial, {"x": trial / 5000}, 9, 2)
        from hpo_engine.types import AttemptStarted

        ended = AttemptEnded(trial, 1, Outcome.OK, 9)
        journal.append([start, AttemptStarted(trial, 1), report, ended], float(trial))
    journal.append([Finished("done")], 5000.0)
    assert session.epoch == 1
    began = time.process_time()
    replayed = replay(study, store)
    spent = time.process_time() - began
    assert replayed.engine.history.length == 20_002
    assert replayed.journal.active == 5000.0
    assert spent < 5.0
    print(f"replay of 20,002 events: {spent:.2f} s")


def test_the_study_comes_back_equal() -> None:
    study = make_study("a-bohb", stall_after=5.0, env={"A": "{x}"})
    world = World(study)
    world.open()
    assert replay(study, world.store).study == study
    assert isinstance(replay(study, world.store).study, Study)
