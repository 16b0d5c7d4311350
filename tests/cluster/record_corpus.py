"""Make happen on a real cluster what can happen to a trial's pod, and keep Job, pods and events as JSON.

    python tests/cluster/record_corpus.py [SITUATION ...]     # where KUBECONFIG points; needs kubectl

Writes tests/operators/kube/corpus/*.json. Needs an image with Python that nodes have already (CORPUS_IMAGE),
the right to make nodes and priority classes, and to change a node's capacity. Removes everything in the end.
Nobody else should add nodes meanwhile: the scheduler counts them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from operators.attempt import AttemptSpec
from operators.kube.manifest import config_map, job, owner_reference
from operators.kube.merge import merge
from operators.kube.settings import PodSettings, StoreAccess

IMAGE = os.environ.get("CORPUS_IMAGE", "docker.io/library/python:3.11-slim")
CORPUS = Path(__file__).parents[1] / "operators" / "kube" / "corpus"
SPACE = f"abohb-corpus-{os.getpid()}"
RESOURCE = "corpus.abohb.dev/slot"  # advertised by one node for as long as we record

# A stand-in for the agent: it lets the trial begin, and says a word when it is told to end.
AGENT = """
import http.server, os, signal, sys
def end(*_):
    open("/dev/termination-log", "w").write('{"trial":0,"attempt":1}')
    os._exit(0)
