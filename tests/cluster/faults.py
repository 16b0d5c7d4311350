"""What befalls a study on a cluster: each fault is real, and written down with its time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flows.study.model import Study
from hpo_engine.types import Waiting
from operators.attempt import AttemptSpec, decode_spec
from operators.journal import Journal
from operators.kube.settings import AGENT_CONTAINER, selector
from operators.kube.status import deleted, spec_of, state, uid, unix
from operators.store import Store
from tests.cluster.desk import Desk
from tests.cluster.kit import Json, until
from tests.cluster.sleeper import ILL
from tests.cluster.watched import Key

STOP_API = "ABOHB_TEST_STOP_API"  # a command: stops the API server for as many seconds as it is told


@dataclass(frozen=True, slots=True)
class Fault:
    """Times are unix seconds."""

    kind: str
    began: float
    ended: float
    target: str = ""
    hit: Key | None = None  # the attempt

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.began))
        return f"{clock} {self.kind} {self.target} ({self.ended - self.began:.1f} s)"


@dataclass
class Faults:
    """Does things to a study of `sleeper`. `pace` as there."""

    desk: Desk
    study: Study
    store: Store
    chance: random.Random
    pace: float = 1.0
    done: list[Fault] = field(default_factory=list)
    _hit: set[str] = field(default_factory=set)  # uids of pods

    # -- pods ----------------------------------------------------------------------------------------

    def delete_pod(self) -> bool:
        """Of a training code at work. False: there is none."""
        return self._strike("pod deleted", lambda pod: self._kubectl("delete", "pod", pod, "--wait=false"))

    def evict_pod(self) -> bool:
        """As a drain does."""
        return self._strike("pod evicted", self._evict)

    def suspend_job(self) -> bool:
        """As Kueue does to take the resources back."""
        return self._strike("Job suspended", self._suspend)

    def _evict(self, pod: str) -> None:
        path = f"/api/v1/namespaces/{self.desk.cluster.namespace}/pods/{pod}/eviction"
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        self._kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))

    def _suspend(self, pod: str) -> None:
        job = self.desk.cluster.get("pod", pod)["metadata"]["ownerReferences"][0]["name"]
        self._kubectl("patch", "job", job, '--patch={"spec": {"suspend": true}}')

    def victims(self) -> list[Json]:
        """Pods that can be struck now."""
        return [pod for pod in self.desk.cluster.list("pods", selector(self.study.name)) if self._fit(pod)]

    def _strike(self, kind: str, how: Callable[[str], object]) -> bool:
        victims = self.victims()
        if not victims:
            return False
        victim = self.chance.choice(victims)
        name, spec = victim["metadata"]["name"], spec_in(victim)
        try:
            with self._noted(kind, name, (spec.trial, spec.attempt)):
                how(name)
        except AssertionError as error:  # it was quicker than we
            if "not found" not in str(error):
                raise
            return False
        self._hit.add(uid(victim))
        return True

    def _fit(self, pod: Json) -> bool:
        """At work for more than an epoch, and with some more ahead."""
        running, spec = state(pod, "running"), spec_in(pod)
        if running is None or deleted(pod) or uid(pod) in self._hit or spec.config["kind"] in ILL:
            return False
        ran = (time.time() - (unix(running["startedAt"]) or 0.0)) / self.pace
        return 1.5 <= ran <= spec.until - spec.reported - 1.5

    # -- what trials need ----------------------------------------------------------------------------

    def cordon(self, within: float = 60.0) -> None:
        """All nodes that take pods, until a trial is said to wait for that."""
        before = len(self.waits())
        with self._cordoned():
            until("a trial waits for a node", lambda: len(self.waits()) > before, within, every=1.0)

    def cordon_for(self, seconds: float) -> None:
        with self._cordoned():
            time.sleep(seconds)

    @contextmanager
    def _cordoned(self) -> Iterator[None]:
        every = json.loads(self._kubectl("get", "nodes", "--output=json"))["items"]
        nodes = [node["metadata"]["name"] for node in every if not node["spec"].get("taints")]
        with self._noted("nodes cordoned"):
            try:
                self._kubectl("cordon", *nodes)
                yield
            finally:
                self._kubectl("uncordon", *nodes)

    def waits(self) -> list[Waiting]:
        """For a node."""
        told = (event for batch in Journal(self.store, self.study.name).read() for event in batch.events)
        return [one for one in told if isinstance(one, Waiting) and one.cause.startswith("unschedulable")]

    def stop_store(self, seconds: float) -> None:
        with self._noted("MinIO stopped"):
            self.desk.minio.stop()
            try:
                time.sleep(seconds)
            finally:
                self.desk.minio.start()

    @property
    def can_stop_api(self) -> bool:
        return bool(os.environ.get(STOP_API))

    def stop_api(self, seconds: float) -> None:
        """The pods go on."""
        command = [*os.environ[STOP_API].split(), f"{seconds:g}"]
        with self._noted("API server stopped"):
            subprocess.run(command, check=True, timeout=seconds + 120)

    @contextmanager
    def _noted(self, kind: str, target: str = "", hit: Key | None = None) -> Iterator[None]:
        began = time.time()
        yield
        self.done.append(Fault(kind, began, time.time(), target, hit))
        print(self.done[-1], flush=True)

    def _kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.desk.cluster.kubectl(*arguments, stdin=stdin)


def spec_in(pod: Json) -> AttemptSpec:
    """As its agent was told."""
    env = {one["name"]: one.get("value", "") for one in spec_of(pod, AGENT_CONTAINER)["env"]}
    return decode_spec(env["ABOHB_ATTEMPT"].encode())
