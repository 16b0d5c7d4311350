"""A pod on this machine: real agents, a real trial, and of the kubelet what they can see of it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo_engine.types import AttemptEnded
from operators.attempt import AttemptSpec, encode_spec
from operators.verdict import Death, Facts, decode_facts, judge

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
    _port: int = field(init=False)
    _kubelet: threading.Thread = field(init=False)
    _deleted: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
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
        """By the termination messages."""
        return self._message("follow") or self._message("prepare")

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

    def _message(self, part: str) -> Facts | None:
        path = self.folder / f"{part}.message"
        return decode_facts(path.read_bytes()) if path.exists() else None

    def _live(self) -> None:
        try:
            self._phases()
        finally:
            for process in (*self.agents, self.trial):
                if process is not None and process.poll() is None:
                    process.kill()

    def _phases(self) -> None:
        self._start_agent()
        prepare = self._agent("prepare")
        while prepare.poll() is None:
            if self._deleted.wait(0.02):
                prepare.terminate()
        self.prepared = prepare.returncode
        if self.prepared == 0 and not self._deleted.wait(self.pull):
            self._run_trial()
        self.agents[-1].terminate()
        self.agents[-1].wait(self.grace)

    def _run_trial(self) -> None:
        env = {**os.environ, **self.spec.env, "ABOHB_TRIAL_DIR": str(self.folder / "abohb/trial")}
        with (self.folder / "trial.log").open("ab") as log:
            trial = subprocess.Popen(self.spec.command, env=env, stdout=log, stderr=log)
        self.trial, failures = trial, 0
        while trial.poll() is None:
            failures = failures + 1 if self._probe() == 500 else 0
            if failures >= FAILURES or self._deleted.is_set():
                _end(trial, 1.0)
            if self.agents[-1].poll() is not None:
                self._start_agent()
            time.sleep(0.02 if failures == 0 else PERIOD)

    def _probe(self) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
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
        (self.folder / f"{part}.message").write_bytes(b"")
        env = {
            "PATH": os.environ["PATH"],
            **self.env,
            "ABOHB_ATTEMPT": encode_spec(self.spec).decode(),
            "ABOHB_STORE": self.store,
            "ABOHB_POD_UID": self.uid,
            "ABOHB_PATIENCE": str(self.patience),
            "ABOHB_DIR": str(self.folder / "abohb"),
            "ABOHB_AGENT_DIR": str(self.folder / "own"),
            "ABOHB_MESSAGE": str(self.folder / f"{part}.message"),
            "ABOHB_PORT": str(self._port),
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
