"""Our objects before a real API server: accepted as they are, where only `restricted` pods may run."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from operators.attempt import AttemptSpec
from operators.kube.manifest import config_map, job, owner_reference, same
from operators.kube.merge import KEYS, UNION
from operators.kube.settings import PodSettings, StoreAccess
from tests.cluster.kit import Cluster, image

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
STUDY = "manifest"
SPEC = AttemptSpec(STUDY, 3, 1, {"lr": 0.1}, "epoch", 3, ("python", "-c", "pass"), ("v",), env={"X": "1"})
OWNER = owner_reference({"metadata": {"name": f"abohb-{STUDY}", "uid": "0-0"}})
KEYS_OF_TRIAL = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}


@pytest.fixture
def settings(cluster: Cluster) -> PodSettings:
    store = StoreAccess("s3://bucket/x", "http://minio:9000")
    return PodSettings(cluster.namespace, image("agent"), image("agent"), store)


def made(settings: PodSettings, owner: Object = OWNER, spec: AttemptSpec = SPEC) -> Object:
    return job(spec, settings, KEYS_OF_TRIAL, owner, settings.image)


def dry(cluster: Cluster, thing: Object) -> Object:
    """What the server would have made of it. AssertionError: it refuses, or does not know a field."""
    words = ("create", "--dry-run=server", "--validate=strict", "--filename=-", "--output=json")
    found: Object = json.loads(cluster.kubectl(*words, stdin=json.dumps(thing)))
    return found


def pod_of(thing: Object) -> Object:
    """A Job is only warned of what Pod Security refuses: its pods are what must get through."""
    template = copy.deepcopy(thing["spec"]["template"])
    metadata = {**template["metadata"], "name": "of-manifest", "namespace": thing["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def everything(settings: PodSettings) -> PodSettings:
    return replace(
        settings,
        gpus=2,
        requests={"cpu": "1", "memory": "1Gi"},
        limits={"memory": "2Gi", "ephemeral-storage": "10Gi"},
        node_selector={"zone": "a"},
        tolerations=({"key": "spot", "operator": "Exists", "effect": "NoSchedule"},),
        pull_secrets=("registry",),
        pull_policy="Always",
        queue_name="gpus",
        service_account="default",
        store=replace(settings.store, secret="minio-keys"),
        patch={"spec": {"volumes": [{"name": "data", "emptyDir": {}}], "hostAliases": [{"ip": "192.0.2.1"}]}},
    )


def test_the_server_takes_the_job_with_no_settings_and_with_all(
    cluster: Cluster, settings: PodSettings
) -> None:
    for which in (settings, everything(settings)):
        wanted = made(which)
        answered = dry(cluster, wanted)
        assert answered["spec"]["backoffLimit"] == 0
        assert answered["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] is False
        assert same(answered, wanted) == ""


def test_the_pods_may_run_where_pod_security_is_restricted(cluster: Cluster, settings: PodSettings) -> None:
    for which in (settings, everything(settings)):
        found = dry(cluster, pod_of(made(which)))
        assert {item["name"] for item in found["spec"]["containers"]} == {"trial"}
    risky = replace(settings, patch={"spec": {"hostNetwork": True}})
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        dry(cluster, pod_of(made(risky)))


def test_gpus_of_the_whole_pod_are_those_of_the_trial(cluster: Cluster, settings: PodSettings) -> None:
    found = dry(cluster, pod_of(made(replace(settings, gpus=3))))
    every = [*found["spec"]["initContainers"], *found["spec"]["containers"]]
    asked = {item["name"]: item["resources"].get("requests", {}).get("nvidia.com/gpu") for item in every}
    assert asked == {"agent": None, "prepare": None, "trial": "3"}


def test_a_job_is_made_once_and_known_again(cluster: Cluster, settings: PodSettings) -> None:
    owner = json.loads(
        cluster.kubectl(
            "create", "--filename=-", "--output=json", stdin=json.dumps(config_map(STUDY, "s3://bucket"))
        )
    )
    wanted = made(settings, owner_reference(owner))
    wanted["spec"]["suspend"] = True  # no pod is needed for this
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(wanted))
    with pytest.raises(AssertionError, match="AlreadyExists"):
        cluster.kubectl("create", "--filename=-", stdin=json.dumps(wanted))
    existing = cluster.get("job", wanted["metadata"]["name"])
    assert same(existing, made(settings, owner_reference(owner), replace(SPEC, until=9, reported=3))) == ""
    assert "other settings" in same(existing, made(replace(settings, gpus=1), owner_reference(owner)))
    assert "earlier object" in same(existing, made(settings))
    cluster.kubectl("delete", "configmap", owner["metadata"]["name"])  # the Job goes with its owner


WORDS = ["--out=$(ABOHB_TRIAL_DIR)/x", "$$", "$(date)", "$$$(ABOHB_TRIAL_DIR)", "a$", "$X"]
FILLED = ["--out=/abohb/trial/x", "$$", "$(date)", "$$/abohb/trial", "a$", "$X"]


def test_words_reach_the_training_code_as_on_one_machine(cluster: Cluster, settings: PodSettings) -> None:
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], [os.environ[f'E{i}'] for i in range(6)]]))"
    env = {f"E{number}": word for number, word in enumerate(WORDS)}
    pod = pod_of(made(settings, spec=replace(SPEC, command=("python", "-c", code, *WORDS), env=env)))
    trial = pod["spec"]["containers"][0]
    trial["command"] = trial["command"][3:]  # no agent lends it an init, and nobody is asked
    del pod["spec"]["initContainers"], trial["livenessProbe"]
    pod["metadata"]["name"] = "words"
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(pod))
    try:
        assert cluster.wait_pod("words") == "Succeeded"
        assert json.loads(cluster.logs("words", "trial")) == [FILLED, FILLED]
    finally:
        cluster.kubectl("delete", "pod", "words", "--now")


def test_the_lists_that_a_patch_merges_are_those_of_the_server(cluster: Cluster) -> None:
    kinds = json.loads(cluster.kubectl("get", "--raw=/openapi/v2"))["definitions"]
    found: dict[str, str | None] = {}

    def look(kind: str, at: str) -> None:
        for name, field in kinds[kind].get("properties", {}).items():
            here = f"{at}.{name}" if at else name
            if "merge" in field.get("x-kubernetes-patch-strategy", ""):
                found[here] = field.get("x-kubernetes-patch-merge-key")
            inner = field.get("$ref") or field.get("items", {}).get("$ref")
            if inner and "JSONSchemaProps" not in inner:
                look(inner.split("/")[-1], here)

    look("io.k8s.api.core.v1.PodTemplateSpec", "")
    theirs = {
        at: key for at, key in found.items() if "volumeClaimTemplate" not in at
    }  # nobody patches owners there
    assert theirs == {**KEYS, UNION: None}