signal.signal(signal.SIGTERM, end)
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(%s); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8471), Answers).serve_forever()
"""
READY = AGENT % "200"
REFUSES = AGENT % "500 if self.path == '/trial' else 200"

Object = dict[str, Any]


def kubectl(*words: str, given: Object | None = None, check: bool = True) -> str:
    text = json.dumps(given) if given is not None else None
    done = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"kubectl {' '.join(words)}: {done.stderr}")
    return done.stdout


def create(*objects: Object, check: bool = True) -> None:
    kubectl(
        "create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)}, check=check
    )


def get(kind: str, selector: str) -> list[Object]:
    found: list[Object] = json.loads(kubectl("get", kind, "-n", SPACE, "-l", selector, "-o", "json"))["items"]
    return found


class Scene:
    """One situation: a Job of its own, what is done to it, and what is to be seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.study = f"c-{name}"[:40].rstrip("-")
        self.seen: list[Object] = []

    def start(
        self,
        command: list[str],
        *,
        agent: str = READY,
        patch: Object | None = None,
        suspend: bool = False,
        deadline: float = 3600.0,
        image: str = IMAGE,
        gpus: int = 0,
        gpu_resource: str = "nvidia.com/gpu",
        limits: dict[str, str] | None = None,
        agent_image: str = IMAGE,
        agent_command: list[str] | None = None,
        prepare: str = "mkdir -p /abohb/trial /abohb/home",
    ) -> None:
        owner = json.loads(
            kubectl(
                "create", "-n", SPACE, "-f", "-", "-o", "json", given=config_map(self.study, "s3://corpus")
            )
        )
        spec = AttemptSpec(self.study, 0, 1, {}, "epoch", 3, tuple(command), ("v",))
        settings = PodSettings(
            SPACE, image, agent_image, StoreAccess("s3://abohb/corpus"), gpus=gpus, gpu_resource=gpu_resource,
            limits=limits or {}, deadline=deadline, grace=5, pull_policy="IfNotPresent", shm="16Mi",
        )  # fmt: skip
        made = job(spec, settings, {"AWS_ACCESS_KEY_ID": "x"}, owner_reference(owner), image)
        pod = made["spec"]["template"]["spec"]
        pod["initContainers"][0]["command"] = agent_command or ["python3", "-u", "-c", agent]
        pod["initContainers"][1]["command"] = shell(prepare)
        pod["containers"][0]["command"] = command  # the stand-in lends no init
        made["spec"]["suspend"] = suspend
        self.job = made["metadata"]["name"]
        if patch:
            made["spec"]["template"] = merge(made["spec"]["template"], patch)
        create(made)

    def pods(self) -> list[Object]:
        return get("pods", f"abohb.dev/study={self.study}")

    def jobs(self) -> list[Object]:
        return get("jobs", f"abohb.dev/study={self.study}")

    def until(self, done: Callable[[Object], object], seconds: float = 90.0) -> Object:
        """The first pod of which `done` is true; `{}` stands for one that is gone or not made."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pod = (self.pods() or [{}])[-1]
            with contextlib.suppress(KeyError, IndexError, TypeError):
                if done(pod):
                    return pod
            time.sleep(0.25)
        raise SystemExit(
            f"{self.name}: not seen within {seconds:g} s: {outline({'job': None, 'pods': self.pods()})}"
        )

    def until_job(self, kind: str, seconds: float = 90.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(c["type"] == kind and c["status"] == "True" for j in self.jobs() for c in conditions(j)):
                return
            time.sleep(0.25)
        raise SystemExit(f"{self.name}: its Job is not {kind} within {seconds:g} s")

    def name_of_pod(self) -> str:
        return str(self.pods()[-1]["metadata"]["name"])

    def keep(self, suffix: str = "", *, pods: list[Object] | None = None, events: bool = False) -> None:
        """Write down what there is now. `pods`: those last seen of pods that are gone."""
        found = [*self.jobs(), None][0]
        document = {"job": found, "pods": self.pods() if pods is None else pods}
        if events:
            document["events"] = json.loads(kubectl("get", "events", "-n", SPACE, "-o", "json"))["items"]
            document["events"] = [e for e in document["events"] if self.job in e["involvedObject"]["name"]]
        path = CORPUS / f"{self.name}{suffix}.json"
        path.write_text(json.dumps(cleaned(document), indent=1, sort_keys=True) + "\n")
        print(f"{path.stem}: {outline(document)}", flush=True)

    def remove(self) -> None:
        kubectl("delete", "configmap", "-n", SPACE, f"abohb-{self.study}", "--wait=false", check=False)
        kubectl(
            "delete", "job", "-n", SPACE, "-l", f"abohb.dev/study={self.study}", "--wait=false", check=False
        )


def conditions(thing: Object) -> list[Object]:
    return list(thing.get("status", {}).get("conditions", ()))


def container(pod: Object, name: str = "trial") -> Object:
    status = pod["status"]
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return {item["name"]: item for item in every}[name]


def running(pod: Object) -> bool:
    return "running" in container(pod)["state"]


def ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def outline(document: Object) -> str:
    """One line for the person who records."""
    words = [f"{c['type']}={c.get('reason')}" for c in conditions(document["job"] or {})]
    for pod in document["pods"]:
        status = pod["status"]
        states = [
            f"{item['name']}:{kind}:{state.get('reason', '')}:{state.get('exitCode', '')}"
            for item in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
            for kind, state in item["state"].items()
        ]
        deleted = "deleted" if "deletionTimestamp" in pod["metadata"] else ""
        target = [c["reason"] for c in conditions(pod) if c["type"] == "DisruptionTarget"]
        words.append(f"[{status['phase']} {status.get('reason', '')} {deleted} {target} {' '.join(states)}]")
    return " ".join(words)


NOISE = {"managedFields", "hostIP", "hostIPs", "podIP", "podIPs", "selfLink"}


def cleaned(value: Any, path: str = "") -> Any:
    """Without addresses, field managers and the like; nodes are called node-0."""
    if isinstance(value, dict):
        return {k: cleaned(v, f"{path}.{k}") for k, v in value.items() if k not in NOISE}
    if isinstance(value, list):
        return [cleaned(item, path) for item in value]
    if isinstance(value, str):
        value = value.replace(SPACE, "corpus")
        value = re.sub(r"\b(?!127\.)\d{1,3}(\.\d{1,3}){3}\b", "192.0.2.1", value)
        if path.endswith(("nodeName", ".host")):
            return "node-0"
    return value


# -- situations --------------------------------------------------------------------------------------

SCENES: dict[str, Callable[[Scene], None]] = {}


def scene(play: Callable[[Scene], None]) -> Callable[[Scene], None]:
    SCENES[play.__name__.replace("_", "-")] = play
    return play


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def python(text: str) -> list[str]:
    return ["python3", "-u", "-c", text]


SLEEP = ["sleep", "600"]
EATS = "x = bytearray(200 << 20); x[::4096] = bytes(len(x[::4096])); import time; time.sleep(600)"


@scene
def ok(it: Scene) -> None:
    it.start(shell("echo done; sleep 3"))
    it.until(running)
    it.keep("-running")
    it.until_job("Complete")
    it.keep()


@scene
def exit_1(it: Scene) -> None:
    it.start(shell("echo a last word; exit 1"))
    it.until_job("Failed")
    it.keep()


@scene
def uploading(it: Scene) -> None:
    """The trial has ended, its agent not yet."""
    slow = READY.replace("os._exit(0)", "import time; time.sleep(4); os._exit(0)")
    it.start(shell("exit 3"), agent=slow)
    it.until(
        lambda pod: "terminated" in container(pod)["state"] and "running" in container(pod, "agent")["state"]
    )
    it.keep()


@scene
def out_of_memory(it: Scene) -> None:
    it.start(python(EATS), limits={"memory": "64Mi"})
    it.until_job("Failed")
    it.keep()


@scene
def child_out_of_memory(it: Scene) -> None:
    """A child is killed at the limit, and the trial goes on to exit 0."""
    it.start(shell(f"python3 -c '{EATS}'; echo went on; exit 0"), limits={"memory": "64Mi"})
    it.until(ended)
    it.keep()


@scene
def killed_by_agent(it: Scene) -> None:
    it.start(SLEEP, agent=REFUSES)
    it.until_job("Failed")
    it.keep()


@scene
def deleted(it: Scene) -> None:
    it.start(SLEEP)
    it.until(running)
    kubectl("delete", "pod", "-n", SPACE, it.name_of_pod(), "--wait=false")
    pod = it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
    it.keep("-ending")
    while left := it.pods():
        pod = left[-1]
    it.until_job("Failed")
    it.keep(pods=[pod])
    it.keep("-gone", pods=[])


@scene
def deleted_and_exits_0(it: Scene) -> None:
    it.start(python("import signal,sys,time; signal.signal(15, lambda *_: sys.exit(0)); time.sleep(600)"))
    it.until(running)
    time.sleep(2)
    kubectl("delete", "pod", "-n", SPACE, it.name_of_pod(), "--wait=false")
    pod = it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
    while left := it.pods():
        pod = left[-1]
    it.keep(pods=[pod])


@scene
def deleted_by_force(it: Scene) -> None:
    """The pod is gone at once, whatever its containers do; the Job may make another one."""
    it.start(SLEEP)
    pod = it.until(running)
    kubectl("delete", "pod", "-n", SPACE, it.name_of_pod(), "--force", "--grace-period=0", "--wait=false")
    it.until(lambda other: not other or other["metadata"]["uid"] != pod["metadata"]["uid"])
    time.sleep(3)
    it.keep(pods=[pod, *it.pods()])


@scene
def job_deleted(it: Scene) -> None:
    it.start(SLEEP)
    it.until(running)
    kubectl("delete", "job", "-n", SPACE, it.job, "--cascade=background", "--wait=false")
    it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
    it.keep("-ending")
    while left := it.pods():
        pod = left[-1]
    it.keep(pods=[pod])


@scene
def job_deleted_foreground(it: Scene) -> None:
    it.start(SLEEP)
    it.until(running)
    kubectl("delete", "job", "-n", SPACE, it.job, "--cascade=foreground", "--wait=false")
    it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
    it.keep()


@scene
def evicted_by_api(it: Scene) -> None:
    it.start(SLEEP)
    it.until(running)
    name = it.name_of_pod()
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": SPACE}}
    kubectl("create", "--raw", f"/api/v1/namespaces/{SPACE}/pods/{name}/eviction", "-f", "-", given=eviction)
    pod = it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
    while left := it.pods():
        pod = left[-1]
    it.until_job("Failed")
    it.keep(pods=[pod])


@scene
def evicted_for_its_disk(it: Scene) -> None:
    it.start(
        shell("head -c 60000000 /dev/zero > /abohb/trial/big; sleep 600"),
        limits={"ephemeral-storage": "20Mi"},
    )
    it.until(ended, 180)
    it.keep()


@scene
def image_missing(it: Scene) -> None:
    it.start(SLEEP, image="localhost:5000/abohb/no-such-image:1")
    it.keep(
        "-at-first",
        pods=[it.until(lambda pod: container(pod)["state"]["waiting"]["reason"] == "ErrImagePull")],
    )
    it.keep(pods=[it.until(lambda pod: container(pod)["state"]["waiting"]["reason"] == "ImagePullBackOff")])


@scene
def image_name_invalid(it: Scene) -> None:
    it.start(SLEEP, image="Not/A/Valid:Name:1")
    it.keep(pods=[it.until(lambda pod: container(pod)["state"]["waiting"]["reason"] == "InvalidImageName")])


@scene
def image_never_pulled(it: Scene) -> None:
    patch = {"spec": {"containers": [{"name": "trial", "imagePullPolicy": "Never"}]}}
    it.start(SLEEP, image="abohb/not-on-this-node:1", patch=patch)
    it.keep(pods=[it.until(lambda pod: container(pod)["state"]["waiting"]["reason"] == "ErrImageNeverPull")])


@scene
def agent_image_missing(it: Scene) -> None:
    it.start(SLEEP, agent_image="localhost:5000/abohb/no-such-image:1")
    it.keep(
        pods=[
            it.until(lambda pod: container(pod, "agent")["state"]["waiting"]["reason"] == "ImagePullBackOff")
        ]
    )


@scene
def agent_crashes(it: Scene) -> None:
    wrong = ["python3", "-c", "raise SystemExit('no store at s3://abohb/corpus')"]
    it.start(SLEEP, agent_command=wrong, prepare="sleep 600")
    it.keep(
        pods=[
            it.until(lambda pod: container(pod, "agent")["state"]["waiting"]["reason"] == "CrashLoopBackOff")
        ]
    )


@scene
def agent_command_not_found(it: Scene) -> None:
    it.start(SLEEP, agent_command=["/no/such/agent"], prepare="sleep 600")
    it.keep(
        pods=[
            it.until(lambda pod: container(pod, "agent")["state"]["waiting"]["reason"] == "CrashLoopBackOff")
        ]
    )


@scene
def agent_prepares(it: Scene) -> None:
    it.start(SLEEP, prepare="sleep 600")
    it.until(lambda pod: "running" in container(pod, "prepare")["state"])
    it.keep()


@scene
def agent_refuses(it: Scene) -> None:
    """Another pod has the attempt: this one says so and ends."""
    said = '{"trial":0,"attempt":1,"ended":"lost","message":"pod 7 has this attempt"}'
    silent = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); signal.pause()"
    it.start(SLEEP, agent=silent, prepare=f"echo '{said}' > /dev/termination-log; exit 3")
    it.until_job("Failed")
    it.keep()


@scene
def agent_is_over_first(it: Scene) -> None:
    """No container runs any more, and the kubelet has not said yet that the pod is over."""
    it.start(shell("sleep 1; exit 0"))
    last = it.until(
        lambda pod: "terminated" in container(pod, "agent")["state"] and pod["status"]["phase"] == "Running"
    )
    it.keep(pods=[last])


@scene
def unschedulable(it: Scene) -> None:
    it.start(SLEEP, gpus=999)
    it.until(lambda pod: conditions(pod)[0]["reason"] == "Unschedulable")
    it.keep()


@scene
def suspended_before(it: Scene) -> None:
    it.start(SLEEP, suspend=True)
    it.until_job("Suspended")
    it.keep()


@scene
def suspended_while_running(it: Scene) -> None:
    it.start(SLEEP)
    it.until(running)
    kubectl("patch", "job", "-n", SPACE, it.job, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    pod = it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
    it.keep("-ending")
    while left := it.pods():
        pod = left[-1]
    it.until_job("Suspended")
    it.keep(pods=[pod])
    it.keep("-gone", pods=[])
    kubectl("patch", "job", "-n", SPACE, it.job, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    it.until(lambda pod: pod and "deletionTimestamp" not in pod["metadata"])
    it.keep("-again")  # a second pod of the same Job


@scene
def deadline(it: Scene) -> None:
    it.start(SLEEP, deadline=8)
    it.until(ended)
    it.until_job("Failed")
    it.keep()


@scene
def config_map_missing(it: Scene) -> None:
    wanted = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "no-such-map", "key": "x"}}}
    it.start(SLEEP, patch={"spec": {"containers": [{"name": "trial", "env": [wanted]}]}})
    it.keep(
        pods=[
            it.until(lambda pod: container(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
        ]
    )


@scene
def volume_missing(it: Scene) -> None:
    volume = {"name": "data", "configMap": {"name": "no-such-map"}}
    mount = {"name": "data", "mountPath": "/data"}
    patch = {"spec": {"volumes": [volume], "containers": [{"name": "trial", "volumeMounts": [mount]}]}}
    it.start(SLEEP, patch=patch)
    it.until(lambda pod: container(pod)["state"]["waiting"]["reason"] == "PodInitializing")
    time.sleep(8)
    it.keep(events=True)


@scene
def root_refused(it: Scene) -> None:
    """runAsNonRoot, and an image whose user is root."""
    user = {"securityContext": {"runAsUser": 1000}}
    agents = [{"name": name, **user} for name in ("agent", "prepare")]
    nobody = {"securityContext": {"runAsUser": None, "runAsGroup": None}}
    it.start(SLEEP, patch={"spec": {**nobody, "initContainers": agents}})
    it.keep(
        pods=[
            it.until(lambda pod: container(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
        ]
    )


@scene
def sandbox_refused(it: Scene) -> None:
    """A group without a user: the runtime does not make the pod, and only an event says so."""
    it.start(SLEEP, patch={"spec": {"securityContext": {"runAsUser": None}}})
    time.sleep(5)
    it.keep(events=True)


@scene
def command_not_found(it: Scene) -> None:
    it.start(["no-such-program", "--lr=1"])
    it.until(ended)
    it.keep()


@scene
def workdir_missing(it: Scene) -> None:
    it.start(SLEEP, patch={"spec": {"containers": [{"name": "trial", "workingDir": "/proc/no/such"}]}})
    it.until(lambda pod: ended(pod) or container(pod)["state"]["waiting"]["reason"] == "CreateContainerError")
    it.keep()


@scene
def init_container_fails(it: Scene) -> None:
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    fetch = {"name": "fetch", "image": IMAGE, "command": shell("exit 4"), "securityContext": confined}
    it.start(SLEEP, patch={"spec": {"initContainers": [fetch]}})
    it.until(ended)
    it.keep()


@scene
def refused_by_pod_security(it: Scene) -> None:
    it.start(SLEEP, patch={"spec": {"hostNetwork": True}})
    time.sleep(3)
    it.keep(events=True)


@scene
def refused_by_quota(it: Scene) -> None:
    hard = {"requests.corpus.abohb.dev/slot": "0"}
    create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": SPACE},
            "spec": {"hard": hard}})  # fmt: skip
    time.sleep(2)
    try:
        it.start(SLEEP, gpus=1, gpu_resource=RESOURCE)
        time.sleep(4)
        it.keep(events=True)
    finally:
        kubectl("delete", "resourcequota", "-n", SPACE, "q")


@scene
def rejected_for_cpu(it: Scene) -> None:
    """The kubelet finds that the node has no room: OutOfcpu."""
    asks = {"name": "trial", "resources": {"requests": {"cpu": "900"}, "limits": {"cpu": "900"}}}
    it.start(SLEEP, patch={"spec": {"nodeName": node(), "containers": [asks]}})
    it.until(ended)
    it.keep()


@scene
def rejected_for_its_selector(it: Scene) -> None:
    it.start(SLEEP, patch={"spec": {"nodeName": node(), "nodeSelector": {"corpus": "nowhere"}}})
    it.until(ended)
    it.keep()


@scene
def preempted(it: Scene) -> None:
    with slots(1), priority("corpus-high", 1000):
        it.start(SLEEP, gpus=1, gpu_resource=RESOURCE)
        it.until(running)
        other = Scene("preemptor")
        other.start(
            SLEEP, gpus=1, gpu_resource=RESOURCE, patch={"spec": {"priorityClassName": "corpus-high"}}
        )
        pod = it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
        it.keep("-ending")
        while left := it.pods():
            pod = left[-1]
        it.until_job("Failed")
        it.keep(pods=[pod])
        other.remove()


@scene
def unschedulable_split(it: Scene) -> None:
    """Nodes that are cordoned, tainted, too small, and of another kind."""
    taints = [{"key": "team", "value": "other", "effect": "NoSchedule"}]
    with (
        fake_node("corpus-cordoned", cordoned=True),
        fake_node("corpus-tainted", taints=taints),
        fake_node("corpus-small"),
    ):
        it.start(SLEEP, gpus=4, gpu_resource=RESOURCE)
        it.until(lambda pod: conditions(pod)[0]["message"].startswith("0/4"))
        it.keep()


@scene
def cordoned(it: Scene) -> None:
    with fake_node("corpus-cordoned", cordoned=True):
        it.start(SLEEP, patch={"spec": {"nodeSelector": {"corpus": "corpus-cordoned"}}})
        it.until(lambda pod: conditions(pod)[0]["reason"] == "Unschedulable")
        it.keep()


@scene
def gated(it: Scene) -> None:
    it.start(SLEEP, patch={"spec": {"schedulingGates": [{"name": "corpus.abohb.dev/wait"}]}})
    it.until(lambda pod: conditions(pod)[0]["reason"] == "SchedulingGated")
    it.keep()


@scene
def tainted_away(it: Scene) -> None:
    """A taint drives the pod from a node that does not answer; its kubelet's last word is that it runs."""
    with fake_node("corpus-lost"):
        it.start(SLEEP, patch={"spec": {"nodeSelector": {"corpus": "corpus-lost"}}})
        it.until(lambda pod: pod["spec"].get("nodeName") == "corpus-lost")
        say_running(it)
        kubectl("taint", "node", "corpus-lost", "corpus.abohb.dev/broken=yes:NoExecute")
        it.until(lambda pod: "deletionTimestamp" in pod["metadata"])
        it.keep()


