"""What the API server itself refuses the controller, whoever may have got hold of it: `admission.enabled`."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from operators.attempt import AttemptSpec
from operators.kube.manifest import job
from operators.kube.settings import PodSettings, StoreAccess
from tests.cluster.kit import Cluster, Json, until
from tests.helm.chart import render

pytestmark = pytest.mark.cluster

KINDS = (
    "ServiceAccount", "Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
)  # fmt: skip
IMAGE = "registry.example/ml/digits:1"
POLICY = (
    'policy.registries=["registry.example/ml", "team"]',
    'policy.secrets=["pull"]',
    'policy.service_accounts=["trainer"]',
    'policy.priority_classes=["low"]',
    "policy.max_gpus=4",
)


@dataclass(frozen=True, slots=True)
class Account:
    """One that asks the API server whether it may make a Job; none is made."""

    cluster: Cluster
    name: str

    def asks(self, wanted: Json) -> str:
        """What keeps it from that Job; "" if nothing does."""
        who = f"--as=system:serviceaccount:{self.cluster.namespace}:{self.name}"
        command = ["kubectl", "create", who, "--dry-run=server", "--filename=-"]
        done = subprocess.run(command, input=json.dumps(wanted), capture_output=True, text=True, timeout=60)
        return done.stderr if done.returncode else ""


@pytest.fixture(scope="module")
def held(namespace: Cluster) -> Iterator[Cluster]:
    settings = ("admission.enabled=true", 'controller.mode="workPool"', *POLICY)
    made = [one for one in render(*settings, namespace=namespace.namespace).objects if one["kind"] in KINDS]
    namespace.apply(*made)
    yield namespace
    for one in made:
        if one["kind"].startswith("Validating"):  # in no namespace
            namespace.kubectl("delete", one["kind"], one["metadata"]["name"], "--wait=false")


@pytest.fixture(scope="module")
def controller(held: Cluster) -> Account:
    account = Account(held, "abohb-controller")
    bad = trial(held)
    bad["spec"]["template"]["spec"]["hostNetwork"] = True
    until("the policy is in force", lambda: "trials may not use" in account.asks(bad), within=30)
    return account


def trial(cluster: Cluster) -> Json:
    """A Job as the controller makes it."""
    spec = AttemptSpec("digits", 0, 1, {"lr": 0.1}, "epoch", 1, ("train",), ("loss",))
    settings = PodSettings(
        namespace=cluster.namespace,
        image=IMAGE,
        agent_image="abohb-agent:0.1.0",
        store=StoreAccess("s3://abohb/studies"),
        gpus=4,
        requests={"cpu": "1"},
        pull_secrets=["pull"],
        service_account="trainer",
        priority_class="low",
    )
    made = job(spec, settings, {}, {"uid": ""}, IMAGE)
    del made["metadata"]["ownerReferences"]
    return made


def changed(cluster: Cluster, change: Callable[[Json, Json], Any]) -> Json:
    """`change` is given the pod and its training container."""
    wanted = copy.deepcopy(trial(cluster))
    pod = wanted["spec"]["template"]["spec"]
    change(pod, pod["containers"][0])
    return wanted


def test_a_trial_as_the_controller_makes_it_passes(controller: Account) -> None:
    assert controller.asks(trial(controller.cluster)) == ""


@pytest.mark.parametrize("image", ["team/digits:2", "docker.io/team/digits", f"{IMAGE}@sha256:{64 * '0'}"])
def test_images_of_the_registries_pass(controller: Account, image: str) -> None:
    assert controller.asks(changed(controller.cluster, lambda pod, trial: trial.update(image=image))) == ""


HOST_PATH = {"name": "host", "hostPath": {"path": "/"}}
PROJECTED = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
OTHERS = {
    "name": "KEY",
    "valueFrom": {"secretKeyRef": {"name": "abohb-store", "key": "AWS_SECRET_ACCESS_KEY"}},
}
CHANGES: dict[str, tuple[Callable[[Json, Json], Any], str]] = {
    "image": (
        lambda pod, trial: trial.update(image="evil.example/ml/digits:1"),
        "images of trials must be from",
    ),
    "image of a longer name": (
        lambda pod, trial: trial.update(image="registry.example/mlx/digits"),
        "images of",
    ),
    "image of the hub": (lambda pod, trial: trial.update(image="digits:1"), "got docker.io/library/digits:1"),
    "image of a sidecar": (
        lambda pod, trial: pod["initContainers"][0].update(image="evil.example/agent"),
        "images of trials must be from",
    ),
    "host network": (lambda pod, trial: pod.update(hostNetwork=True), "of the host"),
    "host processes": (lambda pod, trial: pod.update(hostPID=True), "of the host"),
    "host port": (
        lambda pod, trial: trial.update(ports=[{"containerPort": 1, "hostPort": 1}]),
        "ports of the host",
    ),
    "host path": (lambda pod, trial: pod["volumes"].append(HOST_PATH), "volumes of trials may be"),
    "privileged": (
        lambda pod, trial: trial.update(securityContext={"privileged": True}),
        "may not be privileged",
    ),
    "escalation": (
        lambda pod, trial: trial["securityContext"].pop("allowPrivilegeEscalation"),
        "may not be privileged",
    ),
    "capability": (
        lambda pod, trial: trial["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        "may not be privileged",
    ),
    "root": (lambda pod, trial: trial["securityContext"].update(runAsUser=0), "may not run as root"),
    "root of the pod": (lambda pod, trial: pod["securityContext"].pop("runAsNonRoot"), "may not run as root"),
    "secret as a variable": (lambda pod, trial: trial["env"].append(OTHERS), "these secrets alone"),
    "secret as variables": (
        lambda pod, trial: trial.update(envFrom=[{"secretRef": {"name": "abohb-store"}}]),
        "these secrets alone",
    ),
    "secret as a volume": (
        lambda pod, trial: pod["volumes"].append({"name": "s", "secret": {"secretName": "abohb-store"}}),
        "volumes of trials may be",
    ),
    "secret for pulling": (
        lambda pod, trial: pod["imagePullSecrets"].append({"name": "other"}),
        "these secrets alone",
    ),
    "token as a volume": (lambda pod, trial: pod["volumes"].append(PROJECTED), "volumes of trials may be"),
    "token": (lambda pod, trial: pod.update(automountServiceAccountToken=True), "service accounts alone"),
    "service account": (
        lambda pod, trial: pod.update(serviceAccountName="abohb-controller"),
        "service accounts alone",
    ),
    "the store's volume": (
        lambda pod, trial: pod["volumes"].append(
            {"name": "v", "persistentVolumeClaim": {"claimName": "abohb-minio"}}
        ),
        "volumes of trials may be",
    ),
    "priority": (lambda pod, trial: pod.update(priorityClassName="system-node-critical"), "PriorityClasses"),
    "GPUs": (
        lambda pod, trial: trial.update(resources={"limits": {"nvidia.com/gpu": "5"}}),
        "a trial may have 4 GPUs (policy.max_gpus), got 5",
    ),
    "GPUs of two containers": (
        lambda pod, trial: pod["initContainers"][1]["resources"]["limits"].update(
            {"nvidia.com/mig-1g.5gb": 1}
        ),
        "a trial may have 4 GPUs (policy.max_gpus), got 5",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_leads_out_of_a_trial_is_refused(controller: Account, what: str) -> None:
    change, words = CHANGES[what]
    assert words in controller.asks(changed(controller.cluster, change))


def test_others_are_not_concerned(controller: Account) -> None:
    """The policy is the controller's: it is no law for the namespace."""
    other = Account(controller.cluster, "someone")
    said = other.asks(changed(controller.cluster, lambda pod, trial: pod.update(hostNetwork=True)))
    assert "forbidden: User" in said


