"""What must hold of a study of `sleeper` on a cluster, whatever befell it: journal, store and pods agree."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import pytest

from flows.controller.session import replay
from flows.study.model import Study
from hpo_engine.types import AttemptEnded, AttemptStarted, Blame, Event, Report, Start, Status
from operators.attempt import claim_key, facts_key, log_key
from operators.store import Store
from operators.verdict import Facts, decode_facts
from tests.cluster.faults import Fault
from tests.cluster.kit import Json
from tests.cluster.sleeper import ILL, loss_of
from tests.cluster.watched import Key, pods_that_ran

START = 20.0  # seconds that a controller may take until it is at work
GONE = 15.0  # seconds that a pod may take until it is gone


def check_losses(events: Iterable[Event]) -> None:
    """Every report is the one that its configuration makes at its epoch: nothing was mixed up."""
    configs = {event.trial: event.config for event in events if isinstance(event, Start)}
    reports = [event for event in events if isinstance(event, Report)]
    assert reports
    for report in reports:
        wanted = loss_of(float(configs[report.trial]["x"]), report.resource)
        assert report.metrics["loss"] == pytest.approx(wanted, rel=1e-6)


def ends(events: Iterable[Event]) -> list[AttemptEnded]:
    return [event for event in events if isinstance(event, AttemptEnded)]


def claims(study: Study, store: Store, events: Iterable[Event]) -> dict[Key, str]:
    """The uid of the pod that acted, by attempt. No two attempts were the same pod's."""
    found = {}
    for end in ends(events):
        if data := store.get(claim_key(study.name, end.trial, end.attempt)):
            found[end.trial, end.attempt] = str(json.loads(data)["pod"])
    assert found
    assert len({*found.values()}) == len(found)
    return found


def check_pods(study: Study, store: Store, events: Sequence[Event], pods: Mapping[str, Json]) -> None:
    """Of each attempt the training code ran in one pod at most: in the one that has claimed it."""
    acted = claims(study, store, events)
    for key, found in pods_that_ran(pods.values()).items():
        assert [pod["metadata"]["uid"] for pod in found] == [acted.get(key)], f"pods of {key}"


def facts(study: Study, store: Store, events: Iterable[Event]) -> Iterator[Facts]:
    """What agents have said at the end; those that were killed before that say nothing."""
    for end in ends(events):
        data = store.get(facts_key(study.name, end.trial, end.attempt))
        if data is not None and (found := decode_facts(data)) is not None:
            yield found


def check_reports(study: Study, store: Store, events: Sequence[Event]) -> None:
    """Every epoch that an agent has committed is in the journal, and none is left in the inbox."""
    told: dict[int, set[int]] = defaultdict(set)
    for event in events:
        if isinstance(event, Report):
            told[event.trial].add(event.resource)
    for trial, epochs in told.items():
        assert epochs == {*range(1, max(epochs) + 1)}, f"trial {trial}"
    some = [*facts(study, store, events)]
    assert some
    for fact in some:
        assert {*range(1, fact.reached + 1)} <= told[fact.trial], fact
    assert store.list(f"{study.name}/inbox/") == []


def check_blame(study: Study, store: Store) -> None:
    """Only those fail that are ill-behaved; a disruption is never held against a configuration."""
    for trial in replay(study, store).engine.history.trials:
        if trial.config["kind"] not in ILL:
            assert (trial.failures, trial.reason) == (0, ""), trial
            assert trial.status in (Status.PAUSED, Status.COMPLETED), trial


def wasted(events: Sequence[Event]) -> dict[Key, int]:
    """Epochs that had to be run again, by attempt that was ended from outside.

    Each attempt went on from the last epoch that was reported before, or from a later one.
    """
    reached: dict[int, int] = defaultdict(int)
    before: dict[int, int] = {}
    lost: dict[Key, int] = {}
    for event in events:
        if isinstance(event, Report):
            reached[event.trial] = event.resource
        elif isinstance(event, AttemptStarted):
            before[event.trial] = reached[event.trial]
        elif isinstance(event, AttemptEnded) and event.units:
            assert event.started_at >= before[event.trial], event
            again = event.started_at + event.units - reached[event.trial]
            assert again >= 0, event
            if event.outcome.blame is Blame.DISRUPTION:
                lost[event.trial, event.attempt] = again
    return lost


def check_logs(
    study: Study, store: Store, pods: Mapping[str, Json], *, excused: Iterable[Key] = ()
) -> dict[Key, str]:
    """What each training code printed is in the store. `excused`: nobody was there to fetch it."""
    kept, unseen = {}, {*excused}
    for key, (pod, *_) in pods_that_ran(pods.values()).items():
        data = store.get(log_key(study.name, *key, "log"))
        if data is None:
            assert key in unseen, f"no log of {key}, pod {pod['metadata']['name']}"
        else:
            kept[key] = data.decode()
            assert kept[key].startswith("on {"), kept[key]
    assert kept
    return kept


def unwatched(faults: Iterable[Fault], absences: Collection[float]) -> Iterator[Key]:
    """Attempts whose pod may have gone while no controller was there to copy its output."""
    for fault in faults:
        if fault.hit and any(fault.began - START < away < fault.ended + GONE for away in absences):
            yield fault.hit
