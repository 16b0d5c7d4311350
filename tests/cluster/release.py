"""The chart, installed in a namespace of its own, and its Prefect."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cluster.kit import ROOT, Cluster, Json, until
from tests.cluster.sleeper import form

CHART = ROOT / "helm/abohb"
NAME = "abohb"
ASK = """\
import base64, os, sys, urllib.request as web
headers, body = {"Content-Type": "application/json"}, sys.stdin.buffer.read() or None
if user := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
    headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
request = web.Request("http://localhost:4200/api/" + sys.argv[1], body, headers)
print(web.urlopen(request).read().decode())
"""  # in the server's own pod
PARTS = ("minio", "prefect", "controller")


def helm(*arguments: str, within: float = 300.0) -> str:
    """Its output; AssertionError with what it said if it fails."""
    done = subprocess.run(["helm", *arguments], capture_output=True, text=True, timeout=within)
    assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def images_under_test() -> list[str]:
    """The values that name the images under test."""
    values = [
        f"image.registry={os.environ['ABOHB_TEST_REGISTRY']}",
        f"image.tag={os.environ['ABOHB_TEST_TAG']}",
    ]
    minio = os.environ.get("ABOHB_TEST_MINIO_IMAGE")
    return [*values, *([f"minio.image={minio}"] if minio else [])]


@dataclass(frozen=True, slots=True)
class Release:
    """One of the chart, by the name `abohb`."""

    cluster: Cluster

    def install(self, *settings: str) -> None:
        self._do("install", settings)

    def upgrade(self, *settings: str) -> None:
        """As installed, but for these: `policy.max_gpus=2`."""
        self._do("upgrade", settings)

    def _do(self, verb: str, settings: tuple[str, ...]) -> None:
        small = ("prefect.storage.size=1Gi", "minio.storage.size=1Gi")
        options = [f"--set={one}" for one in (*images_under_test(), *small, *settings)]
        self.helm(verb, NAME, str(CHART), *options)

    def helm(self, *arguments: str) -> str:
        return helm(*arguments, "--namespace", self.cluster.namespace)

    def revision(self) -> int:
        """Of the release, as `helm rollback` counts."""
        return int(json.loads(self.helm("status", NAME, "--output=json"))["version"])

    def ready(self, *parts: str, within: float = 300.0) -> float:
        """Seconds until all of them are, or that is an error."""
        began = time.monotonic()
        for part in parts or PARTS:
            left = max(1.0, within - (time.monotonic() - began))
            name = f"deployment/{NAME}-{part}"
            self.cluster.kubectl("rollout", "status", name, f"--timeout={left:.0f}s", within=left + 10)
        return time.monotonic() - began

    def secret(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.cluster.get("secret", f"{NAME}-{name}")["data"]
        return found

    def policy(self) -> Json:
        """As the controller reads it."""
        found: Json = yaml.safe_load(self.cluster.get("configmap", f"{NAME}.policy")["data"]["policy.yaml"])
        return found

    def pods(self, part: str) -> list[str]:
        """Their names, of those that are not on their way out."""
        found = self.cluster.list(
            "pods", f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={part}"
        )
        return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]

    def addresses(self, part: str) -> list[str]:
        """Of the pods that its Service leads to."""
        slices = self.cluster.list("endpointslices", f"kubernetes.io/service-name={NAME}-{part}")
        return [address for one in slices for end in one["endpoints"] or () for address in end["addresses"]]

    def prefect(self, path: str, body: Json | None = None) -> Any:
        """GET, or POST of a body."""
        text = json.dumps(body) if body is not None else ""
        call = ("exec", "--stdin", f"deployment/{NAME}-prefect", "--", "python", "-c", ASK, path)
        return json.loads(self.cluster.kubectl(*call, stdin=text))

    def begin(self, study: str, **more: object) -> str:
        """The id of a new run of `tune`: trials of a second an epoch, two at a time."""
        (tune,) = (one for one in self.prefect("deployments/filter", {}) if one["name"] == "tune")
        advanced = {"env": {"PACE": 2.0}, "kubernetes": {"grace": 5}}
        fields = {**form(study, advanced, trials=4), **more}
        asked = {"parameters": fields, "state": {"type": "SCHEDULED"}}
        made = self.prefect(f"deployments/{tune['id']}/create_flow_run", asked)
        return str(made["id"])

    def wait(self, run: str, state: str, within: float) -> None:
        """Until it is in that state, COMPLETED or the like."""
        what: Json = {}

        def reached() -> bool:
            what.update(self.prefect(f"flow_runs/{run}")["state"])
            ended = what["type"] in ("COMPLETED", "FAILED", "CANCELLED")
            assert not ended or what["type"] == state, what
            return ended

        try:
            until(f"the run is {state}", reached, within, every=1.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {what}") from None

    def legs(self, run: str) -> list[Json]:
        """The task runs of a study."""
        asked = {"task_runs": {"flow_run_id": {"any_": [run]}}}
        return list(self.prefect("task_runs/filter", asked))

    def jobs(self) -> dict[str, str]:
        """Of trials: names, by their uid."""
        found = self.cluster.list("jobs")
        return {one["metadata"]["uid"]: one["metadata"]["name"] for one in found}


@contextmanager
def own_release() -> Iterator[Release]:
    """Not installed yet, in a namespace that lets only `restricted` pods in; all of it goes at the end."""
    cluster = Cluster(f"abohb-chart-{uuid.uuid4().hex[:8]}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace, "labels": labels}}
    )
    release = Release(cluster)
    try:
        yield release
    finally:
        with suppress(AssertionError):  # for the one who reads why a test has failed
            print(cluster.kubectl("get", "pods", "--output=wide"))
            print(cluster.kubectl("logs", f"deployment/{NAME}-controller", "--tail=40"))
        if f'"name":"{NAME}"' in release.helm("list", "--all", "--output=json"):
            release.helm("uninstall", NAME, "--wait")
        cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")
