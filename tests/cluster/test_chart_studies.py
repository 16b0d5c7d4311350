"""What the API server refuses Prefect's worker, whatever stands in the work pool: `admission.enabled`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.admission import Account, in_force, rendered
from tests.cluster.kit import Cluster, Json, until
from tests.cluster.release import NAME
from tests.helm.test_network import STUDY

pytestmark = pytest.mark.cluster

NO_STUDY = {
    "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "evil.example/a"}]}}
}
HOST_PATH = {"name": "host", "hostPath": {"path": "/"}}
AS_THE_WORKER = """\
import asyncio, datetime, json, pathlib, sys, types, uuid
from prefect.client.schemas.objects import Flow, FlowRun
from prefect_kubernetes.settings import KubernetesSettings
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration
from flows.deployment.pool import base_job

template = pathlib.Path("/tmp/job.yaml")
template.write_text(sys.stdin.read())
job = KubernetesWorkerJobConfiguration(**base_job(template)["job_configuration"])
new = lambda **more: types.SimpleNamespace(id=uuid.uuid4(), **more)
now = datetime.datetime.now(datetime.timezone.utc)
flow, deployment = Flow(id=uuid.uuid4(), name="tune"), new(name="tune", tags=[], updated=now)
run = FlowRun(id=uuid.uuid4(), flow_id=flow.id, deployment_id=deployment.id, name="a $(HOME) run")
job.prepare_for_flow_run(run, deployment, flow, new(name="abohb"), sys.argv[1], uuid.uuid4())
worker = KubernetesSettings().worker
asyncio.run(KubernetesWorker._replace_env_variable_with_secret(
    None, "PREFECT_API_AUTH_STRING", job,
    worker.api_auth_string_secret_name, worker.api_auth_string_secret_key))
