"""Who controls a study on a cluster: cancelled, refused, fenced, and a study that cannot run at all."""

from __future__ import annotations

import signal
import time

import pytest

from flows.study.kubernetes import Kubernetes
from hpo_engine.types import AttemptEnded, Outcome
from tests.cluster.aftermath import check_losses, claims
from tests.cluster.desk import Desk
from tests.cluster.kit import until
from tests.cluster.sleeper import sleeper

pytestmark = pytest.mark.cluster

OWNED, INTERRUPTED, LEFT = 3, 4, 143
GRACE = 10.0  # seconds that an image may fail to be pulled; 90 unless a study says otherwise
PROMISE = 120.0  # seconds after which such a study has ended, with the grace that it has by itself


def runs(desk: Desk, trials: int) -> bool:
    """So many training containers run."""
    return sum(pod["status"].get("phase") == "Running" for pod in desk.cluster.list("pods")) >= trials


def test_cancelled_no_job_is_left_and_the_study_goes_on_later(desk: Desk) -> None:
    # At its first rung after 8 seconds, of which SIGTERM leaves it 2.
    changes = {"budget": {"trials": 5}, "resource": {"min": 4, "max": 12}, "kubernetes": {"grace": 2}}
    path, study = sleeper(desk, changes, pace=2.0)
    run = desk.tune(path)
    until("two trials run", lambda: runs(desk, 2), 120)
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    until("no Job is left", lambda: not desk.cluster.list("jobs"), within=30)
    print(f"no Job was left after {time.monotonic() - began:.1f} s")
    assert run.wait(within=40) == INTERRUPTED, run.text()
    until("no pod is left", lambda: not desk.cluster.list("pods"), within=30)
    later = desk.tune(path, "--json")
    assert later.wait(within=300) == 0, later.text()
    events = desk.events(study)
    assert later.result()["trials"]["started"] == 5
    ended = [event.outcome for event in events if isinstance(event, AttemptEnded)]
    assert Outcome.INTERRUPTED in ended
    assert {*ended} == {Outcome.OK, Outcome.INTERRUPTED}
    check_losses(events)


@pytest.mark.slow
def test_sigterm_leaves_the_trials_at_work_for_the_next_controller(desk: Desk) -> None:
    path, study = sleeper(desk, {"budget": {"trials": 4}, "resource": {"min": 9, "max": 10}}, pace=2.0)
    run = desk.tune(path)
    until("two trials run", lambda: runs(desk, 2), 120)
    before = {job["metadata"]["uid"] for job in desk.cluster.list("jobs")}
    run.process.send_signal(signal.SIGTERM)
    assert run.wait(within=40) == LEFT, run.text()
    assert "the same command adopts them" in run.text()
    assert before <= {job["metadata"]["uid"] for job in desk.cluster.list("jobs")}
    later = desk.tune(path, "--json")
    assert later.wait(within=240) == 0, later.text()
    events = desk.events(study)
    assert {event.outcome for event in events if isinstance(event, AttemptEnded)} == {Outcome.OK}
    until("nothing is left", lambda: not desk.cluster.left())


def test_a_second_controller_is_refused_and_with_take_over_fences_the_first(desk: Desk) -> None:
    path, study = sleeper(desk, {"budget": {"trials": 7}})
    first = desk.tune(path)
    until("two trials run", lambda: runs(desk, 2), 120)
    second = desk.tune(path)
    assert second.wait(within=60) == OWNED, second.text()
    assert "is being tuned by process" in second.text()
    assert first.process.poll() is None
    third = desk.tune(path, "--take-over", "--json")
    assert first.wait(within=60) == OWNED, first.text()
    assert third.wait(within=300) == 0, third.text()
    events = desk.events(study)
    check_losses(events)
    claims(study, desk.minio.open(study), events)


def test_an_image_that_is_not_there_ends_the_study_with_one_message(desk: Desk) -> None:
    registry = (sleeper(desk)[1].image or "").rpartition("/")[0]
    changes = {"image": f"{registry}/abohb-nothing:none", "kubernetes": {"image_grace": GRACE}}
    path, study = sleeper(desk, changes)
    run = desk.tune(path)
    until("its Job is there", lambda: desk.cluster.list("jobs"), 60)
    began = time.monotonic()
    assert run.wait(within=150) == 1, run.text()
    assert time.monotonic() - began - GRACE < PROMISE - Kubernetes().image_grace
    assert len(desk.cluster.list("jobs")) == 0
    said = [line for line in run.text().splitlines() if line.startswith("Study sleeper ended")]
    assert len(said) == 1
    assert "abohb-nothing:none cannot be pulled" in said[0]
    (end,) = (
        event
        for event in desk.events(study)
        if isinstance(event, AttemptEnded) and event.outcome is Outcome.IMAGE
    )
    assert end.evidence["reason"] in ("ErrImagePull", "ImagePullBackOff")


def test_what_cannot_run_is_told_before_anything_starts(desk: Desk) -> None:
    patch = {
        "spec": {
            "containers": [{"name": "trial", "securityContext": {"privileged": True}}],
            "hostNetwork": True,
        }
    }
    path, _ = sleeper(desk, {"kubernetes": {"patch": patch}, "store": f"s3://{desk.bucket}-not-there"})
    run = desk.tune(path)
    assert run.wait(within=60) == 2, run.text()
    assert "and `privileged` to true" in run.text()
    assert f"{desk.bucket}-not-there" in run.text()
    assert not desk.cluster.list("jobs,configmaps")
