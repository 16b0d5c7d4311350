"""Why a pod does not run yet."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from hpo_engine.types import Outcome
from operators.kube.settings import AGENT_CONTAINER, PREPARE_CONTAINER, QUEUE, TRIAL_CONTAINER
from operators.kube.status import Object, conditions, containers, created, spec_of, state, uid, unix
from operators.kube.unschedulable import summary

ORDINARY = 30.0  # seconds that a pod may take to start before a user is told

_IMAGE = {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"}
_IMAGE |= {"InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed"}
_SPEC = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"}
_UNMOUNTABLE = re.compile(r'(configmap|secret) "[^"]*" not found|references non-existent .* key')


class Wait(NamedTuple):
    """`cause` is "" while all goes as it should."""

    cause: str = ""
    message: str = ""
    since: float | None = None
    outcome: Outcome | None = None  # what it comes to if it stays as it is
    reason: str = ""
    hopeless: bool = False  # it stays as it is


def wait_of_job(job: Object, events: Sequence[Object], now: float | None) -> Wait:
    """Of a Job that has no pod yet."""
    if job["spec"].get("suspend"):
        since = [unix(found["lastTransitionTime"]) for found in conditions(job, "Suspended")]
        queue = (job["metadata"].get("labels") or {}).get(QUEUE)
        cause = f"suspended: in the queue {queue}" if queue else "suspended"
        return Wait(cause, since=since[0] if since else unix(created(job)))
    start = unix(job.get("status", {}).get("startTime")) or unix(created(job))
    if refused := _last(events, uid(job), {"FailedCreate"}):
        return _refused(str(refused.get("message", "")), start)
    late = now is not None and start is not None and now - start > ORDINARY
    cause = "pod: is not made; a quota or an admission webhook may refuse it"
    return Wait(cause if late else "", since=start)


def _refused(message: str, since: float | None) -> Wait:
    words = message.partition(" is forbidden: ")[2] or message.partition("Error creating: ")[2] or message
    if quota := re.search(r"exceeded quota: ([^,]+)", words):
        return Wait(f"quota: {quota[1]}", words, since)
    return Wait("pod spec: the pod is refused", words, since, Outcome.POD_SPEC, "FailedCreate")


def wait_of_pod(pod: Object, events: Sequence[Object], now: float | None) -> Wait:
    for found in conditions(pod, "PodScheduled"):
        since = unix(found["lastTransitionTime"])
        if found["status"] != "True":
            return _unscheduled(pod, found, since)
        if stuck := next(_stuck(pod), None):
            return stuck
        return _starting(pod, events, since, now)
    return Wait(since=unix(created(pod)))


def _unscheduled(pod: Object, found: Object, since: float | None) -> Wait:
    message = found.get("message", "")
    if found.get("reason") == "SchedulingGated":
        gates = ", ".join(gate["name"] for gate in pod["spec"].get("schedulingGates") or ())
        return Wait(f"unschedulable: gated by {gates}", message, since)
    return Wait(f"unschedulable: {summary(message)}" if message else "", message, since)


def _stuck(pod: Object) -> Iterator[Wait]:
    """Containers that cannot start, in the order in which they would."""
    for name, item in containers(pod).items():
        waiting = (item.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        whose = "" if name == TRIAL_CONTAINER else f" of the container {name!r}"
        if reason in _IMAGE:
            what = _IMAGE_WORDS.get(reason, "cannot be pulled")
            image = spec_of(pod, name).get("image", "")
            hopeless = reason == "InvalidImageName"
            yield Wait(f"image: {image}{whose} {what}", message, None, Outcome.IMAGE, reason, hopeless)
        elif reason in _SPEC:
            yield Wait(f"pod spec: {reason}{whose}", message, None, Outcome.POD_SPEC, reason)
        elif reason == "CrashLoopBackOff":
            yield _crashing(name, item)


_IMAGE_WORDS = {
    "InvalidImageName": "is no name of an image",
    "ErrImageNeverPull": "is not on the node, and is not to be pulled",
    "SignatureValidationFailed": "has no valid signature",
}


def _crashing(name: str, item: Object) -> Wait:
    last = (item.get("lastState") or {}).get("terminated") or {}
    kind = "agent" if name == AGENT_CONTAINER else f"container {name!r}"
    said = (last.get("message") or "").strip() or (item["state"]["waiting"].get("message") or "")
    began = last.get("reason") not in ("StartError", "ContainerCannotRun")
    return Wait(
        f"{kind}: exits {last.get('exitCode', '')} again and again"
        if began
        else f"{kind}: cannot be started",
        said,
        None,
        None if began else Outcome.POD_SPEC,
        last.get("reason", ""),
    )


def _starting(pod: Object, events: Sequence[Object], since: float | None, now: float | None) -> Wait:
    """Nothing is wrong that the containers tell of."""
    if event := _last(events, uid(pod), {"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"}):
        message = str(event.get("message", ""))
        outcome = Outcome.POD_SPEC if _UNMOUNTABLE.search(message) else None
        return Wait(f"starting: {event['reason']}", message, since, outcome, str(event["reason"]))
    if now is None or since is None or now - since <= ORDINARY:
        return Wait(since=since)
    if state(pod, "terminated", PREPARE_CONTAINER) is not None:
        return Wait("starting: its image may still be on the way", "", since)
    if state(pod, "running", PREPARE_CONTAINER) is not None:
        return Wait("starting: its agent prepares its directory", "", since)
    return Wait("starting: the agent's image may still be on the way", "", since)


def _last(events: Sequence[Object], about: str, reasons: Collection[str]) -> Object | None:
    found = [
        event
        for event in events
        if event.get("reason") in reasons and event.get("involvedObject", {}).get("uid") == about
    ]
    return max(
        found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None
    )
