"""A training command as a process group that does not outlive its agent, and the environment it sees."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TRIAL_DIR = "ABOHB_TRIAL_DIR"
SECRETS = ("PREFECT_*", "AWS_*", "MINIO_*", "*_SECRET*")  # the controller's, no business of training code
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def training_environment(
    base: Mapping[str, str], own: Mapping[str, str], trial_dir: Path, threads: int | None
) -> dict[str, str]:
    """The environment of the training code: `base` without the controller's secrets, then the study's `own`.

    `python` in it is the interpreter that runs us, unless the user has activated another environment.
    """
    kept = {name: value for name, value in base.items() if not _secret(name)}
    active = kept.get("VIRTUAL_ENV") or kept.get("CONDA_PREFIX")
    if active is None or Path(active).resolve() == Path(sys.prefix).resolve():
        kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    if threads is not None:
        kept = {**dict.fromkeys(THREADS, str(threads)), **kept}
    return {"PYTHONUNBUFFERED": "1", **kept, **_filled(own, trial_dir), TRIAL_DIR: str(trial_dir)}


def _filled(env: Mapping[str, str], trial_dir: Path) -> dict[str, str]:
    return {name: fill(value, trial_dir) for name, value in env.items()}


def fill(text: str, trial_dir: Path) -> str:
    """`$(ABOHB_TRIAL_DIR)` in an argument or variable means the trial's directory, as Kubernetes has it."""
    return text.replace(f"$({TRIAL_DIR})", str(trial_dir))


def _secret(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern) for pattern in SECRETS)


@dataclass
class Group:
    """A command in a session of its own, so that all it starts can be signalled at once.

    Its leader is not reaped before the rest has been killed: until then nobody else can get the group's id.
    """

    command: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str | None
    stdout: Path
    stderr: Path
    _process: subprocess.Popen[bytes] = field(init=False)
    _signals: threading.Lock = field(default_factory=threading.Lock, init=False)
    _reaped: bool = field(default=False, init=False)

    def start(self) -> None:
        """Run the command. OSError if it cannot be run."""
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self._process = subprocess.Popen(
                self.command,
                env=dict(self.env),
                cwd=self.workdir,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )

    def exited(self, timeout: float) -> bool:
        """Whether the leader has ended; waits for that up to `timeout` seconds."""
        if self._ended():
            return True
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # not Linux, or not all of it
            time.sleep(min(timeout, 0.05))
        else:
            select.select([descriptor], [], [], timeout)
            os.close(descriptor)
        return self._ended()

    def send(self, number: signal.Signals) -> None:
        """Signal the whole group; nothing if it is gone."""
        with self._signals:
            if not self._reaped:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)

    def end(self, grace: float) -> None:
        """SIGTERM, and SIGKILL for what is left after `grace` seconds."""
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while not self.exited(max(0.0, deadline - time.monotonic())) and time.monotonic() < deadline:
            continue
        self.send(signal.SIGKILL)

    def reap(self) -> int:
        """Kill what is left; the leader's return code as in `subprocess`: -9 for SIGKILL."""
        self.send(signal.SIGKILL)
        with self._signals:
            self._reaped = True
            return self._process.wait()

    def _ended(self) -> bool:
        with self._signals:
            if self._reaped or not hasattr(os, "waitid"):  # macOS before Python 3.13
                return self._process.poll() is not None
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does before it becomes the command: ask to be killed when its agent dies (Linux only)."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl, agent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != agent:  # it died before we asked
            os._exit(1)

    return ask


_PR_SET_PDEATHSIG = 1


def kill_leftovers(trial_dir: Path) -> None:
    """SIGKILL every process that was started for this trial directory, found by its environment (Linux).

    Catches those that left the process group, or whose agent was killed; waits for their end, up to 1 s.
    """
    deadline = time.monotonic() + 1.0
    while (left := _started_for(trial_dir)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _started_for(trial_dir: Path) -> list[int]:
    mark, found = f"{TRIAL_DIR}={trial_dir}".encode(), []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours
            if mark in entry.read_bytes().split(b"\0") and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
    return found
