"""The digits example against random search with the same number of epochs, for real or on a recorded table.

The figure is the test error of the configuration that each of them would hand over: the one with the best
validation error, which alone was used to choose. `--table FILE` (benchmarks/tables/digits.npz) replays
recorded curves; without it, everything is trained.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks._report import Figure, parser, publish
from benchmarks.record_digits import EXAMPLE
from flows.controller.run import tune_locally
from flows.simulate.blackbox import load_blackbox
from flows.simulate.runs import Plan
from flows.simulate.runs import study as simulated
from flows.study.file import load_study
from flows.study.model import Study
from flows.study.parts import Budget


@dataclass(frozen=True, slots=True)
class Outcome:
    validation: float
    test: float
    epochs: int


def real(method: str, seed: int, epochs: int | None) -> Outcome:
    """Tune the example; `epochs` instead of its own budget, if given."""
    base = load_study(EXAMPLE / "study.yaml")
    with TemporaryDirectory() as store:
        data = base.model_dump(mode="json") | {"method": method, "seed": seed, "store": store}
        study = Study.model_validate(data)
        if epochs is not None:
            study = study.model_copy(update={"budget": Budget(resource=epochs)})
        view, _ = tune_locally(study, [])
    assert view.best is not None
    return Outcome(view.best.value, view.best.metrics["test_error"], view.units)


def recorded(table: Path, method: str, seed: int, epochs: int | None) -> Outcome:
    base, blackbox = load_study(EXAMPLE / "study.yaml"), load_blackbox(table)
    trials = base.budget.trials if epochs is None else None
    engine, _ = simulated(blackbox, method, seed, Plan(workers=base.workers, trials=trials, units=epochs))
    best = engine.history.incumbent
    assert best is not None
    row = blackbox.nearest(engine.history.trials[best.report.trial].config)
    with np.load(table) as arrays:
        test = float(arrays["test"][row, best.report.resource - 1])
    return Outcome(best.score.loss, test, engine.history.units)


def compared(table: Path | None, seeds: int) -> Iterator[tuple[Outcome, Outcome]]:
    """(the default method, random search) for each seed, with the same epochs."""
    for seed in range(seeds):
        play = real if table is None else lambda *given: recorded(table, *given)
        ours = play("a-bohb", seed, None)
        theirs = play("random", seed, ours.epochs)
        print(f"seed {seed}: {ours} {theirs}", file=sys.stderr, flush=True)
        yield ours, theirs


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--table", type=Path)
    given = arguments.parse_args()
    pairs = list(compared(given.table, given.seeds))
    figures = [
        Figure(f"{name}, {what}", statistics.mean(getattr(pair[i], field) for pair in pairs), "")
        for field, what in (("test", "test error"), ("validation", "validation error"), ("epochs", "epochs"))
        for i, name in enumerate(("a-bohb", "random"))
    ]
    won = sum(ours.test < theirs.test for ours, theirs in pairs)
    figures.append(Figure("seeds with the lower test error", won, f"of {len(pairs)}", least=len(pairs) / 2))
    return publish(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