@scene
def node_gone(it: Scene) -> None:
    """The node object is deleted, and the pod garbage collector takes what was on it."""
    with fake_node("corpus-lost"):
        it.start(SLEEP, patch={"spec": {"nodeSelector": {"corpus": "corpus-lost"}}})
        it.until(lambda pod: pod["spec"].get("nodeName") == "corpus-lost")
        say_running(it)
        pod = it.pods()[-1]
    end = time.monotonic() + 180
    while (left := it.pods()) and time.monotonic() < end:
        pod = left[-1]
        time.sleep(0.05)
    it.keep(pods=[pod])


def say_running(it: Scene) -> None:
    """As the kubelet of a real node would, before the node was lost."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state = {"ready": True, "restartCount": 0, "image": IMAGE, "imageID": "sha256:0", "started": True}
    state |= {"state": {"running": {"startedAt": now}}, "lastState": {}}
    status = {
        "phase": "Running", "startTime": now,
        "initContainerStatuses": [{"name": "agent", **state}],
        "containerStatuses": [{"name": "trial", **state}],
    }  # fmt: skip
    words = ("pod", it.name_of_pod(), "-n", SPACE, "--subresource=status", "--type=merge")
    kubectl("patch", *words, "-p", json.dumps({"status": status}))


# -- the cluster ---------------------------------------------------------------------------------------


def node() -> str:
    """One that a kubelet runs."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return str(
        next(n for n in nodes if "corpus" not in n["metadata"]["name"] and real(n))["metadata"]["name"]
    )


