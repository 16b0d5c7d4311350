"""The loop under faults that are exact: a crash at every write of the store, messages told again and late."""

from __future__ import annotations

import random

import pytest

from flows.controller.loop import Ending
from flows.controller.session import open_study
from flows.study.model import Study
from hpo_engine.types import Event, Resume, Start, Stop
from tests.flows.invariants import check_journal
from tests.flows.stand_ins import Crash, MemoryStore, Workers


def make_study(method: str, **more: object) -> Study:
    return Study.model_validate(
        {
            "name": "test",
            "command": ["true"],
            "metrics": ["loss"],
            "resource": {"min": 1, "max": 9, "eta": 3},
            "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "method": method,
            "workers": 3,
            "budget": {"trials": 9},
            "max_failures": 3,
            **more,
        }
    )


def tune(study: Study, store: MemoryStore, workers: Workers, *, survivors: bool) -> tuple[Ending, int]:
    """Controllers one after the other until the study ends; how it ended, and how many crashed."""
    crashes = 0
    for _ in range(60):
        try:
            controller = open_study(study, store, workers, clock=lambda: workers.now).controller
            for _ in range(2000):
                _, ending = controller.step()
                if ending:
                    return ending, crashes
                workers.tick()
        except Crash:
            crashes += 1
            if not survivors:
                workers.die()
    raise AssertionError("the study does not end")


def decisions(events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, (Start, Resume, Stop))]


@pytest.mark.parametrize(
    "survivors", [True, False], ids=["jobs outlive the controller", "workers die with it"]
)
@pytest.mark.parametrize("method", ["asha", "asha-stop"])
def test_a_crash_at_every_write(method: str, survivors: bool) -> None:
    study = make_study(method)
    calm = MemoryStore()
    tune(study, calm, Workers(calm, random.Random(0)), survivors=True)
    started = [e for e in decisions(check_journal(study, calm)) if isinstance(e, Start)]
    crashed = 0
    for after in (False, True):
        for write in range(1, calm.writes + 1):
            store = MemoryStore(crash_at=write, after=after)
            ending, crashes = tune(study, store, Workers(store, random.Random(0)), survivors=survivors)
            events = check_journal(study, store)
            assert ending.final
            assert len([e for e in events if isinstance(e, Start)]) == len(started)
            assert store.list("test/inbox/") == []
            crashed += crashes
    assert crashed == 2 * calm.writes


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("method", ["random", "asha", "asha-stop", "hyperband"])
def test_lost_attempts_late_and_repeated_messages(method: str, seed: int) -> None:
    study = make_study(method, seed=seed, max_disruptions=2)
    chance = random.Random(seed)
    store = MemoryStore(crash_at=chance.randint(1, 150), after=bool(seed % 2))
    workers = Workers(store, chance, fault=0.08, messy=0.3)
    ending, _ = tune(study, store, workers, survivors=bool(seed % 3))
    events = check_journal(study, store)
    assert len([e for e in events if isinstance(e, Start)]) == 9 or ending.failed


def test_the_same_journal_decides_the_same() -> None:
    journals = []
    for _ in range(2):
        store = MemoryStore()
        tune(make_study("a-bohb"), store, Workers(store, random.Random(0)), survivors=True)
        journals.append(check_journal(make_study("a-bohb"), store))
    assert repr(journals[0]) == repr(journals[1])


def test_a_study_whose_trials_all_diverge_has_failed() -> None:
    study = make_study("asha", space={"x": {"type": "float", "low": 0.96, "high": 1.0}})
    store = MemoryStore()
    ending, _ = tune(study, store, Workers(store, random.Random(0)), survivors=True)
    assert ending.failed
    assert "no usable result; 9 trials diverged" in ending.reason


def test_attempts_that_do_nothing_and_say_all_is_well_come_to_an_end() -> None:
    study = make_study("random", budget={"trials": 1}, max_disruptions=3)
    store = MemoryStore()
    workers = Workers(store, random.Random(0), checkpoints={0: 9})  # of a study that is not in the journal
    ending, _ = tune(study, store, workers, survivors=True)
    assert ending.failed
    assert "lost: it did nothing (attempt 4)" in ending.reason
