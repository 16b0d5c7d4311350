"""The chart as helm renders it, for the tests."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/abohb"
VALUES = ("values.yaml", "values-production.yaml")
EVERYTHING = str(Path(__file__).parent / "everything.yaml")
WORK_POOL = ('controller.mode="workPool"', "admission.enabled=true")
VERSION = "--kube-version=1.35.0"  # some builds of helm know none of their own

Json: TypeAlias = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, timeout=60)


def refusal(*settings: str) -> str:
    """What helm says to values that may not be."""
    done = helm("template", "abohb", str(CHART), VERSION, *(f"--set-json={one}" for one in settings))
    assert done.returncode != 0, settings
    return done.stderr


def chosen(selector: Json, labels: Json) -> bool:
    """A pod with these labels, by a selector as NetworkPolicies have it."""
    verdicts = {
        "In": lambda one: labels.get(one["key"]) in one["values"],
        "NotIn": lambda one: labels.get(one["key"]) not in one["values"],
    }
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        verdicts[one["operator"]](one) for one in selector.get("matchExpressions", ())
    )


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects that an install would make."""

    objects: list[Json]

    def of(self, kind: str) -> dict[str, Json]:
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, Json]]:
        """(where it stands, pod template), that of the worker's Jobs included."""
        for name, one in self.of("Deployment").items():
            yield name, one["spec"]["template"]
        for one in self.of("ConfigMap").values():
            if "job.yaml" in (one["data"] or {}):
                yield "job.yaml", yaml.safe_load(one["data"]["job.yaml"])["spec"]["template"]

    def pod(self, name: str) -> Json:
        found: Json = dict(self.pods())[name]["spec"]
        return found

    def env(self, name: str) -> Json:
        """Of the one container of a Deployment: values, or where they are from."""
        (container,) = self.pod(name)["containers"]
        names = [one["name"] for one in container["env"]]
        assert len(names) == len(set(names)), names
        return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}

    def study(self) -> Json:
        """The Job of a study's pod, less what stands in it for Prefect alone."""
        found: Json = yaml.safe_load(self.of("ConfigMap")["abohb.policy"]["data"]["job.yaml"])
        for name in ("completions", "parallelism"):
            del found["spec"]["template"]["spec"][name]
        return found

    def policy(self) -> Json:
        found: Json = yaml.safe_load(self.of("ConfigMap")["abohb.policy"]["data"]["policy.yaml"])
        return found


def render(*settings: str, values: str = "values.yaml", namespace: str = "tuning") -> Rendered:
    """`settings` as helm's --set-json takes them: `prefect.replicas=2`."""
    options = (f"--values={CHART / values}", *(f"--set-json={one}" for one in settings))
    done = helm("template", "abohb", str(CHART), f"--namespace={namespace}", VERSION, *options)
    assert done.returncode == 0, done.stderr
    return Rendered([one for one in yaml.safe_load_all(done.stdout) if one])


def values(name: str = "values.yaml") -> Json:
    found: Json = yaml.safe_load((CHART / name).read_text())
    return found


def schema() -> Json:
    found: Json = json.loads((CHART / "values.schema.json").read_text())
    return found


def rights(heading: str) -> set[tuple[str, str]]:
    """(resource, verb) of the table below a heading of docs/security.md."""
    page = (ROOT / "docs/security.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)` \| ([a-z, ]+) \|", section, flags=re.M)
    return {(resource, verb) for resource, verbs in rows for verb in verbs.split(", ")}
