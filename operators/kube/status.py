"""Reading Jobs and pods as the API server writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from operators.kube.settings import TRIAL_CONTAINER

Object: TypeAlias = Mapping[str, Any]


def unix(text: str | None) -> float | None:
    """RFC 3339 to seconds since 1970; None for none, and for the zero time that some fields hold.

    >>> unix("2026-11-21T13:51:34Z")
    1795269094.0
    >>> unix("1970-01-01T00:00:00Z") is None
    True
    """
    if not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() or None


def condition(thing: Object | None, kind: str) -> Object:
    """A condition that is true; empty if there is none."""
    return next((found for found in conditions(thing, kind) if found["status"] == "True"), {})


def conditions(thing: Object | None, kind: str) -> list[Object]:
    """Those of a kind, true or not."""
    status = (thing or {}).get("status") or {}
    return [found for found in status.get("conditions") or () if found["type"] == kind]


def containers(pod: Object) -> dict[str, Object]:
    """Statuses by name, init containers first; only those that a kubelet has told of."""
    status = pod.get("status") or {}
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return {item["name"]: item for item in every}


def state(pod: Object, kind: str, name: str = TRIAL_CONTAINER) -> Object | None:
    """`running`, `waiting` or `terminated` of a container; None if it is not that now."""
    found: Object | None = (containers(pod).get(name, {}).get("state") or {}).get(kind)
    return found


def runs(pod: Object) -> bool:
    """Whether any of its containers does."""
    return any("running" in (item.get("state") or {}) for item in containers(pod).values())


def spec_of(pod: Object, name: str) -> Object:
    """A container as the pod asks for it; empty if it has none of this name."""
    spec = pod.get("spec") or {}
    every = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return next((item for item in every if item["name"] == name), {})


def deleted(thing: Object) -> str | None:
    """When it is to be gone; None: nobody has asked for that."""
    found: str | None = thing["metadata"].get("deletionTimestamp")
    return found


def created(thing: Object) -> str:
    return str(thing["metadata"].get("creationTimestamp") or "")


def uid(thing: Object) -> str:
    return str(thing["metadata"].get("uid") or "")
