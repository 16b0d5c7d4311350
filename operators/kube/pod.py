"""The pod of an attempt: the agent as a native sidecar, and beside it the training code."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from operators.attempt import AttemptSpec, encode_spec
from operators.kube.settings import AGENT_CONTAINER, PORT, PREPARE_CONTAINER, TRIAL_CONTAINER, PodSettings

Object: TypeAlias = dict[str, Any]

SHARED, TRIAL_DIR, HOME = "/abohb", "/abohb/trial", "/abohb/home"  # in both containers
INIT = "/abohb/init"  # lent by the agent: tini
AGENT_DIR = "/abohb-agent"  # in the agent only: outlives a restart of its container
CA_DIR = "/abohb-ca"  # in the agent only
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def template(spec: AttemptSpec, settings: PodSettings, labels: Mapping[str, str], image: str) -> Object:
    """The pod template before the patch of the settings; without credentials, unless by reference."""
    optional = {
        "nodeSelector": dict(settings.node_selector),
        "tolerations": [dict(item) for item in _tolerations(settings)],
        "imagePullSecrets": [{"name": name} for name in settings.pull_secrets],
        "serviceAccountName": settings.service_account,
        "priorityClassName": settings.priority_class if settings.queue_name is None else None,
    }
    return {
        "metadata": {
            "labels": {**labels, "sidecar.istio.io/inject": "false"},
            "annotations": {
                "kubectl.kubernetes.io/default-container": TRIAL_CONTAINER,
                "linkerd.io/inject": "disabled",
                "sidecar.istio.io/inject": "false",
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": max(1, round(settings.grace)),
            # Of the pod, since it is on its node: that of a Job counts what it waits for room as well.
            "activeDeadlineSeconds": max(1, round(settings.deadline)),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": settings.user,
                "runAsGroup": settings.user,
                "fsGroup": settings.user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": list(_agents(spec, settings)),
            "containers": [_trial(spec, settings, image)],
            "volumes": list(_volumes(settings)),
            **{name: value for name, value in optional.items() if value},
        },
    }


def _volumes(settings: PodSettings) -> Iterable[Object]:
    yield {"name": "trial", "emptyDir": {}}
    yield {"name": "agent", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
    yield {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shm}}
    if settings.store.authority:
        yield {"name": "ca", "configMap": {"name": settings.store.authority}}


def _tolerations(settings: PodSettings) -> Iterable[Mapping[str, Any]]:
    yield from settings.tolerations
    if settings.gpus and settings.tolerate_gpu_taint:
        vendor = settings.gpu_resource.split("/")[0]  # a part of a GPU is tainted as the whole is
        yield {"key": f"{vendor}/gpu", "operator": "Exists", "effect": "NoSchedule"}


_CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _agents(spec: AttemptSpec, settings: PodSettings) -> Iterable[Object]:
    """A native sidecar, and behind it what holds the training code back until all is ready for it.

    Both start at once. Only the second can make the pod fail before any user code has run.
    """
    ours = _agent(spec, settings)
    yield {**ours, "name": AGENT_CONTAINER, "args": ["follow"], "restartPolicy": "Always"}
    yield {**copy.deepcopy(ours), "name": PREPARE_CONTAINER, "args": ["prepare"]}


def _agent(spec: AttemptSpec, settings: PodSettings) -> Object:
    store = settings.store
    env: dict[str, str] = {
        "ABOHB_ATTEMPT": encode_spec(spec).decode(),
        "ABOHB_STORE": store.url,
        "ABOHB_PATIENCE": f"{settings.patience:g}",
        "AWS_REGION": store.region,
        "HOME": AGENT_DIR,
        "TMPDIR": AGENT_DIR,
        **({"ABOHB_S3_ENDPOINT": store.endpoint} if store.endpoint else {}),
        **({"AWS_CA_BUNDLE": f"{CA_DIR}/ca.crt"} if store.authority else {}),
    }
    uid = {"name": "ABOHB_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return {
        "image": settings.agent_image,
        "env": [*variables(env), uid, *(_from_secret(store.secret) if store.secret else ())],
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {**copy.deepcopy(_CONFINED), "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "trial", "mountPath": SHARED},
            {"name": "agent", "mountPath": AGENT_DIR},
            *([{"name": "ca", "mountPath": CA_DIR, "readOnly": True}] if store.authority else ()),
        ],
        **({"imagePullPolicy": settings.pull_policy} if settings.pull_policy else {}),
    }


def _trial(spec: AttemptSpec, settings: PodSettings, image: str) -> Object:
    """The training code. Its liveness is what the agent says: that is how the agent ends it."""
    gpus = {settings.gpu_resource: str(settings.gpus)} if settings.gpus else {}
    env = {"ABOHB_TRIAL_DIR": TRIAL_DIR, "HOME": HOME, "PYTHONUNBUFFERED": "1", **spec.env}
    words = [_as_written(word) for word in spec.command]
    if words and not settings.command_is_args:
        # Process 1 of a container hears no SIGTERM without a handler for it, and would use all of its grace.
        words = [INIT, "-g", "--", *words]
    optional = {
        "args" if settings.command_is_args else "command": words,
        "workingDir": spec.workdir,
        "imagePullPolicy": settings.pull_policy,
    }
    return {
        "name": TRIAL_CONTAINER,
        "image": image,
        "env": [{"name": name, "value": _as_written(value)} for name, value in env.items()],
        "livenessProbe": {
            **_probe("/trial"),
            "periodSeconds": 2,
            "failureThreshold": 3,  # an agent that is started again is away for a moment
            "terminationGracePeriodSeconds": 5,
        },
        "resources": {
            "requests": {**settings.requests, **gpus},
            "limits": {**settings.limits, **gpus},
        },
        "securityContext": copy.deepcopy(_CONFINED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "trial", "mountPath": SHARED}, {"name": "shm", "mountPath": "/dev/shm"}],
        **{name: value for name, value in optional.items() if value},
    }


def _probe(path: str) -> Object:
    return {"httpGet": {"path": path, "port": PORT}, "timeoutSeconds": 5}


def _as_written(text: str) -> str:
    """Kubernetes makes $ of $$; a reference such as $(ABOHB_TRIAL_DIR) it fills in as we mean it."""
    return text.replace("$$", "$$$$")


def variables(env: Mapping[str, str]) -> list[Object]:
    """Values that reach the container as they are."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in env.items()]


def _from_secret(secret: str) -> Iterable[Object]:
    for key in KEYS:
        optional = {"optional": True} if key == KEYS[-1] else {}
        yield {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, **optional}}}
