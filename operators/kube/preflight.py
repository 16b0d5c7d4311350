"""All that would stop a study on this cluster, found before it begins and told at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from operators.kube.api import Api
from operators.kube.errors import NOT_FOUND, UNAUTHORIZED, ApiError, spent
from operators.kube.status import unix

# What a controller does, and all that `operators/rbac.yaml` allows.
VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "jobs": ("create", "delete", "get", "list", "watch"),
    "pods": ("list", "watch"),
    "pods/log": ("get",),
    "configmaps": ("create", "delete", "get"),
    "events": ("list",),
}
SKEW: Final = 60.0  # seconds; how long a pod has waited is told by the cluster's clock and measured by ours
OLDEST: Final = (1, 29)  # sidecars that end by themselves when the training code has ended


@dataclass(frozen=True, slots=True)
class Found:
    """Problems in the user's words; none: the study can begin."""

    problems: list[str]
    away: bool = False  # one of them is that the API server cannot answer now


def preflight(api: Api, job: Mapping[str, Any] | None, clock: Callable[[], float] = time.time) -> Found:
    """Every problem. Nothing is left in the cluster.

    `job` is one that the study would make; None: there is none to try. `clock`: seconds since 1970.
    """
    problems: list[str] = []
    try:
        problems.extend(_problems(api, job, clock))
    except OSError as error:
        return Found([*problems, f"{error}. Is {api.host} the right cluster, and does it run?"], away=True)
    return Found(problems)


def _problems(api: Api, job: Mapping[str, Any] | None, clock: Callable[[], float]) -> Iterator[str]:
    try:
        yield from old(api.request("get", "/version"))
        missing = {
            resource: [verb for verb in verbs if not api.may(verb, resource)]
            for resource, verbs in VERBS.items()
        }
        for resource, verbs in missing.items():
            if verbs:
                yield (
                    f"you may not {', '.join(verbs)} {resource} in namespace {api.namespace!r}: have the "
                    "Role of operators/rbac.yaml bound to your user or service account there."
                )
        if job is not None and "create" not in missing["jobs"]:
            yield from _dry_run(api, job, clock)
    except ApiError as error:
        if error.status == UNAUTHORIZED:
            yield f"{api.host} does not accept your credentials: log in again, or choose another context."
        else:
            yield str(error)


def old(version: Mapping[str, Any]) -> Iterator[str]:
    """Of the document at /version; some clouds write a minor version such as "29+"."""
    digits = [re.match(r"\d+", str(version.get(part, ""))) for part in ("major", "minor")]
    found = tuple(int(match.group()) for match in digits if match)
    if found < OLDEST:
        known = version.get("gitVersion") or "of an unknown version"
        yield (
            f"the cluster is {known}: Kubernetes {OLDEST[0]}.{OLDEST[1]} or later is needed, "
            "which runs the agent as a sidecar and ends it with the trial."
        )


def _dry_run(api: Api, job: Mapping[str, Any], clock: Callable[[], float]) -> Iterator[str]:
    before = clock()
    try:
        made = api.create("jobs", dict(job), dry_run=True)
        yield from skewed(api.host, made, before, clock())
    except ApiError as error:
        if error.status == NOT_FOUND and "namespaces" in error.message:
            yield f"namespace {api.namespace!r} does not exist at {api.host}: create it, or give another one."
        elif error.reason != "AlreadyExists" and not spent(error):  # by the study that is being resumed
            yield f"the cluster would refuse the Job of a trial: {error.message}"


def skewed(host: str, made: Mapping[str, Any], before: float, after: float) -> Iterator[str]:
    """What the server dates between two readings of our clock tells how far its own is off, to the second."""
    dated = unix(made["metadata"].get("creationTimestamp"))
    if dated is None:
        return
    off = dated - after if dated > after else before - (dated + 1.0)
    if off > SKEW:
        yield f"the clock of {host} and ours are {off:.0f} s apart; set the clocks (NTP)."
