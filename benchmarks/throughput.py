"""Events a second of simulator, engine and history, besides the time of the method's searcher."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks._report import Figure, now, parser, peak_mib, publish
from benchmarks.synthetic import synthetic
from flows.simulate.blackbox import Blackbox, load_blackbox
from flows.simulate.runs import Plan, study
from hpo_engine.history import History
from hpo_engine.methods import Setting, make_method
from hpo_engine.rungs import levels
from hpo_engine.searchers import Searcher, Suggestion
from hpo_engine.types import Fitted

METHODS = ("random", "asha", "asha-stop", "hyperband")


@dataclass(slots=True)
class Timed:
    """A searcher, and the seconds spent inside it."""

    inner: Searcher
    seconds: float = 0.0

    def fit(self, history: History, rng: np.random.Generator) -> Fitted | None:
        began = now()
        try:
            return self.inner.fit(history, rng)
        finally:
            self.seconds += now() - began

    def suggest(self, history: History, rng: np.random.Generator, level: int) -> Suggestion | None:
        began = now()
        try:
            return self.inner.suggest(history, rng, level)
        finally:
            self.seconds += now() - began


def measure(blackbox: Blackbox, name: str, plan: Plan) -> tuple[Figure, Figure]:
    method = make_method(name, Setting(blackbox.space, levels(1, blackbox.length, 3), 3), {})
    timed = Timed(method.searcher)
    began = now()
    _, simulation = study(blackbox, name, 0, plan, method=replace(method, searcher=timed))
    wall, events = now() - began, len(simulation.journal)
    rate = Figure(
        f"{name}, {plan.workers} workers", events / (wall - timed.seconds), "events/s", least=20_000
    )
    return rate, Figure(f"{name}, searcher's share", timed.seconds / wall * 100, "%")


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--blackbox", type=Path, metavar="FILE", help="NAME.npz (a synthetic one)")
    arguments.add_argument("--trials", type=int, default=10_000, metavar="N", help="(10000)")
    given = arguments.parse_args()
    with TemporaryDirectory() as folder:
        made = Path(folder) / "bowl.npz"
        blackbox = load_blackbox(given.blackbox) if given.blackbox else synthetic(made)
    figures: list[Figure] = []
    for name in METHODS:
        # Full-length trials have so many reports that a tenth of them is as much work.
        trials = given.trials // 10 if name == "random" else given.trials
        figures += measure(blackbox, name, Plan(workers=8, trials=trials))
    figures.append(measure(blackbox, "asha", Plan(workers=1000, trials=given.trials))[0])
    figures.append(Figure("peak memory", peak_mib(), "MiB", most=500))
    return publish(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
