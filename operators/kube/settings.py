"""What the pods of a study are made from, and the names by which all of its objects are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# Labels on Jobs and pods. Names are never parsed: these say which attempt an object is.
STUDY: Final = "abohb.dev/study"
STORE: Final = "abohb.dev/store"  # annotation of the owner: where the study is written down
TRIAL: Final = "abohb.dev/trial"
ATTEMPT: Final = "abohb.dev/attempt"
SPEC_HASH: Final = "abohb.dev/spec-hash"  # an annotation of the Job
QUEUE: Final = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY: Final = "kueue.x-k8s.io/priority-class"

TRIAL_CONTAINER: Final = "trial"
AGENT_CONTAINER: Final = "agent"
PREPARE_CONTAINER: Final = "prepare"
PORT: Final = 8471  # of the agent: /started holds the trial back, /trial lets it live


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """The store as pods reach it."""

    url: str  # s3://bucket/prefix
    endpoint: str | None = None  # None: AWS
    region: str = "us-east-1"
    secret: str | None = None  # a Secret with the AWS_* keys, where there is no STS
    authority: str | None = None  # a ConfigMap: its ca.crt is trusted, in place of the image's certificates


@dataclass(frozen=True, slots=True)
class PodSettings:
    """All that the Job of an attempt needs besides the attempt itself; templates are filled in already."""

    namespace: str
    image: str  # of the training code, as the user names it
    agent_image: str
    store: StoreAccess
    gpus: int = 0  # for the configuration of this attempt
    gpu_resource: str = "nvidia.com/gpu"
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    tolerate_gpu_taint: bool = True  # nodes with GPUs commonly keep others away by a taint of that name
    pull_secrets: Sequence[str] = ()
    pull_policy: str | None = None  # None: as the cluster does it
    queue_name: str | None = None  # of Kueue
    priority_class: str | None = None  # of the pod; with a queue, Kueue's WorkloadPriorityClass
    service_account: str | None = None
    user: int = 1000  # uid and gid of both containers: each may delete what the other has written
    shm: str = "1Gi"
    grace: float = 60.0  # seconds from SIGTERM to SIGKILL
    deadline: float = 3 * 86400.0  # seconds, a backstop
    ttl: float = 6 * 3600.0  # seconds that an ended Job is kept for a controller that was away
    patience: float = 5.0  # seconds for a trial to exit by itself once it has done as ordered
    command_is_args: bool = False  # the command is handed to the image's own entrypoint
    patch: Mapping[str, Any] = field(default_factory=dict)  # strategic merge patch of the pod template


def selector(study: str) -> str:
    """Selects all Jobs and pods of a study."""
    return f"{STUDY}={study}"


def labels(study: str) -> dict[str, str]:
    """On everything that belongs to a study."""
    return {
        "app.kubernetes.io/name": "abohb-trial",
        "app.kubernetes.io/managed-by": "abohb",
        STUDY: study,
    }


def attempt_of(thing: Mapping[str, Any]) -> tuple[int, int] | None:
    """(trial, attempt) of a Job or pod by its labels; None: it is none of ours."""
    found = thing.get("metadata", {}).get("labels") or {}
    try:
        return int(found[TRIAL]), int(found[ATTEMPT])
    except (KeyError, ValueError):
        return None
