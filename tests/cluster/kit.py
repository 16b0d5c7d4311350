"""What the tests do with a cluster: kubectl in one namespace, and a MinIO to reach."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from minio import Minio

from flows.study.model import Study
from operators.store import Store
from operators.stores import open_store

ROOT = Path(__file__).parents[2]
KUBECONFIG = "KUBECONFIG (the kubeconfig of a cluster where tests may make namespaces)"
IMAGES = {
    "ABOHB_TEST_REGISTRY": "where its nodes pull our images from, as images/build.sh --push had it",
    "ABOHB_TEST_TAG": "their tag",
}
OBJECTS = "jobs,pods,configmaps,secrets,leases.coordination.k8s.io"  # kinds of which a study may leave some
STUDY = "abohb.dev/study"

Json: TypeAlias = dict[str, Any]


def missing(*, images: bool) -> list[str]:
    """What a cluster test lacks, for the one who runs it."""
    lacks = [] if os.environ.get("KUBECONFIG") else [KUBECONFIG]
    if images:
        lacks += [f"{name} ({what})" for name, what in IMAGES.items() if not os.environ.get(name)]
    if images and shutil.which("kubectl") is None:
        lacks.append("PATH so that kubectl is on it")
    return lacks


def image(name: str) -> str:
    """One of ours, by the tag under test: `agent`, `trial-digits`, ..."""
    return f"{os.environ['ABOHB_TEST_REGISTRY']}/abohb-{name}:{os.environ['ABOHB_TEST_TAG']}"


def until(what: str, condition: Callable[[], object], within: float = 60.0, every: float = 0.2) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(every)


@dataclass(frozen=True, slots=True)
class Cluster:
    """kubectl in one namespace."""

    namespace: str

    def kubectl(self, *arguments: str, stdin: str = "", within: float = 60.0) -> str:
        """Its output; AssertionError with what it said if it fails."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=within)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def apply(self, *documents: Json) -> None:
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))

    def get(self, kind: str, name: str) -> Json:
        found: Json = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def list(self, kinds: str, selector: str = STUDY) -> list[Json]:
        """The objects with that label; of kinds with a comma between."""
        text = self.kubectl("get", kinds, f"--selector={selector}", "--output=json")
        return list(json.loads(text)["items"])

    def left(self) -> list[str]:
        """What is there of any study: `Job/digits-3-1`."""
        return sorted(f"{one['kind']}/{one['metadata']['name']}" for one in self.list(OBJECTS))

    def remove_left(self) -> None:
        options = ("--ignore-not-found", "--now", "--timeout=60s")
        self.kubectl("delete", OBJECTS, f"--selector={STUDY}", *options, within=90)

    def evict(self, pod: str) -> None:
        """As a drain does it; returns at once."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))

    def logs(self, pod: str, container: str) -> str:
        return self.kubectl("logs", pod, f"--container={container}")

    def wait_pod(self, name: str, within: float = 120.0) -> str:
        """Until it has run; its phase."""
        phase = ""

        def ended() -> bool:
            nonlocal phase
            phase = self.get("pod", name)["status"]["phase"]
            return phase in ("Succeeded", "Failed")

        until(f"pod {name} ends", ended, within)
        return phase


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The MinIO of the namespace."""

    cluster: Cluster
    outside: str  # its endpoint as the tests reach it, and the controllers that they start
    key: str
    secret: str
    inside: str = "http://minio:9000"  # as pods reach it

    def client(self) -> Minio:
        address = self.outside.removeprefix("http://")
        return Minio(
            endpoint=address,
            access_key=self.key,
            secret_key=self.secret,
            secure=False,
            region="us-east-1",
        )

    def environment(self) -> dict[str, str]:
        """What a controller needs to reach it."""
        return {
            "ABOHB_S3_ENDPOINT": self.outside,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def open(self, study: Study) -> Store:
        return open_store(study.store, self.environment())

    def stop(self) -> None:
        """Returns when it is gone; its data stays."""
        self.cluster.kubectl("scale", "deployment/minio", "--replicas=0")
        self.cluster.kubectl("wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=minio")

    def start(self) -> None:
        """Returns when it answers."""
        self.cluster.kubectl("scale", "deployment/minio", "--replicas=1")
        self.cluster.kubectl("rollout", "status", "deployment/minio", "--timeout=120s", within=130)
        address = self.outside.removeprefix("http://")
        until("MinIO answers", lambda: answers(address))


def answers(address: str) -> bool:
    """Whether a MinIO is there: between here and a cluster, others may answer for an address that is none."""
    try:
        connection = http.client.HTTPConnection(address, timeout=2.0)
        connection.request("GET", "/minio/health/live")
        reply = connection.getresponse()
        return reply.status == 200 and reply.getheader("Server", "").startswith("MinIO")
    except (OSError, http.client.HTTPException):
        return False


@contextmanager
def minio_in(cluster: Cluster, *, lasting: bool = False) -> Iterator[ObjectStore]:
    """One in the namespace, as examples/kubernetes has it; ABOHB_TEST_MINIO_IMAGE names another image.

    `lasting`: on a volume that outlives its pod.
    """
    text = (ROOT / "examples/kubernetes/minio.yaml").read_text()
    documents: list[Json] = [
        one for one in yaml.safe_load_all(text) if lasting or one["kind"] != "PersistentVolumeClaim"
    ]
    (secret,) = (one["stringData"] for one in documents if one["kind"] == "Secret")
    for one in documents:
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            if not lasting:  # a claim uses up a volume each time
                pod["volumes"] = [{"name": "data", "emptyDir": {}}]
            (container,) = pod["containers"]
            container["image"] = os.environ.get("ABOHB_TEST_MINIO_IMAGE") or container["image"]
    cluster.apply(*documents)
    cluster.kubectl("rollout", "status", "deployment/minio", "--timeout=180s", within=190)
    with reached(cluster, "minio") as address:
        keys = secret["AWS_ACCESS_KEY_ID"], secret["AWS_SECRET_ACCESS_KEY"]
        yield ObjectStore(cluster, f"http://{address}", *keys)


@contextmanager
def reached(cluster: Cluster, service: str) -> Iterator[str]:
    """host:port of a Service from here: its own address, a node's, or else by way of the API server."""
    cluster.kubectl("patch", "service", service, '--patch={"spec": {"type": "NodePort"}}')
    spec = cluster.get("service", service)["spec"]
    (port,) = spec["ports"]
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    addresses = [one for node in nodes for one in node["status"].get("addresses", ())]
    ips = [one["address"] for one in addresses if one["type"] == "InternalIP"]
    direct = (f"{spec['clusterIP']}:{port['port']}", *(f"{ip}:{port['nodePort']}" for ip in ips[:3]))
    for _ in range(5):  # a node may take some seconds to hear of the Service
        if found := next(filter(answers, direct), None):
            yield found
            return
        time.sleep(1)
    with forwarded(cluster, service, port["port"]) as address:
        yield address


@contextmanager
def forwarded(
    cluster: Cluster, service: str, port: int, ready: Callable[[str], bool] = answers
) -> Iterator[str]:
    """`kubectl port-forward`, begun again whenever it ends, as it does with each pod."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        here = free.getsockname()[1]
    over = threading.Event()
    command = ["kubectl", "-n", cluster.namespace, "port-forward", f"service/{service}", f"{here}:{port}"]

    def forward() -> None:
        while not over.is_set():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and not over.wait(0.2):
                    pass
                process.terminate()
            over.wait(0.5)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        until("port-forward answers", lambda: ready(f"127.0.0.1:{here}"))
        yield f"127.0.0.1:{here}"
    finally:
        over.set()
        thread.join()
