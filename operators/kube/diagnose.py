"""What a Job and its pods say about an attempt: whether it runs, what it waits for, how it ended.

Judged by the container of the training code, not by the phase of the pod: other containers may run on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from operators.kube.deaths import death_of_job, death_of_pod
from operators.kube.settings import AGENT_CONTAINER, PREPARE_CONTAINER, TRIAL_CONTAINER
from operators.kube.status import (
    Object,
    condition,
    containers,
    created,
    deleted,
    runs,
    state,
    uid,
    unix,
)
from operators.kube.unschedulable import without_counts
from operators.kube.waits import Wait, wait_of_job, wait_of_pod
from operators.verdict import Death, decode_facts

Phase: TypeAlias = Literal["pending", "running", "ending", "ended"]
LOST = 60.0  # seconds after the grace of a deleted pod: its node does not answer


@dataclass(frozen=True, slots=True)
class Seen:
    """An attempt as its Job and its pods show it.

    pending: the training code does not run yet. running: it does. ending: it has ended, or its pod is to go;
    the pod still holds its resources. ended: none of its pods does.
    """

    phase: Phase
    cause: str = ""  # "unschedulable: Insufficient cpu (3 nodes)"; "": nothing is in its way
    message: str = ""  # the platform's own words for that
    since: float | None = None  # when that began, in unix seconds; None: nobody wrote it down
    death: Death | None = None  # how it ended; of a pending one: what it comes to unless that changes
    hopeless: bool = False  # it will not get better: delete the Job
    facts_text: str = ""  # the last word of the agent
    image_id: str = ""  # what the container of the training code runs, once that is known
    started: float | None = None  # of the training code, in unix seconds
    finished: float | None = None
    pod: str = ""  # its name, and its uid
    pod_uid: str = ""

    @property
    def topic(self) -> str:
        """The cause, without what changes with every node that fills up."""
        return without_counts(self.cause)


def diagnose(
    job: Object | None,
    pods: Sequence[Object],
    now: float | None = None,
    *,
    gone: Collection[str] = (),
    events: Sequence[Object] = (),
) -> Seen:
    """The state of one attempt. `job` is None when there is none any more.

    `pods`: all of the Job; also, in their last known state, those that are no longer there, whose uids are in
    `gone`. `now`: unix seconds; None: nobody is held to be late. `events`: of the Job and its pods, if known.
    """
    ordered = sorted(pods, key=created)
    pod = _telling(ordered)
    if pod is None:
        return _without_pods(job, events, now)
    if all(_over(item, gone, now) for item in ordered):
        return _of_pod("ended", job, pod, gone, now)
    if _over(pod, gone, now):  # the Job has made another one, which may not act for this attempt
        return _of_pod("ending", job, pod, gone, now, hopeless=True)
    if deleted(pod) or state(pod, "terminated") is not None:
        return _of_pod("ending", job, pod, gone, now)
    if state(pod, "running") is not None:
        return _known("running", pod, Wait(), None)
    wait = wait_of_pod(pod, events, now)
    return _known("pending", pod, wait, _if_it_stays(wait))


def _telling(pods: Sequence[Object]) -> Object | None:
    """The newest pod whose training code has run; else the newest."""
    ran = [pod for pod in pods if state(pod, "running") is not None or state(pod, "terminated") is not None]
    newest = ran or pods
    return newest[-1] if newest else None


def _over(pod: Object, gone: Collection[str], now: float | None) -> bool:
    """Whether it holds nothing any more."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or uid(pod) in gone:
        return True
    at = unix(deleted(pod))
    if at is not None and _lost(pod, now):
        return True
    # The kubelet says so of each container some seconds before it says it of the pod.
    return not runs(pod) and (at is not None or state(pod, "terminated") is not None)


def _lost(pod: Object, now: float | None) -> bool:
    """Nobody confirms its end. Should it live on: its attempt's number keeps it from committing anything."""
    at = unix(deleted(pod))  # the grace is in it
    return at is not None and now is not None and now > at + LOST and runs(pod)


def _of_pod(
    phase: Phase,
    job: Object | None,
    pod: Object,
    gone: Collection[str],
    now: float | None,
    *,
    hopeless: bool = False,
) -> Seen:
    death = death_of_pod(job, pod, gone=uid(pod) in gone)
    if phase == "ended" and _lost(pod, now) and uid(pod) not in gone:
        death = Death(death.code, death.cause, {**death.evidence, "message": _silent(death)})
    return _known(phase, pod, Wait(hopeless=hopeless), death)


def _silent(death: Death) -> str:
    message = death.evidence.get("message", "")
    return "its node was lost" + (f" ({message})" if message else "")


def _without_pods(job: Object | None, events: Sequence[Object], now: float | None) -> Seen:
    if job is None:
        return Seen("ended", death=death_of_job(None))
    if condition(job, "Complete") or condition(job, "Failed"):
        return Seen("ended", death=death_of_job(job))
    if deleted(job) or condition(job, "FailureTarget") or condition(job, "SuccessCriteriaMet"):
        return Seen("ending", death=death_of_job(job))
    status = job.get("status", {})
    if job["spec"].get("suspend") and status.get("startTime"):  # it had begun
        return Seen("ending" if status.get("terminating") else "ended", death=death_of_job(job))
    wait = wait_of_job(job, events, now)
    return Seen("pending", wait.cause, wait.message, wait.since, _if_it_stays(wait), wait.hopeless)


def _if_it_stays(wait: Wait) -> Death | None:
    if not wait.cause or (wait.outcome is None and not wait.reason):
        return None
    short = wait.cause.removeprefix(f"{wait.outcome}: ")
    told = {"reason": wait.reason, "message": f"{short}: {wait.message}" if wait.message else short}
    return Death(None, wait.outcome, {name: text for name, text in told.items() if text})


def _known(phase: Phase, pod: Object, wait: Wait, death: Death | None) -> Seen:
    """With all that is known of the pod."""
    statuses = containers(pod)
    trial = statuses.get(TRIAL_CONTAINER, {})
    times = state(pod, "terminated") or state(pod, "running") or {}
    return Seen(
        phase,
        wait.cause,
        wait.message,
        wait.since,
        death,
        wait.hopeless,
        facts_text=_facts([statuses.get(name, {}) for name in (AGENT_CONTAINER, PREPARE_CONTAINER)]),
        image_id=trial.get("imageID", ""),
        started=unix(times.get("startedAt")),
        finished=unix(times.get("finishedAt")),
        pod=pod["metadata"]["name"],
        pod_uid=uid(pod),
    )


def _facts(agents: Sequence[Object]) -> str:
    """What an agent said in the end; not its last lines, which a kubelet takes if it said nothing."""
    for agent in agents:
        for kind in ("state", "lastState"):
            message = ((agent.get(kind) or {}).get("terminated") or {}).get("message") or ""
            if decode_facts(message) is not None:
                return str(message)
    return ""
