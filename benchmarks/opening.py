"""What it takes to open a study of 10,000 trials: its journal, on disk, read and folded in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._report import Figure, parser, peak_mib, publish
from benchmarks.synthetic import SPACE, synthetic
from flows.controller.session import replay
from flows.simulate.runs import Plan
from flows.simulate.runs import study as simulated
from flows.study.model import Study
from hpo_engine.types import Opened
from operators.journal import Journal
from operators.store import DirectoryStore

TRIALS = 10_000
A_BATCH = 3  # events: what a pass of the loop sees of eight workers


def study_of(trials: int) -> Study:
    return Study.model_validate(
        {
            "name": "large",
            "command": ["true"],
            "metrics": ["loss"],
            "resource": {"max": 27},
            "space": SPACE,
            "method": "asha",
            "budget": {"trials": trials},
        }
    )


def write(root: Path, trials: int) -> tuple[int, int]:
    """(events, batches) of a simulated study, journalled as a real one is."""
    study = study_of(trials)
    blackbox = synthetic(root / "synthetic.npz")
    _, simulation = simulated(blackbox, "asha", 0, Plan(workers=8, trials=trials))
    events = [event for _, event in simulation.journal if not isinstance(event, Opened)]
    journal = Journal(DirectoryStore(root), study.name)
    list(journal.read())
    journal.claim(0.0, [Opened(study.model_dump(mode="json"))])
    for at in range(0, len(events), A_BATCH):
        journal.append(events[at : at + A_BATCH], float(at))
    return len(events), journal.number


def opened(root: str) -> dict[str, float]:
    began = time.perf_counter()
    replayed = replay(study_of(TRIALS), DirectoryStore(Path(root)))
    assert len(replayed.engine.history.trials) == TRIALS
    return {"seconds": time.perf_counter() - began, "mib": peak_mib()}


def main() -> int:
    arguments = parser(__doc__).parse_args()
    with TemporaryDirectory() as root:
        events, batches = write(Path(root), TRIALS)
        read = (
            "import sys, json; from benchmarks.opening import opened; print(json.dumps(opened(sys.argv[1])))"
        )
        said = subprocess.run([sys.executable, "-c", read, root], capture_output=True, text=True, check=True)
        measured = json.loads(said.stdout)
    figures = [
        Figure("trials", TRIALS, ""),
        Figure("events", events, ""),
        Figure("batches", batches, ""),
        Figure("opening", measured["seconds"], "s", most=10.0),
        Figure("memory", measured["mib"], "MiB", most=500.0),
    ]
    return publish(figures, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
