"""What the API server itself refuses the controller, whoever may have got hold of it: `admission.enabled`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from operators.attempt import AttemptSpec
from operators.kube.manifest import job
from operators.kube.settings import PodSettings, StoreAccess
from tests.cluster.admission import Account, in_force
from tests.cluster.kit import Cluster, Json, image, until

pytestmark = pytest.mark.cluster

IMAGE = "registry.example/ml/digits:1"


@pytest.fixture(scope="module")
def held(namespace: Cluster) -> Iterator[Cluster]:
    with in_force(namespace):
        yield namespace


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
        agent_image=image("agent"),
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
