"""The agent beside the training code: it commits what the code reports and tells it how far to go.

The same core runs beside a local process (`operators.worker`) and in a pod (`operators.sidecar`); it starts
and ends nothing. Everything goes to the store in this order: checkpoint files, manifest, report.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from hpo_engine.types import Outcome, Report
from operators import trial_dir
from operators.attempt import (
    AttemptSpec,
    Order,
    decode_order,
    encode_report,
    order_key,
    rank,
    report_key,
    trial_prefix,
)
from operators.checkpoints import Checkpoints, files_of
from operators.progress import Progress, read_progress, write_progress
from operators.store import Store
from operators.trial_dir import ContractError
from operators.verdict import Facts

KEEP = 2  # checkpoints in the store besides the best: the newest, and one should that be damaged


@dataclass
class Attempt:
    """One attempt: `prepare`; `follow` and `pump` for as long as the training code runs; `facts`.

    OSError: the store is away. Call again: nothing is lost, and nothing is told twice in two ways.
    """

    spec: AttemptSpec
    store: Store
    folder: Path  # the trial's directory
    clock: Callable[[], float] = time.monotonic
    memory: Path | None = None  # a file by which an agent that was killed is followed by another, `take_up`
    overran: bool = field(default=False, init=False)  # it wrote a line beyond `until`
    fault: str = field(default="", init=False)  # how it broke the contract; nothing is read after that
    fenced: int = field(default=0, init=False)  # the later attempt that has taken over; nothing is written
    _progress: Progress = field(init=False)
    _metrics: trial_dir.Metrics = field(init=False)
    _checkpoints: Checkpoints = field(init=False)
    _line: trial_dir.Line | None = field(default=None, init=False)  # read, and not committed yet
    _taken_up: bool = field(default=False, init=False)  # that line may have been committed, by another agent

    def __post_init__(self) -> None:
        self._progress = Progress(self.clock(), Order(self.spec.until))
        self._checkpoints = Checkpoints(self.store, trial_prefix(self.spec.study, self.spec.trial))
        self._open()

    def _open(self) -> None:
        tail = trial_dir.Tail(self.folder / trial_dir.METRICS)
        self._metrics = trial_dir.Metrics(self.spec, tail, self.start)

    @property
    def start(self) -> int:
        """Resource of the checkpoint that it resumes from."""
        return self._progress.start

    @property
    def reached(self) -> int:
        """Resource of the last line that is committed."""
        return self._progress.start + self._progress.lines

    @property
    def order(self) -> Order:
        return self._progress.order

    def prepare(self) -> None:
        """Make the trial's directory: the newest whole checkpoint, config.json, order.json."""
        self.folder.mkdir(parents=True)
        if self.spec.resumable:
            self._restore()
        self._open()
        trial_dir.write_config(self.folder, self.spec, self.start)
        if not self.follow():
            trial_dir.write_order(self.folder, self.order)

    def _restore(self) -> None:
        manifest, self._progress.torn = self._checkpoints.restore(self.folder / trial_dir.CHECKPOINT)
        if manifest is None:
            return
        self._progress.start = manifest.report.resource
        if self.spec.reported < self.start:  # an agent died between the manifest and its report
            self._tell(replace(manifest.report, attempt=self.spec.attempt, seconds=0.0))

    def take_up(self) -> None:
        """Go on where the agent was that wrote `memory`."""
        assert self.memory is not None
        self._progress = read_progress(self.memory)
        self._taken_up = self._progress.seconds is not None
        self._open()
        try:
            self._metrics.skip(self._progress.lines)
        except ContractError as error:
            self.fault = f"{trial_dir.METRICS}: {error}"

    def remember(self) -> None:
        """From here on another agent can take it up."""
        if self.memory is not None:
            write_progress(self.memory, self._progress)

    def follow(self) -> bool:
        """Hand a changed order on to the training code; whether it had changed."""
        order = self._ordered()
        if order == self.order or self.fenced:
            return False
        self._progress.order = order
        if not order.stop:
            self._progress.stopped_at = None
        elif self._progress.stopped_at is None:
            self._progress.stopped_at = self.reached
        trial_dir.write_order(self.folder, order)
        return True

    def _ordered(self) -> Order:
        """As it stands in the store: a later attempt's fences this one."""
        data = self.store.get(order_key(self.spec.study, self.spec.trial))
        order = decode_order(data) if data is not None else self.order
        if order.attempt > self.spec.attempt:
            self.fenced = order.attempt
        return order

    def pump(self, most: float = math.inf) -> int:
        """Commit lines that are complete, all or so many of them; how many it did.

        A broken contract is kept in `fault`.
        """
        count = 0
        try:
            while count < most and not (self.fault or self.overran or self.fenced):
                if (line := self._next()) is None:
                    break
                self._commit(line)
                count += 1
        except ContractError as error:
            self.fault = f"{trial_dir.METRICS}, line {self._metrics.number}: {error}"
        return count

    def _next(self) -> trial_dir.Line | None:
        if self._line is None:
            self._line = self._metrics.next()
        return self._line

    def _commit(self, line: trial_dir.Line) -> None:
        if line.resource > self.order.until:
            self.overran = True
            return
        if self._progress.seconds is None:
            self._progress.seconds = round(self.seconds, 3)
            self.remember()
        self._save(line, self._progress.seconds)
        if self.fenced:  # it is not told
            return
        self._line, self._taken_up = None, False
        self._progress.lines += 1
        self._progress.seconds = None
        if self.fulfilled:
            self._progress.fulfilled_at = self.reached
        self.remember()

    def _save(self, line: trial_dir.Line, seconds: float) -> None:
        saved = line.checkpoint is not None
        report = Report(self.spec.trial, self.spec.attempt, line.resource, line.metrics, saved, seconds)
        if line.checkpoint is None:
            self._tell(report)
            return
        source = self.folder / line.checkpoint
        # From 0 again: what was measured here before counts, and so does the checkpoint it was measured with.
        again = not self.spec.resumable and line.resource <= self.spec.reported
        if again:
            files_of(self.folder, source)
        elif not self._committed(report):
            self._checkpoints.commit(report, self.folder, source)
            self._ordered()
        if self.fenced:  # it took so long that another attempt has begun, whose files are not ours to prune
            return
        self._tell(report)
        if not again:
            self._checkpoints.prune(KEEP, partial(rank, self.spec))
        _remove(source)

    def _committed(self, report: Report) -> bool:
        """Whether the agent that we took up from did it: its files may be gone, all or some of them."""
        newest = self._checkpoints.newest() if self._taken_up else None
        done = newest and (newest.report.attempt, newest.report.resource)
        return done == (report.attempt, report.resource)

    def _tell(self, report: Report) -> None:
        self.store.put(report_key(self.spec.study, report), encode_report(report))

    @property
    def seconds(self) -> float:
        return self.clock() - self._progress.began

    @property
    def fulfilled(self) -> bool:
        """It should exit now: it is at `until`, or has made the report that `stop` waited for."""
        stopped_at = self._progress.stopped_at
        stopped = stopped_at is not None and self.reached > stopped_at
        return self.reached >= self.order.until or stopped or self.overran

    def facts(self, ended: Outcome | None = None, message: str = "", saved: bool = True) -> Facts:
        """What is known of it now. `ended`: why we have ended it, if so."""
        done = self.fulfilled or self.reached == self._progress.fulfilled_at
        return Facts(
            self.spec.trial,
            self.spec.attempt,
            resource=self.spec.resource,
            start=self.start,
            reached=self.reached,
            units=self._metrics.last - self.start,
            until=self.order.until,
            stop=self.order.stop,
            fulfilled=done,
            overran=self.overran,
            fault=self.fault,
            ended=ended,
            stall_after=self.spec.stall_after,
            message=message or (f"attempt {self.fenced} has taken over" if self.fenced else ""),
            torn="; ".join(self._progress.torn),
            saved=saved,
            seconds=round(self.seconds, 3),
        )


def _remove(path: Path) -> None:
    """Make room. What cannot be removed, as another user wrote it, is in nobody's way."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
