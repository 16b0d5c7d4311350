"""Each thing that a study asks for, held against the policy. Reads a draft: what is valid so far."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flows.policy.model import Policy
from flows.policy.patch import agent_problems, patch_problems
from flows.policy.pod import Bounds, among, extended, gpu_problems, image_problems, pod_problems
from flows.study.kubernetes import Kubernetes
from flows.study.words import Path
from hpo_engine.types import AbohbError
from operators.attempt import AttemptSpec
from operators.kube.merge import merge
from operators.kube.pod import template
from operators.kube.settings import PodSettings, StoreAccess, labels

Found = Iterator[tuple[Path, str]]

STORE, ENDPOINT, NAMESPACE, AGENT_IMAGE = (
    "ABOHB_STORE", "ABOHB_S3_ENDPOINT", "ABOHB_TRIALS_NAMESPACE", "ABOHB_AGENT_IMAGE",
)  # fmt: skip


def policy_problems(draft: Mapping[str, Any], policy: Policy, env: Mapping[str, str]) -> Found:
    """All that the study asks for and may not have; fields that are not valid are passed over."""
    workers, image, section = draft.get("workers"), draft.get("image"), draft.get("kubernetes")
    if workers and policy.max_workers is not None and workers > policy.max_workers:
        yield ("workers",), f"got {workers}; the policy allows {policy.max_workers}"
    if image and policy.registries:
        yield from ((("image",), text) for text in image_problems(image, policy.registries))
    if "store" in draft:
        yield from ((("store",), text) for text in _store(draft["store"], policy, env))
    if section is not None:
        yield from ((("kubernetes", *path), text) for path, text in _section(section, policy, env))
        yield from ((("kubernetes", "patch"), text) for text in _patch(section, image, policy))


def _store(store: str, policy: Policy, env: Mapping[str, str]) -> Iterator[str]:
    if not store.startswith("s3://"):
        return  # no store of a cluster: told elsewhere
    bases = policy.stores or ([env[STORE]] if env.get(STORE) else [])
    plain = re.fullmatch(r"[\w.+=@/:-]+", store, re.ASCII) and not {".", "..", ""} & set(store[5:].split("/"))
    if not plain or not any(store == base or store.startswith(f"{base}/") for base in _plain(bases)):
        known = f"it allows {', '.join(bases)}" if bases else f"it names none, and {STORE} is not set"
        yield f"{store!r} is not allowed by the policy; {known}"


def _plain(bases: Iterable[str]) -> Iterator[str]:
    return (base.rstrip("/") for base in bases)


def _section(section: Kubernetes, policy: Policy, env: Mapping[str, str]) -> Found:
    """What a default says is allowed to everybody."""
    own = policy.defaults
    named = (
        ("namespace", [section.namespace], [*policy.namespaces, env.get(NAMESPACE), own.namespace]),
        ("agent_image", [section.agent_image], [env.get(AGENT_IMAGE), own.agent_image]),
        ("pull_secrets", section.pull_secrets, [*policy.secrets, *own.pull_secrets]),
        ("store_secret", [section.store_secret], [*policy.secrets, own.store_secret]),
        ("store_role", [section.store_role], [*policy.store_roles, own.store_role]),
        ("service_account", [section.service_account], [*policy.service_accounts, own.service_account]),
        ("priority_class", [section.priority_class], [*policy.priority_classes, own.priority_class]),
        (
            "store_endpoint",
            [section.store_endpoint],
            [*policy.store_endpoints, (env.get(ENDPOINT) or "").rstrip("/"), own.store_endpoint],
        ),
    )
    for name, values, known in named:
        for value in values:
            yield from (((name,), text) for text in among("", value, [item for item in known if item]))
    for number, item in enumerate(section.tolerations):
        if item not in own.tolerations:
            key = item.get("key") or "every taint"
            yield from ((("tolerations", number), text) for text in among("", key, policy.tolerations))
    most = max(section.gpus.count, *section.gpus.values.values(), 0)
    yield from ((("gpus",), text) for text in gpu_problems(most, policy.max_gpus))
    asked = {**section.requests, **section.limits}
    if extended(asked):
        where = "limits" if extended(section.limits) else "requests"
        same = extended({section.gpus.resource: asked.pop(section.gpus.resource, 0)})
        devices = max(most, same) + extended(asked)
        yield from (((where,), text) for text in gpu_problems(devices, policy.max_gpus))


def _patch(section: Kubernetes, image: str | None, policy: Policy) -> Iterator[str]:
    if not section.patch or section.patch == policy.defaults.patch:
        return
    found = list(patch_problems(section.patch, policy.patch_fields))
    yield from found
    before = _pod(section, image)
    try:
        after = merge(before, section.patch)
        yield from agent_problems(before, after, policy.patch_fields)
        known = {*pod_problems(before, _bounds(section, policy))}  # of the section: told by its own fields
        yield from (text for text in pod_problems(after, _bounds(section, policy)) if text not in known)
    except AbohbError as error:
        yield str(error)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if not found:  # a patch of odd types: what cannot be looked at does not pass
            yield f"makes no pod that could be looked at ({error}); compare it with the fields of a pod"


def _bounds(section: Kubernetes, policy: Policy) -> Bounds:
    own = policy.defaults
    return Bounds(
        policy.registries,
        [*policy.secrets, *own.pull_secrets, *filter(None, [own.store_secret])],
        [*policy.service_accounts, *filter(None, [own.service_account])],
        [*policy.priority_classes, *filter(None, [own.priority_class])],
        policy.max_gpus,
        labels("any"),
    )


def _pod(section: Kubernetes, image: str | None) -> dict[str, Any]:
    """A trial's pod as it is before the patch: its configuration makes no difference to what is looked at."""
    spec = AttemptSpec("any", 0, 1, {}, "epoch", 1, ("train",), ("loss",))
    settings = PodSettings(
        namespace="any",
        image=image or "any",
        agent_image="agent",
        store=StoreAccess("s3://any", secret=section.store_secret),
        gpus=max(section.gpus.count, *section.gpus.values.values(), 0),
        gpu_resource=section.gpus.resource,
        requests=section.requests,
        limits=section.limits,
        pull_secrets=section.pull_secrets,
        priority_class=section.priority_class,
        service_account=section.service_account,
        user=section.user,
    )
    return template(spec, settings, labels("any"), settings.image)
