"""One study, and all that can befall it: in the end its journal is as if nothing had happened."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from hpo_engine.types import AttemptEnded, Event, Outcome, Start
from operators.journal import Journal
from tests.cluster.aftermath import (
    check_blame,
    check_logs,
    check_losses,
    check_pods,
    check_reports,
    ends,
    unwatched,
    wasted,
)
from tests.cluster.desk import Desk
from tests.cluster.faults import Faults
from tests.cluster.keeper import Keeper, kept
from tests.cluster.kit import until
from tests.cluster.sleeper import sleeper
from tests.cluster.watched import Key, watched

pytestmark = pytest.mark.cluster

SEED = 20
TRIALS, KILLS = 24, 10
OUTAGE = 30.0  # seconds
LIMIT = 300.0  # seconds for all of it
STUDY = {
    "name": "faults",
    "budget": {"trials": TRIALS},
    "resource": {"min": 4, "max": 12},
    "space": {"kind": {"values": ["good", "fine", "nice", "greedy", "broken"]}},
    "initial": [{"x": 0.3, "kind": "greedy"}, {"x": 0.5, "kind": "broken"}],
    "seed": SEED,
    "kubernetes": {"grace": 3},
}


def test_all_that_can_befall_a_study(desk: Desk) -> None:
    path, study = sleeper(desk, STUDY)
    began, store = time.monotonic(), desk.minio.open(study)
    faults = Faults(desk, study, store, random.Random(SEED))
    keeper = Keeper(desk, path, random.Random(SEED + 1), KILLS, life=(2.0, 28.0))
    with watched(desk.cluster) as pods, kept(keeper):
        for fault in plan(faults, keeper):
            strike(fault, keeper)
        keeper.wait(LIMIT - (time.monotonic() - began))
    took = time.monotonic() - began
    events = desk.events(study)
    show(events, took)

    assert len(keeper.killed) == KILLS
    assert keeper.unexcused(faults.done) == []
    assert sum(isinstance(event, Start) for event in events) == TRIALS
    check_losses(events)
    check_pods(study, store, events, pods)
    check_reports(study, store, events)
    check_blame(study, store)
    assert set(wasted(events).values()) <= {0, 1}
    check_evidence(ends(events))
    logs = check_logs(study, store, pods, excused=unwatched(faults.done, keeper.absences))
    gone = {fault.hit for fault in faults.done if fault.hit} & {*logs}
    print(f"{len(logs)} logs are kept, {len(gone)} of them of pods that were taken away")
    assert gone
    assert faults.waits()


def plan(faults: Faults, keeper: Keeper) -> list[Callable[[], object]]:
    """In random order. Of each that takes a pod away one is seen by a controller from start to end."""
    blows = [faults.delete_pod, faults.evict_pod, faults.suspend_job]
    some: list[Callable[[], object]] = [
        *(partial(seen, blow, faults, keeper) for blow in blows),
        *blows,
        faults.evict_pod,
        faults.cordon,
        partial(faults.stop_store, OUTAGE),
    ]
    if faults.can_stop_api:
        some.append(partial(faults.stop_api, OUTAGE))
    faults.chance.shuffle(some)
    return some


def seen(blow: Callable[[], bool], faults: Faults, keeper: Keeper) -> bool:
    if not faults.victims():
        return False
    with keeper.calm(faults.store, faults.study.name):
        if not blow():
            return False
        hit = faults.done[-1].hit
        journal = partial(read, faults)
        until(f"the end of {hit} is in the journal", lambda: hit in {key_of(end) for end in ends(journal())})
        return True


def read(faults: Faults) -> list[Event]:
    return [event for batch in Journal(faults.store, faults.study.name).read() for event in batch.events]


def key_of(end: AttemptEnded) -> Key:
    return (end.trial, end.attempt)


def strike(fault: Callable[[], object], keeper: Keeper) -> None:
    """Once there is somebody to hit."""
    until("a training code is at work", lambda: keeper.over or fault() is not False, within=90, every=1.0)
    assert not keeper.over, "the study has ended before its time"


def check_evidence(ended: Sequence[AttemptEnded]) -> None:
    """Of each class there is one, and it tells why: reason, exit code, last line of the log."""
    print(*{(end.outcome, *end.evidence.items()) for end in ended if end.outcome is not Outcome.OK}, sep="\n")

    def told(outcome: Outcome, log: str = "on {", **wanted: str) -> bool:
        return any(
            end.outcome is outcome
            and log in end.evidence.get("log", "")
            and end.evidence.get("exit code", "").isdigit()
            and wanted.items() <= end.evidence.items()
            for end in ended
        )

    assert told(Outcome.USER_ERROR, "no such file: data.bin", **{"exit code": "3"})
    assert told(Outcome.OUT_OF_MEMORY, reason="OOMKilled", **{"exit code": "137"})
    assert told(Outcome.DISRUPTION, reason="EvictionByEvictionAPI")
    assert told(Outcome.SUSPENDED, reason="JobSuspended")
    assert any("its pod was deleted" in end.evidence.get("message", "") for end in ended)


def show(events: Sequence[Event], took: float) -> None:
    ended = Counter(end.outcome.value for end in ends(events))
    again = sum(wasted(events).values())
    print(f"{took:.0f} s of {LIMIT:.0f}; attempts: {dict(ended)}; epochs run again: {again}")
