"""The admission policies of the chart, made for one namespace, and the accounts that they hold."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.cluster.kit import Cluster, Json
from tests.helm.chart import Rendered, render

KINDS = (
    "ServiceAccount", "Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
)  # fmt: skip
POLICY = (
    'policy.registries=["registry.example/ml", "team"]',
    'policy.secrets=["pull"]',
    'policy.service_accounts=["trainer"]',
    'policy.priority_classes=["low"]',
    "policy.max_gpus=4",
)
EXTRA = [
    {"name": "PLAIN", "value": "<a> & 'b' \"c\" \\ $(HOME)\nd"},
    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    {"name": "TEAM", "valueFrom": {"configMapKeyRef": {"name": "team", "key": "name"}}},
    {"name": "AWS_REGION", "value": "instead-of-ours"},
    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "token"}}},
]
WORK_POOL = (
    'controller.mode="workPool"',
    f"controller.extraEnv={json.dumps(EXTRA)}",
    "prefect.auth.enabled=true",
    'ca.existingConfigMap="kube-root-ca.crt"',  # in each namespace there is one
    'proxy.https="http://proxy.example:3128"',
)

GONE = ("--ignore-not-found", "--wait=false")


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


def rendered(cluster: Cluster) -> Rendered:
    images = [f'image.{name}="{os.environ[f"ABOHB_TEST_{name.upper()}"]}"' for name in ("registry", "tag")]
    settings = ("admission.enabled=true", *WORK_POOL, *POLICY, *images)
    return render(*settings, namespace=cluster.namespace)


@contextmanager
def in_force(cluster: Cluster) -> Iterator[None]:
    """The policies, and the accounts with their Roles."""
    made = [one for one in rendered(cluster).objects if one["kind"] in KINDS]
    try:
        cluster.apply(*made)
        yield
    finally:
        for one in made:
            if one["kind"].startswith("Validating"):  # in no namespace
                cluster.kubectl("delete", one["kind"], one["metadata"]["name"], *GONE)
