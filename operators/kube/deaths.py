"""Who or what ended an attempt, from the last state of its pod and its Job."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from hpo_engine.types import Outcome
from operators.kube.settings import PREPARE_CONTAINER, TRIAL_CONTAINER
from operators.kube.status import (
    Object,
    condition,
    conditions,
    containers,
    created,
    deleted,
    spec_of,
    state,
    unix,
)
from operators.verdict import Death

SLACK = 5.0  # seconds: times are whole seconds, of several clocks
REMOVAL = 30.0  # seconds a kubelet may take from a pod's last exit to the removal of its object

# A container that the runtime could not start: whatever the configuration, no other attempt would do better.
_NEVER_BEGAN = {"StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError"}
_NO_COMMAND = re.compile(r"\[FATAL tini \(\d+\)\] (.*)")  # it is not in the image, or cannot be run
_SHUT_DOWN = {"Terminated", "Shutdown", "NodeShutdown", "NodeLost", "Preempting"}
_OWN_DISK = re.compile(r"exceeds the (total )?limit|exceeded its local ephemeral storage limit")
_BY_POLICY = re.compile(r"failed with exit code (\d+)")


class Blow(NamedTuple):
    """What ended a pod from outside."""

    cause: Outcome
    message: str
    reason: str = ""
    at: float | None = None  # unix seconds from which it may have


def death_of_pod(job: Object | None, pod: Object, *, gone: bool) -> Death:
    """Of a pod that is over, or about to be. `gone`: its object is no longer there."""
    blow = next(_blows(job, pod, gone), None)
    ended = state(pod, "terminated")
    if ended is not None:
        return _of_trial(pod, ended, blow)
    if blow is None:
        return _of_others(pod)
    if blow.cause is Outcome.TIMEOUT and state(pod, "running") is None:
        blow = Blow(Outcome.INTERRUPTED, f"{blow.message}, and never began", blow.reason)
    return Death(None, blow.cause, _evidence(pod, blow.message, blow.reason))


def _of_trial(pod: Object, ended: Object, blow: Blow | None) -> Death:
    """The training code has ended: by itself, unless what came from outside came first."""
    code, reason, finished = int(ended["exitCode"]), ended.get("reason", ""), unix(ended.get("finishedAt"))
    if reason in _NEVER_BEGAN:
        return Death(code, Outcome.POD_SPEC, _evidence(pod, ended.get("message", ""), reason))
    log = _log(ended)
    if code in (126, 127) and (said := _NO_COMMAND.search(log)):
        return Death(code, Outcome.POD_SPEC, _evidence(pod, said[1].strip(), reason))
    if reason == "OOMKilled":
        limit = spec_of(pod, TRIAL_CONTAINER).get("resources", {}).get("limits", {}).get("memory")
        what = "one of its processes was" if code == 0 else "it was"
        where = f" of {limit}" if limit else ""
        message = f"{what} killed by the kernel at its memory limit{where}"
        return Death(code, Outcome.OUT_OF_MEMORY, _evidence(pod, message, reason, log))
    if reason == "ContainerStatusUnknown":  # 137 is made up: the node does not know what became of it
        blow = blow or Blow(Outcome.DISRUPTION, "its node lost it", reason)
        return Death(None, blow.cause, _evidence(pod, blow.message, blow.reason, log))
    if blow is None or (blow.at is not None and finished is not None and finished < blow.at - SLACK):
        return Death(code, None, _evidence(pod, "", "" if reason in ("Error", "Completed") else reason, log))
    return Death(code, blow.cause, _evidence(pod, blow.message, blow.reason, log))


def _of_others(pod: Object) -> Death:
    """The training code never ran, and nobody took the pod away."""
    for name, item in containers(pod).items():
        ended = (item.get("state") or {}).get("terminated")
        if not ended or not ended["exitCode"] or spec_of(pod, name).get("restartPolicy") == "Always":
            continue
        reason, log = ended.get("reason", ""), _log(ended)
        if reason in _NEVER_BEGAN:
            message = f"its container {name!r} cannot be started: {log}"
            return Death(None, Outcome.POD_SPEC, _evidence(pod, message, reason))
        cause = None if name == PREPARE_CONTAINER else Outcome.USER_ERROR  # ours says why in its facts
        return Death(
            None, cause, _evidence(pod, f"its container {name!r} exited {ended['exitCode']}", reason, log)
        )
    return Death(None, None, _evidence(pod, "its training code never ran", ""))


# -- from outside ------------------------------------------------------------------------------------


def _blows(job: Object | None, pod: Object, gone: bool) -> Iterator[Blow]:
    """What happened to the pod, the most telling first."""
    asked = _asked(pod)
    for found in conditions(job, "Suspended"):
        at = found["lastTransitionTime"]
        if (asked or gone) and (found["status"] == "True" or created(pod) < at):  # false: it was resumed
            yield Blow(Outcome.SUSPENDED, "its Job was suspended", found["reason"], asked or unix(at))
    if target := condition(pod, "DisruptionTarget"):
        yield _disrupted(target)
    if pod.get("status", {}).get("reason"):
        yield _by_kubelet(pod)
    if asked or gone:
        whose = "Job" if job is None or deleted(job) else "pod"
        # Without a time it was last seen before that: what had ended by then has not ended of it.
        yield Blow(Outcome.DISRUPTION, f"its {whose} was deleted", "", math.inf if asked is None else asked)


def _asked(pod: Object) -> float | None:
    """When its deletion was asked for, or a moment before that."""
    at, grace = unix(deleted(pod)), pod["metadata"].get("deletionGracePeriodSeconds") or 0
    if at is None or grace:
        return None if at is None else at - grace
    # The kubelet has said that the pod may go now, and the first time is overwritten.
    return at - (pod.get("spec", {}).get("terminationGracePeriodSeconds") or 0) - REMOVAL


def _overdue(limit: int | None, reason: str, at: float | None) -> Blow:
    return Blow(Outcome.TIMEOUT, f"it ran for longer than an attempt may, {limit} s", reason, at)


def _disrupted(target: Object) -> Blow:
    reason, message = target.get("reason", ""), target.get("message", "").strip()
    pressed = reason == "TerminationByKubelet" and not re.search(r"shutdown|[Pp]reempt", message)
    cause = Outcome.NODE_PRESSURE if pressed else Outcome.DISRUPTION
    return Blow(cause, message, reason, unix(target.get("lastTransitionTime")))


def _by_kubelet(pod: Object) -> Blow:
    """The pod itself has a reason: its node ended it, or would not have it."""
    status = pod["status"]
    reason, message = status["reason"], (status.get("message") or "").strip()
    if reason == "Evicted":
        own = _OWN_DISK.search(message)
        return Blow(Outcome.USER_ERROR if own else Outcome.NODE_PRESSURE, message, reason)
    if reason == "DeadlineExceeded":
        limit, began = pod["spec"].get("activeDeadlineSeconds"), unix(status.get("startTime"))
        return _overdue(limit, reason, None if began is None or limit is None else began + limit)
    if reason in _SHUT_DOWN or "shutdown" in message:
        return Blow(Outcome.DISRUPTION, message, reason)
    return Blow(Outcome.REJECTED, message, reason)


# -- of a Job whose pods nobody has seen end ---------------------------------------------------------


def death_of_job(job: Object | None) -> Death:
    """As far as it is known: the Job tells little of its pods."""
    if job is None:
        return Death(None, None, {"message": "its Job and its pod are gone"})
    if condition(job, "Complete") or condition(job, "SuccessCriteriaMet"):
        return Death(0)
    found = condition(job, "FailureTarget") or condition(job, "Failed")
    told = {"reason": found.get("reason", ""), "message": found.get("message", "")}
    suspended = condition(job, "Suspended")
    if code := _BY_POLICY.search(told["message"]):
        # A pod that ends by itself stays as long as its Job. This one was taken away: a signal was of that.
        away = Outcome.SUSPENDED if suspended else Outcome.DISRUPTION
        cause = away if int(code[1]) in (137, 143) else None
        return Death(int(code[1]), cause, {**told, "message": f"its pod is gone; {told['message']}"})
    if not found and suspended:
        message = "its Job was suspended"
        return Death(None, Outcome.SUSPENDED, {"reason": suspended["reason"], "message": message})
    return Death(None, Outcome.DISRUPTION, {**told, "message": "its pod is gone"} if not found else told)


# -- evidence ------------------------------------------------------------------------------------------


def _evidence(pod: Object, message: str, reason: str, log: str = "") -> dict[str, str]:
    told = {"reason": reason, "message": message, "node": pod.get("spec", {}).get("nodeName", ""), "log": log}
    return {name: text for name, text in told.items() if text}


def _log(ended: Object) -> str:
    """The last lines of a container that failed: the kubelet keeps them as its termination message."""
    message = str(ended.get("message") or "")
    return "" if message.startswith("Error on reading termination message") else message
