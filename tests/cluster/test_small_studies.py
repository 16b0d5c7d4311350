"""Whole studies, small ones: from the machine of the tests, and from the cluster itself."""

from __future__ import annotations

import pytest
import yaml

from hpo_engine.types import Outcome
from tests.cluster.desk import EXAMPLES, Desk
from tests.cluster.kit import image, until

pytestmark = pytest.mark.cluster


def test_a_study_of_a_trial_without_python(desk: Desk) -> None:
    path, study = desk.study("shell", {"budget": {"trials": 6}})
    run = desk.tune(path, "--json")
    assert run.wait(within=240) == 0, run.text()
    ended = [event for event in desk.events(study) if type(event).__name__ == "AttemptEnded"]
    assert {event.outcome for event in ended} == {Outcome.OK}
    assert any(event.started_at for event in ended), "none was promoted"


def test_a_controller_in_the_cluster(desk: Desk) -> None:
    path, study = desk.study("shell", {"name": "inside", "budget": {"trials": 2}})
    documents = list(yaml.safe_load_all((EXAMPLES / "controller.yaml").read_text()))
    job = next(one for one in documents if one["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["image"] = image("controller")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "study"}}
    desk.cluster.apply({**config, "data": {"study.yaml": path.read_text()}}, job)

    def condition() -> list[str]:
        return [one["type"] for one in desk.cluster.get("job", "abohb")["status"].get("conditions", ())]

    until("the controller's Job ends", lambda: {"Complete", "Failed"} & {*condition()}, within=240)
    assert "Complete" in condition(), desk.cluster.kubectl("logs", "job/abohb")
    assert "Study inside ended" in desk.cluster.kubectl("logs", "job/abohb")
    assert desk.events(study)
    desk.cluster.kubectl("delete", "job/abohb", "configmap/study")
