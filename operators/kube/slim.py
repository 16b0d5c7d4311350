"""What a controller keeps of a Job or a pod: identity, labels and status, and none of the environment."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

OURS: Final = "abohb.dev/"  # annotations of others can be long
_METADATA: Final = (
    "name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences",
    "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
_SPEC: Final = (
    "suspend", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",  # of a Job
    "nodeName", "nodeSelector", "schedulingGates", "priority", "terminationGracePeriodSeconds",  # of a pod
)  # fmt: skip
_CONTAINERS: Final = ("initContainers", "containers")
_CONTAINER: Final = ("name", "image", "resources", "restartPolicy")
_STATUSES: Final = ("initContainerStatuses", "containerStatuses")
_STATUS: Final = ("name", "image", "imageID", "ready", "started", "restartCount", "state", "lastState")


def slim(thing: Json) -> Json:
    """Who it is, our annotations; names, images, limits of containers; the status. Parts are shared."""
    metadata, spec, status = thing.get("metadata") or {}, thing.get("spec") or {}, thing.get("status") or {}
    ours = {key: value for key, value in (metadata.get("annotations") or {}).items() if key.startswith(OURS)}
    containers = {key: [_only(one, _CONTAINER) for one in spec[key]] for key in _CONTAINERS if spec.get(key)}
    statuses = {key: [_only(one, _STATUS) for one in status[key]] for key in _STATUSES if status.get(key)}
    return {
        "metadata": {**_only(metadata, _METADATA), **({"annotations": ours} if ours else {})},
        "spec": {**_only(spec, _SPEC), **containers},
        "status": {**status, **statuses},
    }


def _only(thing: Json, keys: tuple[str, ...]) -> Json:
    return {key: thing[key] for key in keys if key in thing}