print(json.dumps(job.job_manifest))
"""  # in the worker's image, with its variables


@pytest.fixture(scope="module")
def held(namespace: Cluster) -> Iterator[Cluster]:
    with in_force(namespace):
        worker = Account(namespace, f"{NAME}-worker")
        metadata = {"name": "none", "namespace": namespace.namespace}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": NO_STUDY}
        until("the policy is in force", lambda: "the worker makes" in worker.asks(job), within=30)
        yield namespace


@pytest.fixture(scope="module")
def study(held: Cluster) -> Json:
    """The Job of a study's pod, as Prefect's own worker makes it of the chart's."""
    made = rendered(held)
    pod = made.pod(f"{NAME}-worker")
    (worker,) = pod["containers"]
    for name in ("startupProbe", "livenessProbe"):
        del worker[name]
    worker["command"] = ["sleep", "600"]
    pod |= {"initContainers": [], "automountServiceAccountToken": False, "serviceAccountName": "default"}
    metadata = {"name": "as-the-worker"}
    secret = made.of("Secret")[f"{NAME}-auth"]
    held.apply(secret, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    held.kubectl("wait", "--for=condition=Ready", "pod/as-the-worker", "--timeout=120s", within=130)
    call = ("exec", "--stdin", "as-the-worker", "--", "python", "-c", AS_THE_WORKER, NAME)
    job: Json = json.loads(
        held.kubectl(*call, stdin=made.of("ConfigMap")[f"{NAME}.policy"]["data"]["job.yaml"])
    )
    held.kubectl("delete", "pod", "as-the-worker", "--now", "--wait=false")
    for name in ("completions", "parallelism"):  # which the API server drops with a warning
        del job["spec"]["template"]["spec"][name]
    return job


def variable(name: str, value: str) -> Callable[[Json, Json], Any]:
    return lambda pod, one: one["env"].append({"name": name, "value": value})


def from_secret(name: str, secret: str, key: str) -> Callable[[Json, Json], Any]:
    there = {"secretKeyRef": {"name": secret, "key": key}}
    return lambda pod, one: one["env"].append({"name": name, "valueFrom": there})


def without(name: str) -> Callable[[Json, Json], Any]:
    def change(pod: Json, one: Json) -> None:
        one["env"] = [entry for entry in one["env"] if entry["name"] != name]

    return change


def test_what_the_worker_makes_passes(held: Cluster, study: Json) -> None:
    (container,) = study["spec"]["template"]["spec"]["containers"]
    assert {"PREFECT__FLOW_RUN_ID", "PREFECT_API_SSL_CERT_FILE", "TEAM"} <= {
        e["name"] for e in container["env"]
    }
    assert Account(held, f"{NAME}-worker").asks(study) == ""


def test_it_is_known_by_its_labels(held: Cluster, study: Json) -> None:
    """Prefect puts labels of its own over the chart's; tests/helm/test_network.py relies on these."""
    assert STUDY.items() <= study["spec"]["template"]["metadata"]["labels"].items()


VARIABLES = "have the variables of the chart"
VOLUMES = "have the volumes of the chart"
NOTHING_ELSE = "run a study and nothing else"
DNS = "ask the cluster's DNS"
STUDY_CHANGES: dict[str, tuple[Callable[[Json, Json], Any], str]] = {
    "image": (lambda pod, one: one.update(image="evil.example/a"), "of the controller's image"),
    "account": (lambda pod, one: pod.update(serviceAccountName="default"), "have the controller's"),
    "privileged": (lambda pod, one: one.update(securityContext={"privileged": True}), "are not privileged"),
    "command": (lambda pod, one: one.update(command=["sh", "-c", "id"]), NOTHING_ELSE),
    "arguments": (lambda pod, one: one.update(args=["-c", "id"]), NOTHING_ELSE),
    "folder": (lambda pod, one: one.update(workingDir="/tmp"), NOTHING_ELSE),
    "hook": (
        lambda pod, one: one.update(lifecycle={"postStart": {"exec": {"command": ["id"]}}}),
        NOTHING_ELSE,
    ),
    "probe": (lambda pod, one: one.update(livenessProbe={"exec": {"command": ["id"]}}), NOTHING_ELSE),
    "another variable": (variable("PYTHONWARNINGS", "all"), "here differ PYTHONWARNINGS"),
    "another setting of Prefect": (variable("PREFECT_LOGGING_SETTINGS_PATH", "/tmp/a"), VARIABLES),
    "another Prefect": (variable("PREFECT_API_URL", "http://evil.example/api"), VARIABLES),
    "the store's key as the password": (
        from_secret("PREFECT_API_AUTH_STRING", "abohb-store", "AWS_SECRET_ACCESS_KEY"),
        VARIABLES,
    ),
    "the password in the open": (variable("PREFECT_API_AUTH_STRING", "admin:a"), VARIABLES),
    "no policy": (variable("ABOHB_POLICY", ""), VARIABLES),
    "no variable for the policy": (without("ABOHB_POLICY"), "here differ ABOHB_POLICY"),
    "no variables": (lambda pod, one: one.pop("env"), VARIABLES),
    "another store": (variable("ABOHB_STORE", "s3://elsewhere"), VARIABLES),
    "another endpoint": (variable("ABOHB_S3_ENDPOINT", "http://evil.example"), VARIABLES),
    "a key by another name": (from_secret("PLAIN", "abohb-store", "AWS_SECRET_ACCESS_KEY"), VARIABLES),
    "another key": (from_secret("TOKEN", "mine", "other"), VARIABLES),
    "another field": (
        lambda pod, one: one["env"].append(
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}}
        ),
        VARIABLES,
    ),
    "another ConfigMap": (
        lambda pod, one: one["env"].append(
            {"name": "TEAM", "valueFrom": {"configMapKeyRef": {"name": "abohb-digits", "key": "name"}}}
        ),
        VARIABLES,
    ),
    "a key as the run's id": (variable("PREFECT__FLOW_RUN_ID", "$(AWS_SECRET_ACCESS_KEY)"), VARIABLES),
    "variables of a secret": (
        lambda pod, one: one.update(envFrom=[{"secretRef": {"name": "other"}}]),
        "no variables of another object",
    ),
    "host path": (lambda pod, one: pod["volumes"].append(HOST_PATH), VOLUMES),
    "another policy": (
        lambda pod, one: pod["volumes"][-1].update(configMap={"name": "abohb-digits"}),
        VOLUMES,
    ),
    "another file as the policy": (
        lambda pod, one: pod["volumes"][-1]["configMap"].update(
            items=[{"key": "job.yaml", "path": "policy.yaml"}]
        ),
        VOLUMES,
    ),
    "a mount elsewhere": (lambda pod, one: one["volumeMounts"][-1].update(mountPath="/app/flows"), VOLUMES),
    "a part of a mount": (lambda pod, one: one["volumeMounts"][-1].update(subPath="a"), VOLUMES),
    "hosts": (
        lambda pod, one: pod.update(hostAliases=[{"ip": "192.0.2.1", "hostnames": ["abohb-prefect"]}]),
        DNS,
    ),
    "a DNS": (lambda pod, one: pod.update(dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.1"]}), DNS),
}  # fmt: skip


@pytest.mark.parametrize("what", STUDY_CHANGES)
def test_the_worker_makes_pods_of_studies_and_no_others(held: Cluster, study: Json, what: str) -> None:
    change, words = STUDY_CHANGES[what]
    wanted = copy.deepcopy(study)
    pod = wanted["spec"]["template"]["spec"]
    change(pod, pod["containers"][0])
    assert words in Account(held, f"{NAME}-worker").asks(wanted)
