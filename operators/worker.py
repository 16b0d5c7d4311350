"""The agent as a local process: it starts the training code, watches it, and does not let it outlive anyone.

`python -m operators.worker WORK_DIR LOCK_FD`, with a pipe as stdin: when it closes, the attempt is over.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from hpo_engine.types import AttemptEnded, Outcome
from operators.agent import Attempt
from operators.attempt import AttemptSpec, Verdict, decode_spec, encode_verdict, log_key
from operators.logs import KeptLog, last_lines
from operators.processes import Group, fill, kill_leftovers, training_environment
from operators.store import DirectoryStore, Store
from operators.verdict import Death, judge
from operators.watchdog import Watchdog

SPEC, OPTIONS, VERDICT, LOCK, AGENT_LOG = "spec.json", "options.json", "verdict.json", "lock", "agent.log"
TRIAL = "trial"  # the trial's directory in the work directory
AT_ONCE = 100  # lines, before we look at the order again
UNKNOWN = Death()  # it never ran


@dataclass(frozen=True, slots=True)
class Options:
    """How an agent goes about it; times in seconds."""

    store: str  # URL
    threads: int | None = None  # default of OMP_NUM_THREADS and its kin
    grace: float = 1.0  # from SIGTERM to SIGKILL
    patience: float = 5.0  # for a trial to exit by itself once it has done as ordered
    tick: float = 0.05  # metrics.jsonl is looked at so often
    poll: float = 0.2  # the order in the store is
    logs: float = 10.0  # output is copied to the store


@dataclass
class Leash:
    """Ends the group when the controller is gone or says so, also while the main thread is uploading."""

    grace: float
    pulled: threading.Event = field(default_factory=threading.Event)
    _wake: int = field(init=False)

    def __post_init__(self) -> None:
        self._wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(write, False)
        signal.signal(signal.SIGTERM, lambda *_: None)  # the wake-up descriptor is what tells us
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def _wait(self, timeout: float | None) -> bool:
        if select.select([sys.stdin.fileno(), self._wake], [], [], timeout)[0]:
            self.pulled.set()
        return self.pulled.is_set()

    def pulled_already(self) -> bool:
        return self._wait(0)

    def hold(self, group: Group) -> None:
        def watch() -> None:
            self._wait(None)
            group.end(self.grace)

        threading.Thread(target=watch, daemon=True).start()


@dataclass
class Worker:
    """One attempt with its process, from `prepare` to the verdict."""

    spec: AttemptSpec
    options: Options
    folder: Path  # the work directory
    store: Store
    attempt: Attempt = field(init=False)
    _logs: tuple[KeptLog, ...] = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        self.attempt = Attempt(spec, self.store, self.folder / TRIAL)
        self._logs = tuple(
            KeptLog(self.store, log_key(spec.study, spec.trial, spec.attempt, stream), self.folder / stream)
            for stream in ("stdout", "stderr")
        )

    def run(self, leash: Leash) -> Verdict:
        """The verdict of the attempt; on return none of its processes is left."""
        self.attempt.prepare()
        self.attempt.pump()
        if leash.pulled_already():
            return self._verdict(Outcome.INTERRUPTED)
        if self.attempt.fulfilled or self.attempt.order.stop:
            return self._verdict(message="there was nothing left to do")
        trial, (out, err) = self.attempt.folder, (log.path for log in self._logs)
        env = training_environment(os.environ, self.spec.env, trial, self.options.threads)
        command = tuple(fill(argument, trial) for argument in self.spec.command)
        group = Group(command, env, self.spec.workdir, out, err)
        try:
            group.start()
        except OSError as error:
            said = f"cannot run {self.spec.command[0]!r}: {error}"
            return self._verdict(Outcome.USER_ERROR, message=said)
        try:
            leash.hold(group)
            ended = self._watch(group, leash)
        finally:
            code = group.reap()
            kill_leftovers(trial)
        self.attempt.pump()
        self._keep_logs()
        log = last_lines(err) or last_lines(out)
        return self._verdict(ended, Death(code, evidence={"log": log}))

    def _verdict(self, ended: Outcome | None = None, death: Death = UNKNOWN, message: str = "") -> Verdict:
        return judge(self.attempt.facts(ended, message), death, self.spec.trial, self.spec.attempt)

    def _watch(self, group: Group, leash: Leash) -> Outcome | None:
        """Until the leader has ended; why we ended it, None if it did so by itself."""
        polled = logged = time.monotonic()
        dog = Watchdog(self.attempt, self.options.patience)
        while not group.exited(self.options.tick):
            now = time.monotonic()
            if now - polled >= self.options.poll:
                polled = now
                self.attempt.follow()
            if self.attempt.pump(AT_ONCE):
                dog.heard()  # after it: the time that a commit takes is not the trial's
            if now - logged >= self.options.logs:
                logged = now
                self._keep_logs()
            ended = dog.over()
            if ended is not None and not leash.pulled.is_set():
                group.end(self.options.grace)
                return ended
        return Outcome.INTERRUPTED if leash.pulled.is_set() else None

    def _keep_logs(self) -> None:
        for log in self._logs:
            log.keep()


def open_store(url: str) -> Store:
    from urllib.parse import unquote  # here, not above: an agent starts faster without it

    return DirectoryStore(Path(unquote(url.removeprefix("file://"))))


def write_verdict(folder: Path, verdict: Verdict) -> None:
    temporary = folder / f".{VERDICT}.new"
    temporary.write_bytes(encode_verdict(verdict))
    os.replace(temporary, folder / VERDICT)


def main(argv: list[str]) -> None:
    folder, lock = Path(argv[0]), int(argv[1])
    options = Options(**json.loads((folder / OPTIONS).read_bytes()))
    leash = Leash(options.grace)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)  # only now: whoever reads it may signal us
    spec = decode_spec((folder / SPEC).read_bytes())
    try:
        verdict = Worker(spec, options, folder, open_store(options.store)).run(leash)
    except Exception as error:
        import traceback

        traceback.print_exc()
        evidence = {"message": f"the agent failed: {error!r}", "log": traceback.format_exc()[-2000:]}
        verdict = AttemptEnded(spec.trial, spec.attempt, Outcome.LOST, evidence=evidence)
    write_verdict(folder, verdict)


if __name__ == "__main__":
    main(sys.argv[1:])
