"""A pod on this machine: real agents, a real trial, and of the kubelet what they can see of it."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from hpo_engine.types import AttemptEnded, Report
from operators import sts
from operators.attempt import AttemptSpec, decode_report, encode_spec, inbox_prefix
from operators.s3 import S3Store
from operators.store import DirectoryStore, Store
from operators.verdict import Death, Facts, decode_facts, judge

MakePod: TypeAlias = "Callable[..., Pod]"

ROOT = Path(__file__).parents[2]
PERIOD, FAILURES = 0.2, 3  # of the liveness probe; a real one asks every 2 s


@dataclass
class Pod:
    """`start` it, and `wait` for its end; `delete` ends it as a drain does."""

    folder: Path  # its volumes
    spec: AttemptSpec
    store: str  # URL
    env: Mapping[str, str] = field(default_factory=dict)  # of the agent: keys, and where the store is
    uid: str = "pod-1"
    patience: float = 0.4
    pull: float = 0.0  # seconds that it takes to pull the image of the training code
    grace: float = 10.0  # seconds from SIGTERM to SIGKILL, of the agent
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)  # one after another
    trial: subprocess.Popen[bytes] | None = field(default=None, init=False)
    prepared: int | None = field(default=None, init=False)  # exit code
    port: int = field(init=False)
    _kubelet: threading.Thread = field(init=False)
    _deleted: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for volume in ("abohb", "own"):
            (self.folder / volume).mkdir(parents=True)
        self._kubelet = threading.Thread(target=self._live, daemon=True)

    def start(self) -> Pod:
        self._kubelet.start()
        return self

    def delete(self) -> None:
        self._deleted.set()

    def wait(self, seconds: float = 60.0) -> Pod:
        self._kubelet.join(seconds)
        assert not self._kubelet.is_alive(), f"the pod has not ended within {seconds} s: {self.log}"
        return self

    @property
    def facts(self) -> Facts | None:
        """By the termination messages, the newest first."""
        paths = [*sorted(self.folder.glob("follow-*"), reverse=True), self.folder / "prepare-000.message"]
        found = (decode_facts(path.read_bytes()) for path in paths if path.exists())
        return next((facts for facts in found if facts is not None), None)

    @property
    def verdict(self) -> AttemptEnded:
        code = self.trial.returncode if self.trial else None
        return judge(self.facts, Death(code), self.spec.trial, self.spec.attempt)

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def kill_agent(self) -> None:
        """SIGKILL; the kubelet starts another."""
        self.agents[-1].kill()

    def _live(self) -> None:
        try:
            self._phases()
        finally:
            for process in (*self.agents, self.trial):
                if process is not None and process.poll() is None:
                    process.kill()

    def _phases(self) -> None:
        prepare = self._agent("prepare")
        self._start_agent()
        while prepare.poll() is None:
            if self._deleted.wait(0.02):
                prepare.terminate()
        self.prepared = prepare.returncode
        if self.prepared == 0 and not self._deleted.wait(self.pull):
            self._run_trial()
        self.agents[-1].terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.agents[-1].wait(self.grace)

    def _run_trial(self) -> None:
        env = {**os.environ, **self.spec.env, "ABOHB_TRIAL_DIR": str(self.folder / "abohb/trial")}
        with (self.folder / "trial.log").open("ab") as log:
            command = [str(self.folder / "abohb/init"), *self.spec.command]
            trial = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        self.trial, failures = trial, 0
        while trial.poll() is None:
            failures = failures + 1 if self._probe() == 500 else 0
            if failures >= FAILURES or self._deleted.is_set():
                _end(trial, 1.0)
            if self.agents[-1].poll() is not None:
                self._start_agent()
            time.sleep(0.02 if failures == 0 else PERIOD)

    def _probe(self) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/trial")
            return connection.getresponse().status
        except OSError:
            return None  # a restart is shorter than a few periods of a real probe
        finally:
            connection.close()

    def _start_agent(self) -> None:
        self.agents.append(self._agent("follow"))

    def _agent(self, part: str) -> subprocess.Popen[bytes]:
        message = self.folder / f"{part}-{len(self.agents):03d}.message"
        message.touch()
        env = {
            "PATH": os.environ["PATH"],
            **self.env,
            "ABOHB_ATTEMPT": encode_spec(self.spec).decode(),
            "ABOHB_STORE": self.store,
            "ABOHB_POD_UID": self.uid,
            "ABOHB_PATIENCE": str(self.patience),
            "ABOHB_DIR": str(self.folder / "abohb"),
            "ABOHB_AGENT_DIR": str(self.folder / "own"),
            "ABOHB_MESSAGE": str(message),
            "ABOHB_PORT": str(self.port),
            "ABOHB_INIT": shutil.which("env") or "",
        }
        command = [sys.executable, "-m", "operators.sidecar", part]
        with (self.folder / f"{part}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pods_on(store: Store, folder: Path) -> Iterator[MakePod]:
    """A function that makes pods and starts them. Their agents have the keys of their trial, no others."""
    made: list[Pod] = []

    def make(attempt: AttemptSpec, uid: str = "pod-1", **options: float) -> Pod:
        url, env = _access(store, attempt)
        made.append(Pod(folder / f"pod-{len(made)}", attempt, url, env, uid, **options))
        return made[-1].start()

    yield make
    for each in made:
        each.delete()
        each.wait()


def _access(store: Store, attempt: AttemptSpec) -> tuple[str, dict[str, str]]:
    if isinstance(store, DirectoryStore):
        return f"file://{store.root}", {}
    assert isinstance(store, S3Store)
    scope = sts.policy(store.bucket, store.prefix, attempt.study, attempt.trial)
    keys = sts.assume(store, scope, name="pod")
    env = {
        "ABOHB_S3_ENDPOINT": store.place.endpoint,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
    }
    return f"s3://{store.bucket}/{store.prefix}", env


def reports(store: Store) -> list[Report]:
    """The inbox, in the order of its keys."""
    return [decode_report(store.get(key) or b"") for key in store.list(inbox_prefix("s"))]


def reached(store: Store) -> list[int]:
    return [report.resource for report in reports(store)]
