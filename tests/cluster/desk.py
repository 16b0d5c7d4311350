"""Studies of one test, and `abohb` as a process that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.study.file import load_study
from flows.study.model import Study
from hpo_engine.types import Event
from tests.cluster.kit import ROOT, Cluster, Json, ObjectStore, image
from tests.flows.invariants import check_journal

EXAMPLES = ROOT / "examples/kubernetes"


@dataclass(frozen=True, slots=True)
class Abohb:
    """One running `abohb`, its output in a file."""

    process: subprocess.Popen[bytes]
    output: Path

    def wait(self, within: float) -> int:
        """Its exit code; what it printed is shown when it does not end in time."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not within {within:g} s:\n{self.text()[-4000:]}") from None

    def kill(self) -> None:
        """SIGKILL, as a node that dies."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def result(self) -> Json:
        """What `--json` printed at its end, whatever was said before on stderr."""
        text = "\n" + self.text()
        found: Json = json.loads(text[text.rindex("\n{") :])
        return found


@dataclass(frozen=True, slots=True)
class Desk:
    """Where studies of one test are written and `abohb` is run from."""

    folder: Path
    cluster: Cluster
    minio: ObjectStore
    bucket: str
    environment: Mapping[str, str]
    started: list[Abohb]

    def study(self, example: str, changes: Mapping[str, Any] | None = None) -> tuple[Path, Study]:
        """examples/kubernetes/<example>.yaml with our images and store; `changes` are merged in, deeply."""
        data = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())
        ours = {
            "image": image(f"trial-{example}"),
            "store": f"s3://{self.bucket}/studies",
            "kubernetes": {"agent_image": image("agent"), "store_endpoint": self.minio.inside},
        }
        data = merged(merged(data, ours), changes or {})
        path = self.folder / f"{data['name']}.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return path, load_study(path)

    def abohb(self, *arguments: str | Path) -> Abohb:
        """Begin `abohb ...` as a process; it is ended with the test."""
        output = self.folder / f"abohb-{len(self.started)}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli.main", *map(str, arguments)],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.started.append(Abohb(process, output))
        return self.started[-1]

    def tune(self, path: Path, *options: str) -> Abohb:
        return self.abohb("tune", path, "--on", "kubernetes", *options)

    def events(self, study: Study) -> list[Event]:
        """Its journal, of which all invariants hold."""
        return check_journal(study, self.minio.open(study))

    def close(self) -> None:
        """End the controllers that a test left running, as one that fails does, and remove their trials."""
        running = [one for one in self.started if one.process.poll() is None]
        for one in running:
            one.kill()
        if running:
            self.cluster.remove_left()


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`other` over `one`; mappings are merged, None removes."""
    both = dict(one)
    for name, value in other.items():
        deep = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = merged(both[name], value) if deep else value
    return {name: value for name, value in both.items() if value is not None}
