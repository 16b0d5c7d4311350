"""Pods of a test, such as Pod Security `restricted` lets through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.cluster.kit import Json

RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def container(
    name: str, image: str, command: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Json:
    """One that Pod Security `restricted` lets through; /tmp and /abohb are volumes, the rest is read-only."""
    return {
        "name": name,
        "image": image,
        **({"command": list(command)} if command else {}),
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "securityContext": CONFINED,
        "volumeMounts": [{"name": n, "mountPath": f"/{n}"} for n in ("tmp", "abohb")],
    }


def pod(name: str, *containers: Json) -> Json:
    """They run one after the other."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": RESTRICTED,
            "initContainers": list(containers[:-1]),
            "containers": list(containers[-1:]),
            "volumes": [{"name": n, "emptyDir": {}} for n in ("tmp", "abohb")],
        },
    }
