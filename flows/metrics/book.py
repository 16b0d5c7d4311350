"""Metrics for Prometheus: each study's process leaves its numbers in a file, one process serves them all.

The library's own way of many processes keeps a file for each process that ever was, and adds them up: a study
that is picked up again would count twice, and one that has ended would stay for ever.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from flows.metrics.file import Snapshot, birth, file_of, read, snapshots, write
from flows.metrics.table import API, FAMILIES, UP, Family, Labels, Timings, api_calls, samples, timings
from flows.views.effort import BOUNDS, Timing
from flows.views.view import Leg, StudyView

FOLDER = "ABOHB_METRICS_DIR"  # the variable that names the folder of the files
EVERY = 2.0  # seconds between two writings
LINGER = (
    600.0  # seconds for which the last numbers of a study that was closed are served: a scrape may be late
)
DOWN = 86400.0  # seconds for which a study whose process died is called down
KEPT = 100  # studies whose counters are served: some 100 series each
STUDIES = "abohb_studies"


def prepare() -> Path:
    """Make the folder and name it to the processes that are started from here. May be called again."""
    named = os.environ.get(FOLDER)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / "abohb-metrics"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)
    return folder


@contextmanager
def metered(study: str) -> Iterator[tuple[StudyMetrics, ...]]:
    """Someone who looks on and keeps a study's numbers for Prometheus; nobody where none are served."""
    folder = os.environ.get(FOLDER)
    if not folder:
        yield ()
        return
    meters = StudyMetrics(study, Path(folder))
    try:
        yield (meters,)
    finally:
        meters.close()


class StudyMetrics:
    """A `flows.controller.run.Show`: writes a study's numbers, at most every two seconds."""

    def __init__(self, study: str, folder: Path) -> None:
        self._study, self._folder = study, folder
        self._born = birth(os.getpid())
        self._before = read(file_of(folder, study))  # of an earlier process in this pod
        self._view: StudyView | None = None
        self._shown, self._written = 0.0, -float("inf")

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        self._view, self._shown = view, time.time()
        if time.monotonic() - self._written >= EVERY:
            self._write(view, closed=False)

    def close(self) -> None:
        """The last numbers; the study is let go of, in good order."""
        if self._view is not None:
            self._write(self._view, closed=True)

    def _write(self, view: StudyView, *, closed: bool) -> None:
        self._written, before = time.monotonic(), self._before
        snapshot = Snapshot(
            self._study,
            self._shown,
            samples(view, self._shown),
            summed(before.timings if before else {}, timings(view)),
            added(before.calls if before else {}, api_calls(view)),
            os.getpid(),
            self._born,
            closed,
        )
        with suppress(OSError):  # nobody tunes any worse without metrics
            write(self._folder, snapshot)


def summed(before: Timings, now: Timings) -> Timings:
    return {name: timing.plus(before.get(name, Timing())) for name, timing in now.items()}


def added(before: Mapping[Labels, float], now: Mapping[Labels, float]) -> Mapping[Labels, float]:
    return {labels: before.get(labels, 0) + now.get(labels, 0) for labels in {**before, **now}}


# -- serving -----------------------------------------------------------------------------------------


def render(accept: str = "") -> tuple[bytes, str]:
    """Body and content type of an answer to a scrape, in the format that its Accept header asks for."""
    folder = os.environ.get(FOLDER)
    found = snapshots(Path(folder), KEPT) if folder else []
    encode, content_type = choose_encoder(accept)
    return encode(_Collected(tuple(families(found, time.time())))), content_type


@dataclass(frozen=True)
class _Collected:
    """What the library calls a collector."""

    metrics: tuple[Metric, ...]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


def families(found: Sequence[Snapshot], now: float) -> Iterator[Metric]:
    """Counters of all studies; gauges of those that are tuned, or were until a moment ago."""
    alive = {snapshot.study for snapshot in found if snapshot.alive}
    yield GaugeMetricFamily(STUDIES, "Studies that are being tuned here.", value=len(alive))
    up = {each.study: float(each.study in alive) for each in found if each.study in alive or _down(each, now)}
    fresh = [snapshot for snapshot in found if snapshot.study in alive or _lingers(snapshot, now)]
    for family in FAMILIES:
        if family.name == UP:
            yield _up(family, up)
        elif family.kind == "histogram":
            yield _histogram(family, found)
        else:
            yield _values(family, fresh if family.kind == "gauge" else found)


def _lingers(snapshot: Snapshot, now: float) -> bool:
    return snapshot.closed and now - snapshot.time < LINGER


def _down(snapshot: Snapshot, now: float) -> bool:
    return not snapshot.closed and now - snapshot.time < DOWN


def _up(family: Family, up: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=["study"])
    for study, value in up.items():
        metric.add_metric([study], value)
    return metric


def _values(family: Family, found: Iterable[Snapshot]) -> Metric:
    made = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = made(family.name, family.help, labels=["study", *family.labels])
    for snapshot in found:
        values = snapshot.calls if family.name == API else snapshot.samples.get(family.name, {})
        for labels, value in values.items():
            if len(labels) == len(family.labels):  # else an older version wrote it
                metric.add_metric([snapshot.study, *labels], value)
    return metric


def _histogram(family: Family, found: Iterable[Snapshot]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=["study"])
    for snapshot in found:
        if (timing := snapshot.timings.get(family.name)) is not None:
            metric.add_metric([snapshot.study], _buckets(timing), timing.seconds)
    return metric


def _buckets(timing: Timing) -> list[tuple[str, float]]:
    """Up to each bound, as Prometheus counts."""
    bounds = [*map(str, BOUNDS), "+Inf"]
    return [(bound, float(sum(timing.counts[: at + 1]))) for at, bound in enumerate(bounds)]
