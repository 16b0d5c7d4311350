"""The agent beside the training code: it commits what the code reports and tells it how far to go.

The same core runs beside a local process (`operators.worker`) and in a sidecar; it starts and ends nothing.
Everything goes to the store in this order: checkpoint files, manifest, report.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import Signals

from hpo_engine.types import Outcome, Report
from operators import trial_dir
from operators.attempt import (
    AttemptSpec,
    Order,
    Verdict,
    decode_order,
    encode_report,
    order_key,
    report_key,
    trial_prefix,
)
from operators.checkpoints import Checkpoints
from operators.logs import QUOTED
from operators.store import Store
from operators.trial_dir import ContractError

KEEP = 2  # checkpoints in the store besides the best: the newest, and one should that be damaged

# Faults of the training code itself: a second try would end the same way.
_CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP", "SIGPIPE"}


@dataclass
class Attempt:
    """One attempt: `prepare`; `follow` and `pump` for as long as the training code runs; `verdict`."""

    spec: AttemptSpec
    store: Store
    folder: Path  # the trial's directory
    clock: Callable[[], float] = time.monotonic
    start: int = field(default=0, init=False)  # resource of the checkpoint that it resumes from
    reached: int = field(default=0, init=False)  # resource of the last line that is committed
    order: Order = field(init=False)
    overran: bool = field(default=False, init=False)  # it wrote a line beyond `until`
    fault: str = field(default="", init=False)  # how it broke the contract; nothing is read after that
    torn: list[str] = field(default_factory=list, init=False)  # checkpoints that could not be restored
    _metrics: trial_dir.Metrics = field(init=False)
    _checkpoints: Checkpoints = field(init=False)
    _began: float = field(init=False)
    _fulfilled_at: int = field(default=-1, init=False)
    _stopped_at: int | None = field(default=None, init=False)  # what it had reached when `stop` came

    def __post_init__(self) -> None:
        self._began = self.clock()
        self.order = Order(self.spec.until)
        self._checkpoints = Checkpoints(self.store, trial_prefix(self.spec.study, self.spec.trial))

    def prepare(self) -> None:
        """Make the trial's directory: the newest whole checkpoint, config.json, order.json."""
        self.folder.mkdir(parents=True)
        if self.spec.resumable:
            self._restore()
        tail = trial_dir.Tail(self.folder / trial_dir.METRICS)
        self._metrics = trial_dir.Metrics(self.spec, tail, self.start)
        trial_dir.write_config(self.folder, self.spec, self.start)
        if not self.follow():
            trial_dir.write_order(self.folder, self.order)

    def _restore(self) -> None:
        manifest, self.torn = self._checkpoints.restore(self.folder / trial_dir.CHECKPOINT)
        if manifest is None:
            return
        self.start = self.reached = manifest.report.resource
        if self.spec.reported < self.start:  # an agent died between the manifest and its report
            self._tell(replace(manifest.report, attempt=self.spec.attempt, seconds=0.0))

    def follow(self) -> bool:
        """Hand a changed order on to the training code; whether it had changed."""
        data = self.store.get(order_key(self.spec.study, self.spec.trial))
        order = decode_order(data) if data is not None else self.order
        if order == self.order:
            return False
        self.order = order
        if not order.stop:
            self._stopped_at = None
        elif self._stopped_at is None:
            self._stopped_at = self.reached
        trial_dir.write_order(self.folder, order)
        return True

    def pump(self) -> int:
        """Commit every line that is complete; how many there were. A broken contract is kept in `fault`."""
        count = 0
        try:
            while not self.fault and not self.overran and (line := self._metrics.next()):
                self._commit(line)
                count += 1
        except ContractError as error:
            self.fault = f"{trial_dir.METRICS}, line {self._metrics.number}: {error}"
        if self.fulfilled:
            self._fulfilled_at = self.reached
        return count

    def _commit(self, line: trial_dir.Line) -> None:
        if line.resource > self.order.until:
            self.overran = True
            return
        self._save(line)
        self.reached = line.resource

    def _save(self, line: trial_dir.Line) -> None:
        saved, seconds = line.checkpoint is not None, round(self.seconds, 3)
        report = Report(self.spec.trial, self.spec.attempt, line.resource, line.metrics, saved, seconds)
        if line.checkpoint is None:
            self._tell(report)
            return
        source = self.folder / line.checkpoint
        self._checkpoints.commit(report, self.folder, source)
        self._tell(report)
        self._checkpoints.prune(KEEP, self._rank)
        _remove(source)

    def _rank(self, report: Report) -> tuple[float, float]:
        """Feasible reports by loss before others by how far off they are, as the engine has it."""
        off = 0.0
        for metric, (low, high) in self.spec.bounds.items():
            value = report.metrics.get(metric, math.inf)
            off += max(
                0.0, (value if low is None else low) - value, value - (value if high is None else high)
            )
        loss = report.metrics[self.spec.metrics[0]] * (-1 if self.spec.maximise else 1)
        return (math.inf, math.inf) if math.isnan(off + loss) else (off, loss)

    def _tell(self, report: Report) -> None:
        self.store.put(report_key(self.spec.study, report), encode_report(report))

    @property
    def seconds(self) -> float:
        return self.clock() - self._began

    @property
    def fulfilled(self) -> bool:
        """It should exit now: it is at `until`, or has made the report that `stop` waited for."""
        stopped = self._stopped_at is not None and self.reached > self._stopped_at
        return self.reached >= self.order.until or stopped or self.overran

    def verdict(self, code: int | None, ended: Outcome | None, log: str = "", message: str = "") -> Verdict:
        """How it ended, by its exit code (negative: signal; None: never ran) and why we ended it, if so."""
        outcome, said = self._judge(code, ended)
        facts = {
            "exit code": str(code) if code is not None and code >= 0 else "",
            "signal": _signal(-code) if code is not None and code < 0 else "",
            "message": message or said,
            "torn checkpoints": "; ".join(self.torn),
            "log": log if outcome is not Outcome.OK else "",
        }
        evidence = {name: text[-QUOTED:] for name, text in facts.items() if text}
        units = self._metrics.last - self.start
        return Verdict(
            self.spec.trial, self.spec.attempt, outcome, units, self.start, round(self.seconds, 3), evidence
        )

    def _judge(self, code: int | None, ended: Outcome | None) -> tuple[Outcome, str]:
        so_far = f"after {self.spec.resource} {self.reached}, ordered until {self.order.until}"
        if self.fulfilled or self.reached == self._fulfilled_at:
            return Outcome.OK, "it went on past its order and was ended" if self.overran else self.fault
        if self.fault:
            return Outcome.NO_METRIC, self.fault
        if ended is Outcome.STALLED:
            return ended, f"no line in {trial_dir.METRICS} for {self.spec.stall_after:g} s {so_far}"
        if ended is not None:
            return ended, f"ended by us {so_far}"
        if not code and self.order.stop:
            return Outcome.OK, ""
        if not code:
            wrote = "" if self.reached > self.start else f"; it wrote no line to {trial_dir.METRICS}"
            return Outcome.NO_METRIC, f"exited 0 {so_far}{wrote} (docs/trial-contract.md)"
        return _died(code), f"{f'exited {code}' if code > 0 else _signal(-code)} {so_far}"


def _died(code: int) -> Outcome:
    """Killed from outside, or failed by itself. A shell says 128 + n for a child that signal n killed."""
    if code in (128 + Signals.SIGKILL, 128 + Signals.SIGTERM):
        return Outcome.KILLED
    return Outcome.USER_ERROR if code > 0 or _signal(-code) in _CRASHES else Outcome.KILLED


def _signal(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