@pytest.fixture
def study(controller: Account) -> Json:
    """The Job of a study's pod, which the worker makes."""
    namespace = controller.cluster.namespace
    return render('controller.mode="workPool"', namespace=namespace).study()


def test_the_worker_makes_pods_of_studies_and_no_others(held: Cluster, study: Json) -> None:
    worker = Account(held, "abohb-worker")
    assert worker.asks(study) == ""
    changes: dict[str, Callable[[Json, Json], Any]] = {
        "of the controller's image": lambda pod, one: one.update(image="evil.example/a"),
        "have the controller's service account": lambda pod, one: pod.update(serviceAccountName="default"),
        "are not privileged": lambda pod, one: one.update(securityContext={"privileged": True}),
        "are emptyDir or configMap": lambda pod, one: pod["volumes"].append(HOST_PATH),
        "read the secrets of store and Prefect alone": lambda pod, one: one.update(
            envFrom=[{"secretRef": {"name": "other"}}]
        ),
    }
    nothing_else: list[Callable[[Json, Json], Any]] = [
        lambda pod, one: one.update(command=["sh", "-c", "id"]),
        lambda pod, one: one.update(args=["-c", "id"]),
        lambda pod, one: one["env"].append({"name": "PYTHONWARNINGS", "value": "all"}),
        lambda pod, one: one.update(lifecycle={"postStart": {"exec": {"command": ["id"]}}}),
        lambda pod, one: one.update(livenessProbe={"exec": {"command": ["id"]}}),
    ]
    asked = [*changes.items(), *(("run a study and nothing else", change) for change in nothing_else)]
    for words, change in asked:
        wanted = copy.deepcopy(study)
        pod = wanted["spec"]["template"]["spec"]
        change(pod, pod["containers"][0])
        assert words in worker.asks(wanted), words
