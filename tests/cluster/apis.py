"""A namespace for tests of the API access, and small objects in it."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from operators.kube.api import Api, connect
from operators.kube.watch import Rhythm, Watcher

Json = dict[str, Any]
QUICK = Rhythm(watch=(4.0, 6.0), relist=4.0, quiet=1.5)  # as in real life, 50 times as fast


def until(condition: Callable[[], object], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@contextmanager
def own_namespace() -> Iterator[Api]:
    """The cluster's API, as its administrator, in a namespace that is removed afterwards."""
    api = connect(None, f"abohb-api-{uuid.uuid4().hex[:8]}", rate=1000.0, burst=1000)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}}
    api.request("create", "/api/v1/namespaces", None, namespace)
    yield api
    api.request("delete", f"/api/v1/namespaces/{api.namespace}")
    api.close()


def config_map(name: str, label: str = "test=none", text: str = "") -> Json:
    key, _, value = label.partition("=")
    metadata = {"name": name, "labels": {key: value}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}}


def job(name: str, label: str = "test=none", *, suspend: bool = True) -> Json:
    """Suspended: it has no pods, so nothing needs to run."""
    key, _, value = label.partition("=")
    container = {"name": "trial", "image": "docker.io/library/python:3.11-slim", "command": ["true"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {key: value}},
        "spec": {"suspend": suspend, "backoffLimit": 0, "template": {"spec": pod}},
    }


def listed(api: Api, label: str) -> list[Json]:
    return [one for page, _ in api.pages("configmaps", label) for one in page]


@contextmanager
def watching(
    api: Api, resource: str, selector: str, rhythm: Rhythm = QUICK, **options: Any
) -> Iterator[Watcher]:
    watcher = Watcher(api, resource, selector, options.pop("changed", lambda: None), rhythm=rhythm, **options)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()


def put(api: Api, path: str, thing: Json) -> Json:
    """Change an object: the product never does."""
    ticket = api._wire._access.ticket()
    answer = ticket.pool.request("PUT", f"{ticket.host}{path}", json=thing, headers=dict(ticket.headers))
    assert answer.status == 200, answer.data
    changed: Json = answer.json()
    return changed


def kubeconfig() -> Json:
    """The one that KUBECONFIG names, with all that it refers to."""
    words = ("config", "view", "--minify", "--flatten", "--output=yaml")
    done = subprocess.run(["kubectl", *words], capture_output=True, text=True, timeout=60, check=True)
    config: Json = yaml.safe_load(done.stdout)
    return config


def from_kubeconfig(config: Json, namespace: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    path = folder / f"kubeconfig-{uuid.uuid4().hex[:4]}"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(path))
        return connect(None, namespace)
