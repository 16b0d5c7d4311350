"""Whole studies, small ones: from the machine of the tests, and from the cluster itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml

from hpo_engine.types import AttemptEnded, Outcome, Start
from operators.kube.settings import selector
from operators.kube.status import state
from tests.cluster.desk import EXAMPLES, Desk
from tests.cluster.kit import image, until
from tests.cluster.sleeper import sleeper

pytestmark = pytest.mark.cluster
STOPPED = 4  # exit code


def test_a_study_of_a_trial_without_python(desk: Desk) -> None:
    path, study = desk.study("shell", {"budget": {"trials": 6}})
    run = desk.tune(path, "--json")
    assert run.wait(within=240) == 0, run.text()
    ended = [event for event in desk.events(study) if isinstance(event, AttemptEnded)]
    assert {event.outcome for event in ended} == {Outcome.OK}
    assert any(event.started_at for event in ended), "none was promoted"


@pytest.mark.slow
def test_looked_at_and_steered_from_outside_with_a_secret_for_the_store(desk: Desk) -> None:
    """Every command of a running study, whose agents have keys by reference, as without STS."""
    keys = {"AWS_ACCESS_KEY_ID": desk.minio.key, "AWS_SECRET_ACCESS_KEY": desk.minio.secret}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys}
    desk.cluster.apply(secret)
    changes = {
        "name": "steered",
        "workers": 3,
        "budget": {"trials": 4},
        "resource": {"min": 10, "max": 11},
        "kubernetes": {"store_secret": "keys"},
    }
    path, study = sleeper(desk, changes, pace=2.0)

    def said(verb: str, *more: str, code: int = 0) -> Any:
        command = desk.abohb(verb, path, *more)
        assert command.wait(within=60) == code, command.text()
        return command.result() if "--json" in more else command.text()

    def at_work() -> int:
        return sum(state(pod, "running") is not None for pod in desk.cluster.list("pods"))

    run = desk.tune(path)
    until("three are at work", lambda: at_work() == 3, within=120)
    (job, *_) = desk.cluster.list("jobs")
    assert desk.minio.secret not in str(job)
    said("set", "workers=1")
    until("two have paused", lambda: at_work() == 1)
    said("pause")
    until("all have paused", lambda: not desk.cluster.list("jobs"))
    assert run.process.poll() is None
    assert said("status", "--json")["paused"]
    assert '"x"' in said("logs", "0")
    said("resume")
    until("it goes on", lambda: at_work() == 1)
    said("set", "workers=3")
    until("with three", lambda: at_work() >= 2)
    said("stop")
    assert run.wait(within=60) == STOPPED, run.text()
    until("no Job is left", lambda: not desk.cluster.list("jobs"), within=30)
    later = desk.tune(path)
    assert later.wait(within=240) == 0, later.text()
    ended = [event for event in desk.events(study) if isinstance(event, AttemptEnded)]
    assert {event.outcome for event in ended} == {Outcome.OK, Outcome.INTERRUPTED}
    assert len(said("trials").splitlines()) >= 4
    assert said("best", "--json")["checkpoint"]
    desk.cluster.kubectl("delete", "secret", "keys")


@pytest.mark.slow
def test_the_owner_of_the_jobs_is_deleted_while_they_run(desk: Desk) -> None:
    """They go with it. A trial loses what is later than its last checkpoint, and nothing else happens."""
    budget = {"budget": {"trials": 4}, "resource": {"min": 9, "max": 10}}
    path, study = sleeper(desk, {"name": "orphans", **budget}, pace=2.0)
    run = desk.tune(path, "--json")

    def at_work() -> int:
        pods = desk.cluster.list("pods", selector(study.name))
        return sum(state(pod, "running") is not None for pod in pods)

    until("some are at work", lambda: at_work() >= 2, within=120)
    desk.cluster.kubectl("delete", "configmap", "abohb-orphans")
    assert run.wait(within=240) == 0, run.text()
    ended = Counter(event.outcome for event in desk.events(study) if isinstance(event, AttemptEnded))
    assert ended.keys() == {Outcome.DISRUPTION, Outcome.OK}
    assert ended[Outcome.DISRUPTION] >= 2
    until("nothing is left", lambda: not desk.cluster.left())


def uids(desk: Desk) -> set[str]:
    return {pod["metadata"]["uid"] for pod in desk.cluster.list("pods", "job-name=abohb")}


@pytest.mark.slow
def test_a_controller_in_the_cluster_goes_on_after_it_was_drained(desk: Desk) -> None:
    path, study = desk.study("shell", {"name": "inside", "budget": {"trials": 2}})
    documents = list(yaml.safe_load_all((EXAMPLES / "controller.yaml").read_text()))
    job = next(one for one in documents if one["kind"] == "Job")
    spec = job["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 300
    (container,) = spec["containers"]
    container["image"] = image("controller")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "study"}}
    desk.cluster.apply({**config, "data": {"study.yaml": path.read_text()}}, job)

    def conditions() -> set[str]:
        return {one["type"] for one in desk.cluster.get("job", "abohb")["status"].get("conditions", ())}

    until("a trial is there", lambda: desk.cluster.list("jobs") or conditions(), within=240)
    (pod,) = desk.cluster.list("pods", "job-name=abohb")
    desk.cluster.evict(pod["metadata"]["name"])
    # By SIGTERM, not by SIGKILL after its grace.
    until("it has gone", lambda: pod["metadata"]["uid"] not in uids(desk), within=120)
    until("the controller's Job ends", lambda: conditions() & {"Complete", "Failed"}, within=240)
    assert "Complete" in conditions(), desk.cluster.kubectl("logs", "job/abohb")
    assert "Study inside ended" in desk.cluster.kubectl("logs", "job/abohb")
    events = desk.events(study)
    assert sum(isinstance(event, Start) for event in events) == 2
    ended = {event.outcome for event in events if isinstance(event, AttemptEnded)}
    assert ended == {Outcome.OK}, "a trial was ended together with its controller"
    desk.cluster.kubectl("delete", "job/abohb", "configmap/study")
