"""The strategic merge patch of Kubernetes, for a pod template: what `kubectl patch` would make of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from hpo_engine.types import AbohbError

Object: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]  # ("spec", "containers", "[trial]", "env")

_OF_CONTAINERS = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath"}
_OF_CONTAINERS |= {"volumeDevices": "devicePath"}
_OF_PODS = {"containers": "name", "initContainers": "name", "ephemeralContainers": "name", "volumes": "name"}
_OF_PODS |= {"imagePullSecrets": "name", "resourceClaims": "name", "schedulingGates": "name"}
_OF_PODS |= {"hostAliases": "ip", "topologySpreadConstraints": "topologyKey"}

# The lists that are merged item by item, and what tells their items apart; all others are replaced.
KEYS = {
    "metadata.ownerReferences": "uid",
    **{f"spec.{name}": key for name, key in _OF_PODS.items()},
    **{
        f"spec.{kind}.{name}": key
        for kind in ("containers", "initContainers", "ephemeralContainers")
        for name, key in _OF_CONTAINERS.items()
    },
}
UNION = "metadata.finalizers"  # the list of plain values that is united
DIRECTIVE = "$patch"


class PatchError(AbohbError):
    """A patch that cannot be applied to a pod template."""


def merge(template: Mapping[str, Any], patch: Mapping[str, Any]) -> Object:
    """The template with the patch applied; neither is changed. PatchError says where the patch is wrong."""
    if not isinstance(patch, Mapping):
        raise PatchError(f"the patch: got {patch!r}, expected an object such as {{spec: {{...}}}}")
    return _map(copy.deepcopy(dict(template)), copy.deepcopy(dict(patch)), ())


def _map(old: Object, patch: Object, at: Path) -> Object:
    if DIRECTIVE in patch:
        return _directed(patch, at)
    for name, value in patch.items():
        if not isinstance(name, str):
            raise PatchError(f"{_where((*at, str(name)))}: names are texts, write it in quotes")
        if name.startswith("$"):
            raise PatchError(f"{_where((*at, name))}: of the directives only {DIRECTIVE} is supported")
        if value is None:
            old.pop(name, None)
        else:
            old[name] = _value(old.get(name), value, (*at, name))
    return old


def _directed(patch: Object, at: Path) -> Object:
    word = patch.pop(DIRECTIVE)
    if word == "delete":
        return {}
    if word == "replace":
        return _map({}, patch, at)
    raise PatchError(f"{_where((*at, DIRECTIVE))}: got {word!r}, expected delete or replace")


def _value(old: Any, patch: Any, at: Path) -> Any:
    place = ".".join(part for part in at if not part.startswith("["))
    if key := KEYS.get(place):
        return _list(old or [], patch, key, at)
    if place == UNION and isinstance(patch, list):
        return list(dict.fromkeys([*patch, *(old or ())]))
    for kind, word in ((dict, "an object"), (list, "a list")):
        if isinstance(old, kind) and not isinstance(patch, kind):
            raise PatchError(f"{_where(at)}: got {patch!r}, expected {word}")
    return _map(old or {}, patch, at) if isinstance(patch, dict) else patch


def _list(old: list[Object], patch: Any, key: str, at: Path) -> list[Object]:
    if not isinstance(patch, list):
        raise PatchError(f"{_where(at)}: got {patch!r}, expected a list of objects with {key}")
    changes: list[Object] = []
    replaced = False
    for number, item in enumerate(patch):
        word = _checked(item, key, (*at, f"[{number}]"))
        replaced |= word == "replace"  # the item stands for the whole list, as Kubernetes has it
        if word == "delete":
            old = [kept for kept in old if kept.get(key) != item[key]]
        elif word is None:
            changes.append(item)
    old = [] if replaced else old
    merged = {item[key]: item for item in old}
    for item in changes:
        name = item[key]
        merged[name] = _map(merged.get(name, {}), item, (*at, f"[{name}]"))
    return _ordered(merged, [item[key] for item in old], [item[key] for item in changes])


def _checked(item: Any, key: str, at: Path) -> str | None:
    """The directive of a list item that can be understood."""
    if not isinstance(item, dict):
        raise PatchError(f"{_where(at)}: got {item!r}, expected an object with {key}")
    word = item.get(DIRECTIVE)
    if word not in (None, "delete", "replace"):
        raise PatchError(f"{_where((*at, DIRECTIVE))}: got {word!r}, expected delete or replace")
    if word != "replace" and not isinstance(item.get(key), str | int):
        raise PatchError(f"{_where(at)}: lacks {key}, which says which one is meant")
    return word


def _ordered(merged: Mapping[Any, Object], old: Sequence[Any], changed: Iterable[Any]) -> list[Object]:
    """In the patch's order; each of the others before the first of those that it stood before."""
    right = list(dict.fromkeys(changed))
    left = [name for name in old if name not in right]
    place = {name: number for number, name in enumerate(old)}
    names: list[Any] = []
    while left and right:
        first = right[0] in place and place[left[0]] < place[right[0]]
        names.append((left if first else right).pop(0))
    return [merged[name] for name in (*names, *left, *right)]


def _where(at: Path) -> str:
    shown = "".join(part if part.startswith("[") else f".{part}" for part in at)
    return shown.removeprefix(".") or "the patch"
