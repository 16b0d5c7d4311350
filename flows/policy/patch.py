"""Which fields of a pod template a patch sets, and whether a policy lets it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from operators.kube.merge import DIRECTIVE, KEYS
from operators.kube.settings import AGENT_CONTAINER, PREPARE_CONTAINER

Steps: TypeAlias = tuple[str, ...]  # ("spec", "containers", "[trial]", "env")

AGENTS = (AGENT_CONTAINER, PREPARE_CONTAINER)


def steps_of(field: str) -> Steps:
    """`spec.containers[trial].env` as steps. ValueError, in words for a user: it is no field of a pod."""
    steps = tuple(re.findall(r"\[[^\[\]]+\]|[^.\[\]]+", field))
    if written(steps) != field or not steps or steps[0] not in ("metadata", "spec"):
        raise ValueError(
            f"got {field!r}, expected a field of a pod: spec.affinity, spec.containers[trial].env"
        )
    return steps


def written(steps: Iterable[str]) -> str:
    return "".join(step if step.startswith("[") else f".{step}" for step in steps).removeprefix(".")


def fields_set(patch: object, at: Steps = ()) -> Iterator[Steps]:
    """The outermost fields that a strategic merge patch decides as a whole; what it merges into is not one.

    >>> [written(steps) for steps in fields_set({"spec": {"containers": [{"name": "trial", "tty": True}]}})]
    ['spec.containers[trial].tty']
    """
    if not isinstance(patch, Mapping) or not patch or DIRECTIVE in patch:
        yield at
        return
    for name, value in patch.items():
        below = (*at, f"[{name}]" if "." in str(name) else str(name))  # an annotation
        key = KEYS.get(".".join(step for step in below if not step.startswith("[")))
        if key and isinstance(value, list) and value:
            for item in value:
                yield from _of_item(item, key, below)
        else:
            yield from fields_set(value, below)


def _of_item(item: object, key: str, at: Steps) -> Iterator[Steps]:
    if not isinstance(item, Mapping) or key not in item or item.get(DIRECTIVE) == "replace":
        yield at  # stands for the whole list
        return
    yield from fields_set(
        {name: value for name, value in item.items() if name != key}, (*at, f"[{item[key]}]")
    )


def patch_problems(patch: Mapping[str, Any], allowed: Iterable[str]) -> Iterator[str]:
    """One line for each field that the patch sets and the policy does not allow."""
    may = [steps_of(field) for field in allowed]
    told = ", ".join(allowed) or "none"
    for steps in dict.fromkeys(fields_set(patch)) if patch else ():
        if not any(_covers(field, steps) for field in may):
            what = written(steps) or "the whole pod"
            yield f"sets {what}, which the policy does not allow; it allows {told}"


def _covers(field: Steps, steps: Steps) -> bool:
    """The agent holds keys: only a field that names it reaches into it."""
    agent = next((place for place, step in enumerate(steps) if step[1:-1] in AGENTS and place == 2), None)
    if agent is not None and steps[1] == "initContainers" and len(field) <= agent:
        return False
    return steps[: len(field)] == field


def agent_problems(
    before: Mapping[str, Any], after: Mapping[str, Any], allowed: Iterable[str]
) -> Iterator[str]:
    """What a patch made of the agent's containers, however it was written."""
    may = {steps_of(field)[:4] for field in allowed}
    for name in AGENTS:
        old, new = _container(before, name), _container(after, name)
        for key in sorted(old.keys() | new.keys()):
            named = ("spec", "initContainers", f"[{name}]", key)
            wide = any(field == named[: len(field)] and len(field) >= 3 for field in may)
            if old.get(key) != new.get(key) and (key in ("image", "securityContext") or not wide):
                yield f"changes {key} of the container {name}, which holds keys; leave it as it is"


def _container(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = [item for item in pod["spec"].get("initContainers") or () if item.get("name") == name]
    return found[0] if found else {}
