"""What real Jobs and pods say. They were recorded by tests/cluster/record_corpus.py; edits of them say so."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hpo_engine.types import Outcome
from operators.kube.diagnose import LOST, Seen, diagnose
from operators.kube.slim import slim
from operators.kube.status import unix
from operators.kube.unschedulable import split, summary, without_counts
from operators.verdict import Facts, judge

CORPUS = Path(__file__).parent / "corpus"
Object = dict[str, Any]


def recorded(name: str) -> Object:
    found: Object = json.loads((CORPUS / f"{name}.json").read_text())
    return found


def seen(situation: Object, now: float | None = None, gone: bool = False) -> Seen:
    pods = situation["pods"]
    uids = {pod["metadata"]["uid"] for pod in pods} if gone else set()
    return diagnose(situation["job"], pods, now, gone=uids, events=situation.get("events", ()))


def told(found: Seen) -> str:
    """Phase, cause, and the death: code, outcome, message."""
    parts: list[str] = [found.phase, *(["hopeless"] if found.hopeless else [])]
    if found.cause:
        parts.append(f"[{found.cause}]")
    if found.death is not None:
        code = "?" if found.death.code is None else str(found.death.code)
        parts.append(f"{code} {found.death.cause or '-'}")
    return " ".join(parts)


MISSING = "localhost:5000/abohb/no-such-image:1"
TABLE = {
    "agent-command-not-found": "pending [pod spec: RunContainerError (agent)] ? pod spec",
    "agent-crashes": "pending [agent: exits 1 again and again] ? -",
    "agent-image-missing": f"pending [image: {MISSING} (agent) cannot be pulled] ? image",
    "agent-is-over-first": "ended 0 -",
    "agent-prepares": "pending",
    "agent-refuses": "ended ? -",  # its facts say why
    "child-out-of-memory": "ended 0 out of memory",
    "command-not-found": "ended 128 pod spec",
    "config-map-missing": "pending [pod spec: CreateContainerConfigError] ? pod spec",
    "cordoned": "pending [unschedulable: taint (12 nodes), cordoned (1 node), node selector (1 node)]",
    "deadline": "ended 137 timeout",
    "deleted": "ended 137 disruption",
    "deleted-and-exits-0": "ended 0 disruption",
    "deleted-by-force": "running",
    "deleted-ending": "ending ? disruption",
    "deleted-gone": "ended 137 disruption",  # the Job says only that it failed; but its pod was taken away
    "evicted-by-api": "ended 137 disruption",
    "evicted-for-its-disk": "ended 137 user error",
    "exit-1": "ended 1 -",
    "gated": "pending [unschedulable: gated by corpus.abohb.dev/wait]",
    "image-missing": f"pending [image: {MISSING} cannot be pulled] ? image",
    "image-missing-at-first": f"pending [image: {MISSING} cannot be pulled] ? image",
    "image-name-invalid": "pending hopeless [image: Not/A/Valid:Name:1 is no name of an image] ? image",
    "image-never-pulled": "pending [image: abohb/not-on-this-node:1 is not on the node,"
    " and may not be pulled] ? image",
    "init-container-fails": "ended ? user error",
    "job-deleted": "ended 137 disruption",
    "job-deleted-ending": "ending ? disruption",
    "job-deleted-foreground": "ending ? disruption",
    "killed-by-agent": "ended 137 -",  # the agent says why
    "node-gone": "ended ? disruption",
    "ok": "ended 0 -",
    "ok-running": "running",
    "out-of-memory": "ended 137 out of memory",
    "preempted": "ended 137 disruption",
    "preempted-ending": "ending ? disruption",
    "refused-by-pod-security": "pending [pod spec: the pod is refused] ? pod spec",
    "refused-by-quota": "pending [quota: q]",
    "rejected-for-cpu": "ended ? kubelet rejection",
    "rejected-for-its-selector": "ended ? kubelet rejection",
    "root-refused": "pending [pod spec: CreateContainerConfigError] ? pod spec",
    "sandbox-refused": "pending [starting: FailedCreatePodSandBox] ? -",
    "suspended-before": "pending [suspended]",
    "suspended-while-running": "ended 137 suspended",
    "suspended-while-running-again": "pending",  # nothing is said of the pod before this one
    "suspended-while-running-ending": "ending ? suspended",
    "suspended-while-running-gone": "ended ? suspended",
    "tainted-away": "ending ? disruption",
    "unschedulable": "pending [unschedulable: taint (12 nodes), Insufficient nvidia.com/gpu (1 node)]",
    "unschedulable-split": "pending [unschedulable: Insufficient corpus.abohb.dev/slot (2 nodes),"
    " cordoned (1 node), taint (1 node)]",
    "uploading": "ending 3 -",
    "volume-missing": "pending [starting: FailedMount] ? pod spec",
    "workdir-missing": "ended 128 pod spec",
}  # fmt: skip


AT_LIMIT = "killed by the kernel at its memory limit of 64Mi"


def test_every_recorded_situation_is_in_the_table() -> None:
    assert sorted(path.stem for path in CORPUS.glob("*.json")) == sorted(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_recorded_situation(name: str) -> None:
    assert told(seen(recorded(name))) == TABLE[name]


@pytest.mark.parametrize("name", TABLE)
def test_what_a_controller_keeps_of_it_says_the_same(name: str) -> None:
    whole = recorded(name)
    kept = {**whole, "job": whole["job"] and slim(whole["job"]), "pods": [slim(pod) for pod in whole["pods"]]}
    assert seen(kept) == seen(whole)


WAITING = [name for name in TABLE if TABLE[name].startswith("pending [")]


@pytest.mark.parametrize("name", WAITING)
def test_a_pod_that_waits_and_is_then_removed_was_disrupted(name: str) -> None:
    """Unless there never was one. What it waited for is another matter: whoever removed it knows."""
    situation = recorded(name)
    found = seen(situation, gone=True)
    assert told(found) == ("ended ? disruption" if situation["pods"] else TABLE[name])


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("exit-1", {"node": "node-0", "log": "a last word\n"}),
        ("out-of-memory", {"reason": "OOMKilled", "message": f"it was {AT_LIMIT}"}),
        ("child-out-of-memory", {"message": f"one of its processes was {AT_LIMIT}"}),
        ("evicted-by-api", {"reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}),
        ("preempted", {"reason": "PreemptionByScheduler"}),
        ("deadline", {"reason": "DeadlineExceeded", "message": "it ran for longer than an attempt may, 8 s"}),
        ("deleted", {"message": "its pod was deleted"}),
        ("job-deleted", {"message": "its Job was deleted"}),
        ("suspended-while-running", {"reason": "JobSuspended", "message": "its Job was suspended"}),
        ("init-container-fails", {"message": "its container 'fetch' exited 4"}),
        ("rejected-for-cpu", {"reason": "OutOfcpu"}),
    ],
)  # fmt: skip
def test_the_evidence_says_what_happened(name: str, evidence: dict[str, str]) -> None:
    death = seen(recorded(name)).death
    assert death is not None
    assert evidence.items() <= dict(death.evidence).items()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("command-not-found", 'exec: "no-such-program": executable file not found'),
        ("image-missing", "localhost:5000/abohb/no-such-image:1 cannot be pulled: Back-off pulling image"),
        ("config-map-missing", 'CreateContainerConfigError: configmap "no-such-map" not found'),
        ("volume-missing", 'configmap "no-such-map" not found'),
        ("root-refused", "container has runAsNonRoot and image will run as root"),
        ("agent-crashes", "agent: exits 1 again and again: no store at s3://abohb/corpus"),
        (
            "refused-by-pod-security",
            'the pod is refused: violates PodSecurity "restricted:latest": host namespaces',
        ),
    ],
)
def test_what_a_study_may_end_by_is_told_in_full(name: str, words: str) -> None:
    death = seen(recorded(name)).death
    assert death is not None
    assert words in death.evidence["message"]


def test_what_is_known_of_the_pod_is_told() -> None:
    situation = recorded("ok")
    found, pod = seen(situation), situation["pods"][0]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (found.pod, found.pod_uid) == (pod["metadata"]["name"], pod["metadata"]["uid"])
    assert (found.started, found.finished) == (unix(ended["startedAt"]), unix(ended["finishedAt"]))
    assert found.image_id.startswith("sha256:")
    assert json.loads(found.facts_text) == {"trial": 0, "attempt": 1}
    assert "pod 7 has this attempt" in seen(recorded("agent-refuses")).facts_text  # said by `prepare`
    assert seen(recorded("agent-crashes")).facts_text == ""  # the kubelet's copy of its log is no facts


@pytest.mark.parametrize(
    ("name", "fulfilled", "outcome"),
    [
        ("child-out-of-memory", True, Outcome.OK),
        ("child-out-of-memory", False, Outcome.OUT_OF_MEMORY),
        ("deleted-and-exits-0", True, Outcome.OK),
        ("deleted-and-exits-0", False, Outcome.DISRUPTION),
        ("deleted-gone", False, Outcome.DISRUPTION),
        ("exit-1", False, Outcome.USER_ERROR),
        ("agent-crashes", False, Outcome.LOST),
    ],
)
def test_what_the_judge_makes_of_it(name: str, fulfilled: bool, outcome: Outcome) -> None:
    death = seen(recorded(name)).death
    assert death is not None
    facts = Facts(0, 1, "epoch", until=3, reached=3 * fulfilled, fulfilled=fulfilled)
    assert judge(facts, death, 0, 1).outcome is outcome


def test_a_container_that_never_began_has_no_time() -> None:
    assert seen(recorded("command-not-found")).started is None  # Kubernetes says 1970


def test_a_wait_begins_when_the_scheduler_gave_up() -> None:
    situation = recorded("unschedulable")
    found = situation["pods"][0]["status"]["conditions"][0]
    assert seen(situation).since == unix(found["lastTransitionTime"])
    assert "preemption: 0/13 nodes are available" in seen(situation).message


# -- pods that are no longer there -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deleted-by-force", "ended ? disruption"),  # it ran when it was last seen
        ("ok-running", "ended ? disruption"),
        ("ok", "ended 0 -"),
        ("exit-1", "ended 1 -"),
        ("agent-prepares", "ended ? disruption"),
        ("tainted-away", "ended ? disruption"),
        ("suspended-while-running-ending", "ended ? suspended"),
    ],
)
def test_a_pod_that_is_gone_has_ended(name: str, expected: str) -> None:
    assert told(seen(recorded(name), gone=True)) == expected


def test_a_pod_of_a_lost_node_is_given_up_a_minute_after_its_grace() -> None:
    situation = recorded("tainted-away")
    end = unix(situation["pods"][0]["metadata"]["deletionTimestamp"]) or 0.0
    assert seen(situation, now=end + LOST - 1).phase == "ending"
    found = seen(situation, now=end + LOST + 1)
    assert told(found) == "ended ? disruption"
    assert found.death is not None
    assert found.death.evidence["message"].startswith("its node was lost (Taint manager")


def test_a_second_pod_of_an_attempt_is_not_it() -> None:
    first, again = recorded("suspended-while-running"), recorded("suspended-while-running-again")
    found = diagnose(again["job"], [*again["pods"], *first["pods"]])
    assert told(found) == "ending hopeless 137 suspended"
    assert found.pod == first["pods"][0]["metadata"]["name"]


def test_a_pod_of_after_a_suspension_was_not_suspended() -> None:
    """Kueue suspends every Job at first, and resumes it when there is room."""
    situation = recorded("suspended-while-running-again")
    (pod,) = situation["pods"]
    assert told(seen(situation, gone=True)) == "ended ? disruption"
    pod["metadata"]["creationTimestamp"] = situation["job"]["metadata"]["creationTimestamp"]
    assert told(seen(situation, gone=True)) == "ended ? suspended"


def test_a_job_without_pods() -> None:
    job = recorded("ok-running")["job"]
    start = unix(job["status"]["startTime"]) or 0.0
    assert told(diagnose(job, [], start + 1)) == "pending"
    assert diagnose(job, [], start + 60).cause.startswith("pod: is not made")
    assert told(diagnose(recorded("ok")["job"], [])) == "ended 0 -"
    assert told(diagnose(recorded("exit-1")["job"], [])) == "ended 1 -"
    assert told(diagnose(recorded("evicted-by-api")["job"], [])) == "ended ? disruption"
    assert told(diagnose(None, [])) == "ended ? -"
    job["metadata"]["deletionTimestamp"] = "2026-11-21T14:00:00Z"  # it stays until its pods are gone
    assert told(diagnose(job, [])).startswith("ending")


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('Internal error occurred: failed calling webhook "a.b": connection refused', "pod: is not made"),
        ("Timeout: request did not complete within requested timeout - context deadline exceeded", "pod: is"),
        ('Operation cannot be fulfilled on resourcequotas "q": the object has been modified', "pod: is"),
        ('admission webhook "a.b" denied the request: no such team; asked a.b, timed out', "pod spec"),
        ('Pod "x" is invalid: spec.containers[0].image: Required value', "pod spec"),
    ],
)
def test_who_cannot_be_asked_has_not_refused(said: str, cause: str) -> None:
    situation = recorded("refused-by-pod-security")
    for event in situation["events"]:  # edited
        event["message"] = f"Error creating: {said}"
    found = seen(situation)
    assert found.cause.startswith(cause)
    assert (found.death is None) == (cause != "pod spec")


def test_a_volume_that_was_mounted_in_the_end_is_no_trouble() -> None:
    situation = recorded("volume-missing")
    for found in situation["pods"][0]["status"]["conditions"]:  # edited
        if found["type"] == "PodReadyToStartContainers":
            found["status"] = "True"
    assert told(seen(situation)) == "pending"


def test_a_pod_that_takes_long_to_start_is_told_after_a_while() -> None:
    situation = recorded("agent-prepares")
    start = unix(situation["pods"][0]["status"]["startTime"]) or 0.0
    assert seen(situation, now=start + 5).cause == ""
    assert seen(situation, now=start + 60).cause == "starting: its agent prepares its directory"


# -- edits of recorded ones: what cannot be made to happen here --------------------------------------


def edited(name: str, edit: Callable[[Object], object]) -> Object:
    situation = copy.deepcopy(recorded(name))
    edit(situation["pods"][0])
    return situation


def condition(pod: Object, reason: str, message: str, at: str) -> None:
    found = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    pod["status"]["conditions"].append({**found, "lastTransitionTime": at})


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("UnexpectedAdmissionError", "Pod was rejected: Allocate failed due to no healthy devices present; "
         "cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected", "kubelet rejection"),
        ("OutOfnvidia.com/gpu", "Node didn't have enough resource: nvidia.com/gpu", "kubelet rejection"),
        ("TopologyAffinityError", "Resources cannot be allocated with locality", "kubelet rejection"),
        ("NodeShutdown", "Pod was rejected as the node is shutting down.", "disruption"),
        ("Evicted", "Pod was rejected: The node had condition: [DiskPressure]. ", "node pressure"),
    ],
)  # fmt: skip
def test_a_node_may_refuse_a_pod_for_other_reasons(reason: str, message: str, expected: str) -> None:
    situation = edited("rejected-for-cpu", lambda pod: pod["status"].update(reason=reason, message=message))
    assert told(seen(situation)) == f"ended ? {expected}"


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("Evicted", "The node was low on resource: memory. Threshold quantity: 100Mi, available: 12Mi. "
         "Container trial was using 3Gi, request is 1Gi. ", "node pressure"),
        ("Terminated", "Pod was terminated in response to imminent node shutdown.", "disruption"),
        ("Preempting", "Preempted in order to admit critical pod", "disruption"),
    ],
)  # fmt: skip
def test_a_node_may_end_a_pod(reason: str, message: str, expected: str) -> None:
    def by_kubelet(pod: Object) -> None:
        pod["status"].update(reason=reason, message=message)
        condition(pod, "TerminationByKubelet", message, pod["status"]["startTime"])

    assert told(seen(edited("evicted-for-its-disk", by_kubelet))) == f"ended 137 {expected}"


@pytest.mark.parametrize(
    ("code", "log", "expected"),
    [
        (127, "[FATAL tini (7)] exec train.sh failed: No such file or directory", "ended 127 pod spec"),
        (126, "[FATAL tini (8)] exec train.sh failed: Permission denied", "ended 126 pod spec"),
        (127, "train.sh: line 3: nvcc: not found", "ended 127 -"),  # said by the training code itself
        (1, "[FATAL tini (7)] exec train.sh failed: No such file or directory", "ended 1 -"),
    ],
)
def test_an_init_says_that_there_is_no_such_command(code: int, log: str, expected: str) -> None:
    def edit(pod: Object) -> None:
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        ended |= {"exitCode": code, "message": log}

    assert told(seen(edited("exit-1", edit))) == expected


def test_a_container_that_its_node_has_lost_was_not_killed_by_137() -> None:
    def lose(pod: Object) -> None:
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] = "ContainerStatusUnknown"

    assert told(seen(edited("exit-1", lose))) == "ended ? disruption"


def test_who_ended_before_the_pod_was_deleted_has_ended_by_himself() -> None:
    ended = unix("2026-11-21T12:00:00Z")

    def later(seconds: float) -> Callable[[Object], None]:
        def edit(pod: Object) -> None:
            pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = (
                "2026-11-21T12:00:00Z"
            )
            pod["status"]["conditions"] = []
            at = "2026-11-21T12:01:00Z" if seconds == 60 else "2026-11-21T12:00:02Z"
            condition(pod, "EvictionByEvictionAPI", "Eviction API: evicting", at)

        return edit

    assert ended is not None
    assert told(seen(edited("exit-1", later(60)))) == "ended 1 -"
    assert told(seen(edited("exit-1", later(2)))) == "ended 1 disruption"  # whole seconds of two clocks


def test_the_kubelet_overwrites_when_a_deletion_was_asked_for() -> None:
    """With the moment of the removal, seconds after the last exit: as it did in `evicted-by-api`."""
    situation = recorded("deleted")
    pod = situation["pods"][0]
    finished = datetime.fromisoformat(
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    )

    def removed(seconds: float) -> str:
        at = (finished + timedelta(seconds=seconds)).isoformat()
        pod["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": 0}
        return told(seen(situation))

    assert removed(3) == "ended 137 disruption"
    assert removed(3600) == "ended 137 -"


# -- the scheduler's words ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "0/5 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}, "
            "2 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector. preemption: "
            "0/5 nodes are available: 5 Preemption is not helpful for scheduling.",
            "Insufficient cpu (2 nodes), node selector (2 nodes), taint nvidia.com/gpu=present (1 node)",
        ),
        (
            "0/3 nodes are available: 1 node(s) had taint {team: vision}, that the pod didn't tolerate, "
            "1 node(s) had untolerated taint {node.kubernetes.io/unschedulable: }, 1 Too many pods.",
            "Too many pods (1 node), cordoned (1 node), taint team=vision (1 node)",
        ),
        (
            "0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
            "3 node(s) had volume node affinity conflict.",
            "had volume node affinity conflict (3 nodes), Insufficient cpu (1 node), "
            "Insufficient memory (1 node)",
        ),
        ("no nodes available to schedule pods", "no nodes available to schedule pods"),
        (
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: no",
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        ('persistentvolumeclaim "data" not found', 'persistentvolumeclaim "data" not found'),
    ],
)  # fmt: skip
def test_the_schedulers_message_is_split(message: str, expected: str) -> None:
    assert summary(message) == expected


def test_one_reason_is_counted_once() -> None:
    taints = "1 node(s) had untolerated taint {a: b}, 2 node(s) had untolerated taint {a: b}"
    assert split(f"0/3 nodes are available: {taints}.") == [("taint a=b", 3)]


def test_a_wait_stays_the_same_while_nodes_come_and_go() -> None:
    one = without_counts(
        "unschedulable: " + summary("0/3 nodes are available: 2 Insufficient cpu, 1 Too many pods.")
    )
    two = without_counts(
        "unschedulable: " + summary("0/5 nodes are available: 4 Too many pods, 1 Insufficient cpu.")
    )
    assert one == two == "unschedulable: Insufficient cpu, Too many pods"


def test_an_agent_that_failed_once_and_runs_is_not_given_up() -> None:
    """Its second life may restore a large checkpoint for longer than anybody's grace."""
    situation = recorded("agent-crashes")
    agent = next(
        item for item in situation["pods"][0]["status"]["initContainerStatuses"] if item["name"] == "agent"
    )
    last = agent["state"].get("terminated") or agent["lastState"]["terminated"]
    agent.update(state={"running": {}}, lastState={"terminated": last}, restartCount=1)
    assert not seen(situation).cause.startswith("agent")
    agent.update(restartCount=2)
    assert seen(situation).cause.startswith("agent: exits 1")
