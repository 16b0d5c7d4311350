"""What is kept of recorded Jobs and pods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from operators.kube.diagnose import diagnose
from operators.kube.slim import slim

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
Json = dict[str, Any]

WHO: Json = {"name": "s-1-1-x", "uid": "u", "resourceVersion": "7", "labels": {"team": "a"}}
OURS = {"abohb.dev/spec-hash": "h"}
THEIRS = {"kubectl.kubernetes.io/last-applied-configuration": "long"}
CONDITIONS = [{"type": "Ready", "status": "True"}]
TRIAL: Json = {"name": "trial", "image": "trial:1", "resources": {"limits": {"memory": "1Gi"}}}
AGENT: Json = {"name": "agent", "image": "agent:1", "restartPolicy": "Always"}
ENV: Json = {"env": [{"name": "KEY", "value": "secret"}]}
STATE: Json = {
    "name": "trial",
    "imageID": "trial@sha256:a",
    "ready": True,
    "restartCount": 0,
    "state": {"running": {}},
}

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {**WHO, "annotations": {**OURS, **THEIRS}, "managedFields": [{"manager": "kubelet"}]},
    "spec": {
        "nodeName": "node-0",
        "volumes": [{"name": "v"}],
        "initContainers": [{**AGENT, **ENV}],
        "containers": [{**TRIAL, **ENV}],
    },
    "status": {
        "phase": "Running",
        "conditions": CONDITIONS,
        "containerStatuses": [{**STATE, "resources": {"limits": {}}, "volumeMounts": [{}]}],
    },
}
SLIM_POD = {
    "metadata": {**WHO, "annotations": OURS},
    "spec": {
        "nodeName": "node-0",
        "initContainers": [AGENT],
        "containers": [TRIAL],
    },
    "status": {"phase": "Running", "conditions": CONDITIONS, "containerStatuses": [STATE]},
}


def test_a_pod() -> None:
    before = json.dumps(POD)
    assert slim(POD) == SLIM_POD
    assert json.dumps(POD) == before


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_recorded_objects(path: Path) -> None:
    """Identity, labels and what is said of the end are all there; no environment and no template is."""
    recorded = json.loads(path.read_text())
    things = [one for one in (recorded.get("job"), *recorded.get("pods", ())) if one]
    for thing in things:
        small = slim(thing)
        assert len(json.dumps(small)) <= len(json.dumps(thing))
        for key in ("name", "uid", "resourceVersion", "labels", "deletionTimestamp", "creationTimestamp"):
            assert small["metadata"].get(key) == thing["metadata"].get(key)
        assert "env" not in json.dumps(small)
        assert "template" not in small["spec"]
        for part in (
            "conditions",
            "phase",
            "reason",
            "message",
            "active",
            "failed",
            "succeeded",
            "terminating",
        ):
            assert small["status"].get(part) == thing.get("status", {}).get(part)
        assert slim(small) == small


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_is_dropped_tells_nothing(path: Path) -> None:
    recorded = json.loads(path.read_text())
    job, pods = recorded.get("job"), recorded.get("pods", [])
    full = diagnose(job, pods, events=recorded.get("events", ()))
    kept = [slim(pod) for pod in pods]
    assert diagnose(slim(job) if job else None, kept, events=recorded.get("events", ())) == full
