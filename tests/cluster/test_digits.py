"""The digits study on Kubernetes: real training, promoted from checkpoints in object storage."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from examples.digits import train as digits
from flows.controller.session import replay
from hpo_engine.types import AttemptEnded, AttemptStarted, Outcome, Report, Start
from operators.attempt import trial_prefix
from operators.checkpoints import Checkpoints
from tests.cluster.desk import Desk
from tests.cluster.watched import trial_of, watched

pytestmark = pytest.mark.cluster


def test_thirty_trials_of_digits_on_gpus(desk: Desk) -> None:
    path, study = desk.study("digits", {"budget": {"trials": 30}, "kubernetes": {"gpus": 1}})
    with watched(desk.cluster) as pods:
        run = desk.tune(path, "--json")
        assert run.wait(within=600) == 0, run.text()
    events, best = desk.events(study), run.result()["best"]
    started = [event for event in events if isinstance(event, AttemptStarted)]
    ended = [event for event in events if isinstance(event, AttemptEnded)]
    assert sum(isinstance(event, Start) for event in events) == 30
    assert {event.outcome for event in ended} == {Outcome.OK}
    assert most_at_once(events) == 4
    # One pod for each attempt, with a GPU, running the digest that the tag had.
    assert len(pods) == len(started)
    assert {trial_of(pod)["resources"]["limits"]["nvidia.com/gpu"] for pod in pods.values()} == {"1"}
    images = {trial_of(pod)["image"] for pod in pods.values()}
    digests = {name for name in images if "@sha256:" in name}
    assert len(digests) == 1
    assert images - digests <= {study.image}  # the first one's
    check_promotions(desk, study, events, ended)
    # The same, replayed from the journal, and told again by the same command.
    incumbent = replay(study, desk.minio.open(study)).engine.history.incumbent
    assert incumbent is not None
    assert (incumbent.report.trial, incumbent.report.metrics["val_error"]) == (best["trial"], best["value"])
    again = desk.tune(path, "--json")
    assert again.wait(within=60) == 0
    assert again.result()["best"] == best


def check_promotions(desk: Desk, study: Any, events: list[Any], ended: list[AttemptEnded]) -> None:
    """A promoted trial goes on in a new pod, at the epoch after its rung, as it was there."""
    first: dict[tuple[int, int], int] = {}
    losses: dict[tuple[int, int], Report] = {}
    for event in events:
        if isinstance(event, Report):
            first.setdefault((event.trial, event.attempt), event.resource)
            losses[event.trial, event.resource] = event
    promoted = [end for end in ended if end.started_at]
    assert len(promoted) >= 5
    for end in promoted:
        assert first[end.trial, end.attempt] == end.started_at + 1
        assert losses[end.trial, end.started_at].checkpoint
    store, kept = desk.minio.open(study), defaultdict(set)
    for trial in {end.trial for end in promoted}:
        prefix = trial_prefix(study.name, trial)
        for key in store.list(f"{prefix}checkpoints/"):
            resource = int(key.rpartition("/")[2].removesuffix(".json"))
            manifest = Checkpoints(store, prefix).restore_at(resource, desk.folder / "restored")
            assert manifest is not None, key
            assert manifest.report.metrics == losses[trial, resource].metrics
            check_model(desk.folder / "restored", resource, manifest.report.metrics)
            kept[trial].add(resource)
    assert kept


def check_model(folder: Path, epoch: int, metrics: Mapping[str, float]) -> None:
    """It has learnt from each epoch, whatever pod that was in, and is as good as was reported."""
    (images, _), (chosen_by, labels), _ = digits.thirds()
    (file,) = folder.rglob("model.pickle")
    model = pickle.loads(file.read_bytes())
    assert model.t_ == epoch * len(images) * digits.COPIES
    assert digits.error(model, chosen_by, labels) == pytest.approx(metrics["val_error"])


def most_at_once(events: list[Any]) -> int:
    live = most = 0
    for event in events:
        live += isinstance(event, AttemptStarted) - isinstance(event, AttemptEnded)
        most = max(most, live)
    return most
