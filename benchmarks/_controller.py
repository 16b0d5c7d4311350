"""A controller on a cluster in a process of its own, that notes of each pass what it cost.

    python -m benchmarks._controller STUDY.yaml SAMPLES.jsonl [--prefect]

Writes one JSON object a pass, and in the end one with the calls of the Kubernetes API that it made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from benchmarks._report import peak_mib
from flows.controller.backend import Backend
from flows.controller.kubernetes import KubernetesPlace
from flows.controller.run import tune_at
from flows.study.file import load_study
from flows.study.model import Study
from flows.views.effort import ApiCalls
from flows.views.view import Best, Leg, LegEnded, StudyView
from operators.attempt import AttemptSpec, Observed
from operators.store import Store


def resident_mib() -> float:
    """What this process holds now; its peak where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_mib()
    return pages * os.sysconf("SC_PAGESIZE") / 1024**2


@dataclass
class Sampler:
    """A `Show` that counts, and a line for each pass: from the first call of the backend to its `wait`."""

    file: IO[str]
    legs: int = 0
    live: int = 0
    _began: tuple[float, float] | None = None  # wall clock, CPU time of the thread
    observing: float = 0.0

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        self.legs += sum(isinstance(leg, LegEnded) for leg in legs)
        self.live = sum(slot.trial is not None for slot in view.workers)

    def began(self) -> None:
        self._began = self._began or (time.perf_counter(), time.thread_time())

    def ended(self) -> None:
        if self._began is None:
            return
        sample = {
            "at": time.time(),
            "wall": time.perf_counter() - self._began[0],
            "cpu": time.thread_time() - self._began[1],
            "observing": self.observing,
            "all_cpu": time.process_time(),
            "legs": self.legs,
            "live": self.live,
            "mib": resident_mib(),
        }
        self.file.write(json.dumps(sample) + "\n")
        self._began, self.observing = None, 0.0


@dataclass
class TimedBackend:
    inner: Backend
    sampler: Sampler

    def observe(self) -> Mapping[tuple[int, int], Observed]:
        self.sampler.began()
        began = time.thread_time()
        try:
            return self.inner.observe()
        finally:
            self.sampler.observing += time.thread_time() - began

    def launch(self, spec: AttemptSpec) -> None:
        self.inner.launch(spec)

    def end(self, trial: int, attempt: int) -> None:
        self.inner.end(trial, attempt)

    def forget(self, trial: int, attempt: int) -> None:
        self.inner.forget(trial, attempt)

    def notes(self) -> Sequence[str]:
        notes = self.inner.notes()
        for note in notes:
            print(note, file=sys.stderr)
        return notes

    def wait(self, seconds: float) -> None:
        self.sampler.ended()
        self.inner.wait(seconds)

    def abandon(self) -> None:
        self.inner.abandon()

    def close(self, grace: float) -> None:
        self.sampler.ended()
        self.inner.close(grace)


@dataclass
class TimedPlace:
    inner: KubernetesPlace
    sampler: Sampler
    study: Study = field(init=False)
    store: Store = field(init=False)
    poll: float = field(init=False)
    uri: str = field(init=False)

    def __post_init__(self) -> None:
        inner = self.inner
        self.study, self.store, self.poll, self.uri = inner.study, inner.store, inner.poll, inner.uri

    def check(self) -> None:
        self.inner.check()

    def backend(self) -> Backend:
        return TimedBackend(self.inner.backend(), self.sampler)

    def checkpoint(self, best: Best) -> str:
        return self.inner.checkpoint(best)

    def sweep(self) -> None:
        self.inner.sweep()

    def calls(self) -> ApiCalls:
        return self.inner.calls()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("study", type=Path)
    arguments.add_argument("samples", type=Path)
    arguments.add_argument("--prefect", action="store_true", help="tell Prefect, as `abohb tune` does")
    given = arguments.parse_args()
    study = load_study(given.study)
    with given.samples.open("w", buffering=1) as file:
        sampler = Sampler(file)
        place = TimedPlace(KubernetesPlace.connect(study, None), sampler)
        place.check()
        if given.prefect:
            from flows.tune import tune_in_prefect  # seconds to import

            _, ending, _ = tune_in_prefect(place, [sampler])
        else:
            _, ending = tune_at(place, [sampler])
        calls = {" ".join(map(str, key)): count for key, count in place.inner.api.calls.items()}
        last = {"calls": calls, "legs": sampler.legs, "peak": peak_mib(), "ending": ending.reason}
        file.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
