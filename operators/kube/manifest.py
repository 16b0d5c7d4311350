"""The Kubernetes objects of a study, as pure functions: one ConfigMap that owns all, one Job per attempt."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from hpo_engine.types import AbohbError
from operators.attempt import AttemptSpec, encode_spec
from operators.kube import settings as names
from operators.kube.merge import PatchError, merge
from operators.kube.pod import template, variables
from operators.kube.settings import AGENT_CONTAINER, PREPARE_CONTAINER, TRIAL_CONTAINER, PodSettings

Object: TypeAlias = dict[str, Any]

LONGEST_NAME = 52
_AGENTS = (AGENT_CONTAINER, PREPARE_CONTAINER)


class ManifestError(AbohbError):
    """A Job that cannot be, or that is not ours."""


UNMAKEABLE = (ManifestError, PatchError)  # a Job that cannot be, whoever makes it


def job_name(study: str, trial: int, attempt: int) -> str:
    """Names an attempt in its namespace; nobody reads the parts back."""
    name = f"{study}-{trial}-{attempt}"
    if len(name) > LONGEST_NAME:
        raise ManifestError(f"{name}: the name of a Job would be longer than {LONGEST_NAME} characters")
    return name


def config_map(study: str, store: str) -> Object:
    """The object that owns all others of a study: when it is deleted, so are they. `store`: its URL."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"abohb-{study}",
            "labels": names.labels(study),
            "annotations": {names.STORE: store},
        },
    }


def owner_reference(owner: Mapping[str, Any]) -> Object:
    """Of the ConfigMap as the API server answered it."""
    metadata = owner["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }


def job(
    spec: AttemptSpec,
    settings: PodSettings,
    credentials: Mapping[str, str] | None,
    owner: Mapping[str, Any],
    image: str,
) -> Object:
    """The Job of an attempt. `image`: what the study's image was resolved to.

    `credentials`: values of AWS_* variables for the agent; None: from the Secret of the settings, or from the
    platform. PatchError, ManifestError: the patch of the settings cannot be applied, or breaks the contract.
    """
    known = {**names.labels(spec.study), names.TRIAL: str(spec.trial), names.ATTEMPT: str(spec.attempt)}
    pod = merge(template(spec, settings, known, image), settings.patch)
    _check(pod, known)
    marks = {names.SPEC_HASH: _hash(spec, pod, settings)}
    for name in _AGENTS:
        agent = _container(pod["spec"], "initContainers", name)
        agent["env"] = [*(agent.get("env") or ()), *variables(credentials or {})]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(spec.study, spec.trial, spec.attempt),
            "namespace": settings.namespace,
            "labels": {**known, **_queue(settings)},
            "annotations": marks,
            "ownerReferences": [dict(owner)],
        },
        "spec": {
            "backoffLimit": 0,  # a next attempt is a new Job, and the controller's decision
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": round(settings.ttl),
            "podReplacementPolicy": "Failed",  # never two pods of an attempt at once
            "podFailurePolicy": {"rules": copy.deepcopy(_RULES)},
            "template": pod,
        },
    }


_RULES: list[Object] = [
    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {
        "action": "FailJob",
        "onExitCodes": {"containerName": TRIAL_CONTAINER, "operator": "NotIn", "values": [0]},
    },
]


def _queue(settings: PodSettings) -> dict[str, str]:
    """Kueue finds the Job by these, and suspends it until there is room."""
    if settings.queue_name is None:
        return {}
    priority = settings.priority_class
    return {names.QUEUE: settings.queue_name, **({names.QUEUE_PRIORITY: priority} if priority else {})}


def _check(pod: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """What a patch may not change, because all else relies on it."""
    body = pod.get("spec") or {}
    places = [*(("initContainers", name) for name in _AGENTS), ("containers", TRIAL_CONTAINER)]
    for kind, name in places:
        if not _container(body, kind, name).get("image"):
            raise ManifestError(f"patch: the container {name!r} must stay in {kind}, and have an image")
    if _container(body, "initContainers", AGENT_CONTAINER).get("restartPolicy") != "Always":
        raise ManifestError(f"patch: the container {AGENT_CONTAINER!r} must keep restartPolicy: Always")
    if body.get("restartPolicy") != "Never":
        raise ManifestError("patch: the pod must keep restartPolicy: Never")
    set_by_us = {name: value for name, value in labels.items() if name.startswith("abohb.dev/")}
    if not set_by_us.items() <= ((pod.get("metadata") or {}).get("labels") or {}).items():
        raise ManifestError(f"patch: the labels {', '.join(set_by_us)} must stay as they are")


def _container(body: Mapping[str, Any], kind: str, name: str) -> Object:
    found: list[Object] = [item for item in body.get(kind) or () if item["name"] == name]
    return found[0] if found else {}


def _hash(spec: AttemptSpec, pod: Mapping[str, Any], settings: PodSettings) -> str:
    """Of what an attempt is. Not of credentials, and not of its order, which the command may tell as well."""
    body = copy.deepcopy(pod["spec"])
    lasting = encode_spec(replace(spec, until=0, reported=0, command=(), env={})).decode()
    for name in _AGENTS:
        for variable in _container(body, "initContainers", name).get("env") or ():
            if variable["name"] == "ABOHB_ATTEMPT":
                variable["value"] = lasting
    for name in ("command", "args", "env"):
        _container(body, "containers", TRIAL_CONTAINER).pop(name, None)
    document = [pod["metadata"], body, _queue(settings)]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def same(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Whether a Job that has the name of one that we want is that one: "", or what differs."""
    theirs, ours = existing["metadata"], wanted["metadata"]
    for label in (names.STUDY, names.TRIAL, names.ATTEMPT):
        value, mine = (theirs.get("labels") or {}).get(label), ours["labels"][label]
        if value != mine:
            return f"its label {label} is {value!r}, expected {mine!r}"
    value, mine = (theirs.get("annotations") or {}).get(names.SPEC_HASH), ours["annotations"][names.SPEC_HASH]
    if value != mine:
        return f"it was made from other settings: {names.SPEC_HASH} is {value!r}, expected {mine!r}"
    if theirs.get("deletionTimestamp"):
        return "it is being deleted"
    owners = {owner["uid"] for owner in ours["ownerReferences"]}
    if not owners & {owner["uid"] for owner in theirs.get("ownerReferences") or ()}:
        return "it belongs to an earlier object of the study, and goes with it"
    return ""
