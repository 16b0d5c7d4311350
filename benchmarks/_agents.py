"""Stands in for the agents of pods that run no container: what they would write to the store, and when."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from hpo_engine.types import Report
from operators.attempt import (
    AttemptSpec,
    claim_key,
    decode_order,
    decode_spec,
    encode_report,
    facts_key,
    order_key,
    report_key,
)
from operators.codec import dumps
from operators.kube.api import Api
from operators.kube.settings import AGENT_CONTAINER, attempt_of, selector
from operators.kube.watch import Watcher
from operators.store import Store
from operators.verdict import Facts, encode_facts

THREADS = 8
EARLY, LATE = 0.2, 0.8  # of a pod's life: between these it trains, and its last word is written

Json = dict[str, Any]


def loss_of(x: float, epoch: int) -> float:
    return (x - 0.3) ** 2 + 1 / epoch


@dataclass
class Agents:
    """Watches the pods of a study; for each that runs: a claim, later its reports, and its facts."""

    api: Api
    store: Store
    study: str
    seconds: float  # that a pod lives from when it runs
    most: int = field(default=0, init=False)  # pods that ran at the same time
    acted: int = field(default=0, init=False)
    late: float = field(default=0.0, init=False)  # seconds, the worst: facts behind their time
    faults: list[str] = field(default_factory=list, init=False)
    ended: dict[tuple[int, int], float] = field(default_factory=dict, init=False)  # attempt: seen to have
    _running: set[str] = field(default_factory=set, init=False)  # uids
    _known: set[str] = field(default_factory=set, init=False)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list, init=False)
    _turn: threading.Condition = field(default_factory=threading.Condition, init=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, init=False)
    _stopped: bool = field(default=False, init=False)

    def start(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="agents")
        self._watcher = Watcher(self.api, "pods", selector(self.study), lambda: None, self._saw)
        self._clock = threading.Thread(target=self._work, name="agents", daemon=True)
        self._clock.start()
        self._watcher.start()

    def stop(self) -> None:
        with self._turn:
            self._stopped = True
            self._turn.notify()
        self._clock.join()
        self._watcher.stop()
        self._pool.shutdown(cancel_futures=True)

    def _saw(self, pod: Json) -> Json:
        """Each pod as the watch tells of it; of which the watch need keep no more than the name."""
        metadata, phase = pod["metadata"], pod.get("status", {}).get("phase")
        uid = metadata["uid"]
        runs = phase == "Running" and not metadata.get("deletionTimestamp")
        (self._running.add if runs else self._running.discard)(uid)
        self.most = max(self.most, len(self._running))
        if runs and uid not in self._known:
            self._known.add(uid)
            self._begin(uid, spec_of(pod))
        key = attempt_of(pod)
        if key is not None and phase in ("Succeeded", "Failed"):
            self.ended.setdefault(key, time.time())
        return {"metadata": {name: metadata[name] for name in ("name", "uid", "resourceVersion")}}

    def _begin(self, uid: str, spec: AttemptSpec) -> None:
        began = time.time()
        last = began + self.seconds * random.uniform(EARLY, LATE)
        self._at(began, lambda: self._claim(uid, spec))
        self._at(last, lambda: self._conclude(spec, began, last))

    def _claim(self, uid: str, spec: AttemptSpec) -> None:
        claimed = self.store.put_once(claim_key(self.study, spec.trial, spec.attempt), dumps({"pod": uid}))
        assert claimed, f"two pods for attempt {spec.attempt} of trial {spec.trial}"

    def _conclude(self, spec: AttemptSpec, began: float, last: float) -> None:
        """It has trained as far as its order says by now."""
        data = self.store.get(order_key(self.study, spec.trial))
        until = max(spec.until, decode_order(data).until if data else 0)
        for epoch in range(spec.reported + 1, until + 1):
            loss = loss_of(float(spec.config["x"]), epoch)
            report = Report(spec.trial, spec.attempt, epoch, {"loss": loss}, True, time.time() - began)
            self.store.put(report_key(self.study, report), encode_report(report))
        facts = Facts(
            spec.trial,
            spec.attempt,
            spec.resource,
            start=spec.reported,
            reached=until,
            units=until - spec.reported,
            until=until,
            fulfilled=True,
            seconds=time.time() - began,
        )
        self.store.put(facts_key(self.study, spec.trial, spec.attempt), encode_facts(facts))
        self.acted += 1
        self.late = max(self.late, time.time() - last)

    def _at(self, when: float, action: Callable[[], None]) -> None:
        with self._turn:
            heapq.heappush(self._due, (when, next(self._numbers), action))
            self._turn.notify()

    def _work(self) -> None:
        while True:
            with self._turn:
                while not self._stopped and (not self._due or self._due[0][0] > time.time()):
                    self._turn.wait(self._due[0][0] - time.time() if self._due else None)
                if self._stopped:
                    return
                _, _, action = heapq.heappop(self._due)
            self._pool.submit(self._tried, action)

    def _tried(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")


def spec_of(pod: Mapping[str, Any]) -> AttemptSpec:
    """What the agent of a pod is told."""
    agent = next(one for one in pod["spec"]["initContainers"] if one["name"] == AGENT_CONTAINER)
    text = next(one["value"] for one in agent["env"] if one["name"] == "ABOHB_ATTEMPT")
    return decode_spec(text.replace("$$", "$").encode())
