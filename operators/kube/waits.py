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
_NEVER_BEGAN = {"StartError", "ContainerCannotRun"}
_PASSING = re.compile(  # not the pod is at fault, but somebody who was asked about it
    r"Internal error occurred|failed (to call|calling) webhook|Timeout: request|timed out|connection refused"
    r"|object has been modified|currently unable|etcdserver:|[Tt]oo many requests"
)
_LATE = {"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"}
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
    if _PASSING.search(words) and "denied the request" not in words:
        return Wait("pod: is not made", words, since)
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
        now, before = item.get("state") or {}, item.get("lastState") or {}
        waiting = now.get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        ended = now.get("terminated") or before.get("terminated") or {}
        if reason in _IMAGE:
            yield _unpullable(pod, name, reason, message)
        elif reason in _SPEC or (ended.get("reason") in _NEVER_BEGAN and not now.get("running")):
            reason = reason if reason in _SPEC else "RunContainerError"
            yield Wait(
                f"pod spec: {reason}{_whose(name)}",
                ended.get("message") or message,
                None,
                Outcome.POD_SPEC,
                reason,
            )
        elif name == AGENT_CONTAINER and ended.get("exitCode") and not _prepared(pod) and not _recovers(item):
            said = (ended.get("message") or "").strip()
            yield Wait(f"agent: exits {ended['exitCode']} again and again", said, None, None, ended["reason"])


def _unpullable(pod: Object, name: str, reason: str, message: str) -> Wait:
    image, what = spec_of(pod, name).get("image", ""), _IMAGE_WORDS.get(reason, "cannot be pulled")
    hopeless = reason == "InvalidImageName"
    return Wait(f"image: {image}{_whose(name)} {what}", message, None, Outcome.IMAGE, reason, hopeless)


_IMAGE_WORDS = {
    "InvalidImageName": "is no name of an image",
    "ErrImageNeverPull": "is not on the node, and may not be pulled",
    "SignatureValidationFailed": "has no valid signature",
}


def _whose(name: str) -> str:
    return "" if name == TRIAL_CONTAINER else f" ({name})"


def _recovers(item: Object) -> bool:
    """Whether it runs, and has failed but once."""
    return "running" in (item.get("state") or {}) and int(item.get("restartCount", 0)) < 2


def _prepared(pod: Object) -> bool:
    return state(pod, "terminated", PREPARE_CONTAINER) is not None


def _starting(pod: Object, events: Sequence[Object], since: float | None, now: float | None) -> Wait:
    """Nothing is wrong that the containers tell of."""
    ready = conditions(pod, "PodReadyToStartContainers")
    mounted = _prepared(pod) or any(found["status"] == "True" for found in ready)  # events may be of before
    if not mounted and (event := _last(events, uid(pod), _LATE)):
        message = str(event.get("message", ""))
        outcome = Outcome.POD_SPEC if _UNMOUNTABLE.search(message) else None
        return Wait(f"starting: {event['reason']}", message, since, outcome, str(event["reason"]))
    if now is None or since is None or now - since <= ORDINARY:
        return Wait(since=since)
    if _prepared(pod):
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
