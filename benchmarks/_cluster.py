"""What the benchmarks on a cluster share: a namespace, rights, a controller as a process, counted calls.

KUBECONFIG names the cluster, its user may make namespaces and FlowSchemas; `kubectl` is on PATH.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.controller.inbox import steer_prefix
from flows.study.file import load_study
from flows.study.model import Study
from operators.codec import dumps
from operators.store import Store
from tests.cluster.kit import ROOT, Cluster

ACCOUNT = "abohb"  # as operators/rbac.yaml has it
_COUNTED = "apiserver_flowcontrol_dispatched_requests_total"
_LOGS = "apiserver_request_total"
_BEGAN = "process_start_time_seconds "

Json = dict[str, Any]


@contextmanager
def own_namespace() -> Iterator[Cluster]:
    """A fresh one, with a service account for the controller; removed with all that is in it."""
    cluster = Cluster(f"abohb-bench-{uuid.uuid4().hex[:8]}")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace}})
    try:
        documents: list[Json] = list(yaml.safe_load_all((ROOT / "operators/rbac.yaml").read_text()))
        for one in documents:
            for subject in one.get("subjects", ()):
                subject["namespace"] = cluster.namespace
        cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}, *documents
        )
        yield cluster
    finally:
        cluster.kubectl("delete", "namespace", cluster.namespace, "--timeout=300s", within=310)


def kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """Of the controller: its service account, in its namespace."""
    token = cluster.kubectl("create", "token", ACCOUNT, "--duration=24h").strip()
    words = ("config", "view", "--minify", "--flatten", "--output=yaml")
    config: Json = yaml.safe_load(cluster.kubectl(*words))
    (context,) = config["contexts"]
    context["context"] |= {"namespace": cluster.namespace, "user": ACCOUNT}
    config["users"] = [{"name": ACCOUNT, "user": {"token": token}}]
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


@dataclass(frozen=True)
class Counted:
    """What the API server itself has counted of the controller's calls."""

    cluster: Cluster
    name: str  # of the FlowSchema that only the controller's calls fall under

    def calls(self) -> int:
        """All so far: watches are one call each. Fetches of logs fall under no FlowSchema."""
        return round(self._sum(_COUNTED, flow_schema=self.name))

    def log_fetches(self) -> int:
        """Of everybody: the API server does not say whose."""
        return round(self._sum(_LOGS, resource="pods", subresource="log"))

    def began(self) -> float:
        """When the API server did, in unix seconds: one that was restarted has counted anew."""
        text = self.cluster.kubectl("get", "--raw=/metrics")
        return float(next(line for line in text.splitlines() if line.startswith(_BEGAN)).split()[1])

    def _sum(self, metric: str, **labels: str) -> float:
        text = self.cluster.kubectl("get", "--raw=/metrics")
        total = 0.0
        for line in text.splitlines():
            if line.startswith(f"{metric}{{"):
                found = dict(re.findall(r'(\w+)="([^"]*)"', line))
                total += float(line.rpartition(" ")[2]) if labels.items() <= found.items() else 0.0
        return total


@contextmanager
def counted(cluster: Cluster) -> Iterator[Counted]:
    """Has the API server count the calls of our service account apart, whoever else is at work."""
    rule = {
        "subjects": [
            {"kind": "ServiceAccount", "serviceAccount": {"name": ACCOUNT, "namespace": cluster.namespace}}
        ],
        "resourceRules": [
            {
                "verbs": ["*"],
                "apiGroups": ["*"],
                "resources": ["*"],
                "namespaces": ["*"],
                "clusterScope": True,
            }
        ],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    spec = {
        "priorityLevelConfiguration": {"name": "workload-low"},  # that of all service accounts
        "matchingPrecedence": 900,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [rule],
    }
    schema = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "spec": spec}
    cluster.apply({**schema, "metadata": {"name": cluster.namespace}})
    time.sleep(2)  # until the API server goes by it
    try:
        yield Counted(cluster, cluster.namespace)
    finally:
        cluster.kubectl("delete", "flowschema", cluster.namespace)


@dataclass(frozen=True)
class Run:
    """A controller that runs, and what it writes."""

    study: Study
    process: subprocess.Popen[bytes]
    samples: Path
    output: Path

    def wait(self, within: float) -> tuple[list[Json], Json]:
        """Its samples, one a pass, and its last line. AssertionError: it failed, or is late."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        assert code == 0, f"exit code {code}: {self.output.read_text()[-4000:]}"
        *samples, last = map(json.loads, self.samples.read_text().splitlines())
        return samples, last

    @property
    def legs(self) -> int:
        """That have ended so far."""
        lines = self.samples.read_bytes()[-2000:].splitlines()[:-1]
        return int(json.loads(lines[-1])["legs"]) if len(lines) > 1 else 0


def begin(document: Mapping[str, Any], folder: Path, env: Mapping[str, str], *options: str) -> Run:
    """Start a controller of this study as a process."""
    path, samples, output = folder / "study.yaml", folder / "samples.jsonl", folder / "controller.log"
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False))
    samples.touch()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._controller", str(path), str(samples), *options],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    return Run(load_study(path), process, samples, output)


def until_legs(run: Run, legs: int, within: float) -> None:
    """Wait until so many have ended, or the controller has, or it is too late."""
    deadline = time.monotonic() + within
    while run.legs < legs and run.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.5)


def steer_to_end(run: Run, store: Store) -> None:
    """As `abohb stop` does."""
    store.put(f"{steer_prefix(run.study.name)}end", dumps({"setting": "stopped", "value": 1}))


def load() -> float:
    """How many processes wanted a core, over the last minute: others may be at work on this machine."""
    return os.getloadavg()[0]


def quantile(values: list[float], part: float) -> float:
    """The smallest that this part of them does not exceed; for 0.99 of fewer than 100 the largest."""
    ordered = sorted(values)
    return ordered[math.ceil(part * len(ordered)) - 1] if ordered else math.nan
