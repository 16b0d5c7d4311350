"""The policy of the platform and a real cluster: what it forbids never becomes a Job."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from operators.kube.settings import selector
from tests.cluster.desk import Desk
from tests.cluster.kit import image

pytestmark = pytest.mark.cluster


def under(desk: Desk, policy: dict[str, Any]) -> Desk:
    """The same desk on a platform with this policy."""
    file = desk.folder / "policy.yaml"
    file.write_text(yaml.safe_dump(policy))
    ours = {"ABOHB_POLICY": str(file), "ABOHB_STORE": f"s3://{desk.bucket}/studies"}
    ours |= {"ABOHB_AGENT_IMAGE": image("agent"), "ABOHB_S3_ENDPOINT": desk.environment["ABOHB_S3_ENDPOINT"]}
    ours |= {"ABOHB_TRIALS_NAMESPACE": desk.cluster.namespace}
    return dataclasses.replace(desk, environment={**desk.environment, **ours})


def allowing(desk: Desk, **more: Any) -> dict[str, Any]:
    return {"registries": [image("x").rpartition("/")[0]], "store_endpoints": [desk.minio.inside], **more}


def test_what_the_policy_forbids_never_becomes_a_job(desk: Desk) -> None:
    host = {"spec": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}}
    path, study = desk.study("shell", {"name": "forbidden", "workers": 9, "kubernetes": {"patch": host}})
    for command in (["tune"], ["check"]):
        run = under(desk, allowing(desk, max_workers=4)).abohb(*command, path, "--on", "kubernetes")
        assert run.wait(within=60) == 2, run.text()
        assert run.text().splitlines() == [
            f"{path} workers: got 9; the policy allows 4",
            f"{path} kubernetes.patch: sets spec.volumes[host].hostPath.path, which the policy does not "
            "allow; it allows none",
            f"{path} kubernetes.patch: the volume host is a hostPath, which no policy allows; it may be "
            "emptyDir, persistentVolumeClaim, configMap, downwardAPI, ephemeral, secret, projected",
        ]
    assert desk.cluster.list("jobs", selector(study.name)) == []
    run = under(desk, allowing(desk, local=False)).abohb("tune", path)
    assert run.wait(within=60) == 2, run.text()


def test_a_study_within_the_policy_runs_with_its_defaults(desk: Desk) -> None:
    path, study = desk.study("shell", {"name": "allowed", "budget": {"trials": 1}, "resource": {"max": 3}})
    ours = under(desk, allowing(desk, max_workers=4, defaults={"limits": {"memory": "64Mi"}}))
    run = ours.tune(path, "--json")
    assert run.wait(within=240) == 0, run.text()
    desk.events(study)


def test_a_config_map_of_somebody_else_is_neither_taken_over_nor_deleted(desk: Desk) -> None:
    """A study may be called anything, also like the rest of another object's name."""
    path, study = desk.study("shell", {"name": "taken", "budget": {"trials": 1}})
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "abohb-taken"},
        "data": {"a": "b"},
    }
    desk.cluster.apply(theirs)
    try:
        run = desk.tune(path)
        assert run.wait(within=120) == 2, run.text()
        assert "there is a ConfigMap abohb-taken already, and it is not of this study" in run.text()
        assert desk.cluster.list("jobs", selector(study.name)) == []
        data = desk.cluster.kubectl("get", "configmap", "abohb-taken", "--output=jsonpath={.data.a}")
        assert data == "b"
    finally:
        desk.cluster.kubectl("delete", "configmap", "abohb-taken")