def real(thing: Object) -> bool:
    return "kwok.x-k8s.io/node" not in thing["metadata"].get("annotations", {})


@contextlib.contextmanager
def slots(count: int) -> Iterator[None]:
    """A resource of the real node, which nobody else asks for."""
    path = f"/status/capacity/{RESOURCE.replace('/', '~1')}"
    words = ("patch", "node", node(), "--subresource=status", "--type=json", "-p")
    kubectl(*words, json.dumps([{"op": "add", "path": path, "value": str(count)}]))
    allocatable = path.replace("capacity", "allocatable")
    kubectl(*words, json.dumps([{"op": "add", "path": allocatable, "value": str(count)}]))
    try:
        yield
    finally:
        for place in (path, allocatable):
            kubectl(*words, json.dumps([{"op": "remove", "path": place}]), check=False)


@contextlib.contextmanager
def priority(name: str, value: int) -> Iterator[None]:
    create(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
        }
    )
    try:
        yield
    finally:
        kubectl("delete", "priorityclass", name)


@contextlib.contextmanager
def fake_node(name: str, *, cordoned: bool = False, taints: list[Object] | None = None) -> Iterator[None]:
    """A node without a kubelet: Ready for about 40 s, by our word."""
    size = {"cpu": "8", "memory": "16Gi", "pods": "20", RESOURCE: "1"}
    create({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"corpus": name}},
            "spec": {"unschedulable": cordoned, "taints": taints or []}})  # fmt: skip
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    ready |= {"lastHeartbeatTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    status = {"capacity": size, "allocatable": size, "conditions": [ready]}
    kubectl(
        "patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
    )
    for _ in range(100):  # the controller takes its first taint away once it has seen that the node is Ready
        found = json.loads(kubectl("get", "node", name, "-o", "json"))
        if not any("not-ready" in taint["key"] for taint in found["spec"].get("taints", ())):
            break
        time.sleep(0.1)
    try:
        yield
    finally:
        kubectl("delete", "node", name, "--wait=false", check=False)


def main(names: list[str]) -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": enforce}}, check=False
    )
    time.sleep(1)
    try:
        for name in names or SCENES:
            it = Scene(name)
            try:
                SCENES[name](it)
            except SystemExit as missed:
                print(f"MISSED {missed}", flush=True)
            finally:
                it.remove()
    finally:
        kubectl("delete", "namespace", SPACE, "--wait=false")


if __name__ == "__main__":
    main(sys.argv[1:])
