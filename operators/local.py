"""Trials as processes of this machine: the backend whose "Job object" is a work directory.

`<work>/<trial>-<attempt>/` appears at once with all it needs, its lock already held; the agent holds that
lock for its life and writes the verdict last. So whoever looks can tell, also after a crash of anyone:
lock held: it runs; free, with a verdict: it ended so; free without one: it is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hpo_engine.types import AttemptEnded, Outcome
from operators.attempt import AttemptSpec, Observed, Verdict, decode_spec, decode_verdict, encode_spec
from operators.logs import last_lines
from operators.processes import kill_leftovers
from operators.worker import AGENT_LOG, LOCK, OPTIONS, SPEC, TRIAL, VERDICT, Options

_HIDDEN = "."  # work directories that are being made or removed


@dataclass
class LocalBackend:
    """Runs each attempt under an agent process of its own. `work` must be on a local disk."""

    work: Path
    store: str  # URL that the agents open: file:///...
    threads: int | None = None  # default of OMP_NUM_THREADS and its kin in the training code
    grace: float = 1.0  # seconds from SIGTERM to SIGKILL when an attempt is told to end
    patience: float = 5.0  # seconds a trial may take to exit by itself once it has done as ordered
    _agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)
    _specs: dict[str, AttemptSpec] = field(default_factory=dict, init=False)
    _ended: dict[str, Observed] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.work = self.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        for left in self.work.glob(f"{_HIDDEN}*"):  # by one who died while making or removing it
            if not _held(left / LOCK):
                shutil.rmtree(left, ignore_errors=True)

    def observe(self) -> dict[tuple[int, int], Observed]:
        """(trial, attempt) -> what exists now."""
        for agent in self._agents.values():
            agent.poll()
        names = (name for name in sorted(os.listdir(self.work)) if not name.startswith(_HIDDEN))
        specs = {name: spec for name in names if (spec := self._spec(name)) is not None}
        return {(spec.trial, spec.attempt): self._look(name, spec) for name, spec in specs.items()}

    def launch(self, spec: AttemptSpec) -> None:
        """Idempotent by name: if it exists already, in whatever state, nothing happens."""
        name = _name(spec.trial, spec.attempt)
        if (self.work / name).exists():
            return
        with self._made(spec, name) as lock:
            if lock is not None:
                self._agents[name] = self._start(self.work / name, lock)

    @contextlib.contextmanager
    def _made(self, spec: AttemptSpec, name: str) -> Iterator[int | None]:
        """The descriptor of the lock of a new, complete work directory; None if the name is taken."""
        options = Options(self.store, self.threads, self.grace, self.patience)
        hidden = self.work / f"{_HIDDEN}{name}-{secrets.token_hex(4)}"
        hidden.mkdir(mode=0o700)
        lock = os.open(hidden / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write(hidden / SPEC, encode_spec(spec))
            _write(hidden / OPTIONS, json.dumps(asdict(options)).encode())
            try:
                hidden.rename(self.work / name)
            except OSError:  # not empty: another controller was faster
                shutil.rmtree(hidden, ignore_errors=True)
                yield None
            else:
                yield lock
        finally:
            os.close(lock)

    def _start(self, folder: Path, lock: int) -> subprocess.Popen[bytes]:
        with (folder / AGENT_LOG).open("ab") as log:
            return subprocess.Popen(
                # Isolated and without site-packages: it needs the standard library and us, and starts faster.
                [sys.executable, "-I", "-S", "-c", _BOOT, str(folder), str(lock)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C in the terminal is for the controller
            )

    def end(self, trial: int, attempt: int) -> None:
        """Ask it to end now; it will leave a verdict. Gone already: nothing."""
        name = _name(trial, attempt)
        if (agent := self._agents.get(name)) is not None:
            if agent.stdin is not None:
                agent.stdin.close()
            return
        lock = self.work / name / LOCK
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(lock.read_text())
            if _held(lock):
                os.kill(pid, signal.SIGTERM)

    def forget(self, trial: int, attempt: int) -> None:
        """Its end is journalled: remove the work directory."""
        name = _name(trial, attempt)
        if (agent := self._agents.pop(name, None)) is not None and agent.stdin is not None:
            agent.stdin.close()
        self._specs.pop(name, None)
        self._ended.pop(name, None)
        hidden = self.work / f"{_HIDDEN}{name}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            (self.work / name).rename(hidden)  # first out of sight, so that a half-removed one is never seen
            shutil.rmtree(hidden, ignore_errors=True)

    def notes(self) -> tuple[str, ...]:
        return ()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def abandon(self) -> None: ...

    def close(self, grace: float) -> None:
        """End all that runs, wait up to `grace` seconds, kill what is left."""
        for key, seen in self.observe().items():
            if seen.running:
                self.end(*key)
        deadline = time.monotonic() + grace
        while any(seen.running for seen in self.observe().values()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for name, agent in self._agents.items():
            if agent.poll() is None:
                agent.kill()
                agent.wait()
                kill_leftovers(self.work / name / TRIAL)

    def _spec(self, name: str) -> AttemptSpec | None:
        if name not in self._specs:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._specs[name] = decode_spec((self.work / name / SPEC).read_bytes())
        return self._specs.get(name)

    def _look(self, name: str, spec: AttemptSpec) -> Observed:
        if name not in self._ended:
            if _held(self.work / name / LOCK):
                return Observed(running=True)
            self._ended[name] = Observed(running=False, verdict=self._verdict(name, spec))
        return self._ended[name]

    def _verdict(self, name: str, spec: AttemptSpec) -> Verdict:
        folder = self.work / name
        with contextlib.suppress(FileNotFoundError, ValueError):  # the machine may have lost power
            return decode_verdict((folder / VERDICT).read_bytes())
        kill_leftovers(folder / TRIAL)
        facts = {"message": "its agent left no verdict", "log": last_lines(folder / AGENT_LOG)}
        evidence = {key: text for key, text in facts.items() if text}
        return AttemptEnded(spec.trial, spec.attempt, Outcome.LOST, evidence=evidence)


_BOOT = (
    f"import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}]; "
    "from operators.worker import main; main(sys.argv[1:])"
)


def _name(trial: int, attempt: int) -> str:
    return f"{trial}-{attempt}"


def _write(path: Path, data: bytes) -> None:
    """On the disk when it returns, so that no directory is ever found with an empty file in it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _held(lock: Path) -> bool:
    """Whether someone holds it. We ask for a shared one, so that two who ask do not see each other."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
