"""What a pass of the controller's loop costs with 1,000 trials running, on a directory as store."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks._report import Figure, parser, peak_mib, publish
from flows.controller.loop import Controller
from flows.controller.session import open_study
from flows.study.model import Study
from hpo_engine.types import Report
from operators.attempt import AttemptSpec, Observed, encode_report, report_key
from operators.store import DirectoryStore

RUNNING = 1000


@dataclass
class Idle:
    """Attempts that exist, and do nothing: what a pass costs besides them."""

    attempts: dict[tuple[int, int], Observed] = field(default_factory=dict)

    def observe(self) -> Mapping[tuple[int, int], Observed]:
        return dict(self.attempts)

    def launch(self, spec: AttemptSpec) -> None:
        self.attempts.setdefault((spec.trial, spec.attempt), Observed(running=True))

    def end(self, trial: int, attempt: int) -> None: ...

    def forget(self, trial: int, attempt: int) -> None:
        self.attempts.pop((trial, attempt), None)

    def notes(self) -> Sequence[str]:
        return ()

    def wait(self, seconds: float) -> None: ...

    def abandon(self) -> None: ...

    def close(self, grace: float) -> None: ...


def study() -> Study:
    return Study.model_validate(
        {
            "name": "wide",
            "command": ["true"],
            "metrics": ["loss"],
            "resource": {"min": 9, "max": 27},
            "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "method": "asha",
            "workers": RUNNING,
            "budget": {"hours": 1.0},
        }
    )


def one_pass(controller: Controller) -> float:
    began = time.perf_counter()
    controller.step()
    return (time.perf_counter() - began) * 1e3


def main() -> int:
    arguments = parser(__doc__).parse_args()
    with TemporaryDirectory() as root:
        store = DirectoryStore(Path(root))
        session = open_study(study(), store, Idle())
        start = one_pass(session.controller)
        quiet = median(one_pass(session.controller) for _ in range(50))
        for trial in range(RUNNING):
            report = Report(trial, 1, 1, {"loss": trial / RUNNING})
            store.put(report_key("wide", report), encode_report(report))
        busy = one_pass(session.controller)
        began = time.perf_counter()
        for _ in range(50):
            session.watch.view(session.controller.history, elapsed=0.0)
        view = (time.perf_counter() - began) / 50 * 1e3
    figures = [
        Figure("running trials", RUNNING, ""),
        Figure("pass", quiet, "ms", most=100.0),
        Figure("pass that starts them all", start, "ms"),
        Figure("pass with a report of each", busy, "ms"),
        Figure("view for the displays", view, "ms"),
        Figure("memory", peak_mib(), "MiB", most=500.0),
    ]
    return publish(figures, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
