"""What `ask` and `tell` cost in a study of 10,000 trials, and what a fit and a suggestion of the model do."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks._report import Figure, now, parser, publish, seconds_of
from benchmarks.synthetic import synthetic
from flows.simulate.blackbox import Blackbox
from flows.simulate.runs import Plan, study
from hpo_engine.engine import Limits
from hpo_engine.history import History
from hpo_engine.methods import Setting, make_method
from hpo_engine.objective import Metric, Objective
from hpo_engine.rungs import levels
from hpo_engine.types import AttemptEnded, AttemptStarted, Event, Outcome, Report, Resume, Start

TRIALS = 10_000
ROWS = (50, 200, 400)


def asha(blackbox: Blackbox) -> list[Figure]:
    """A study of 10,000 trials that goes on: medians over 200 more decisions."""
    engine, _ = study(blackbox, "asha", 0, Plan(workers=8, trials=TRIALS))
    engine.limits = Limits()
    first = seconds_of(engine.ask)
    taken: dict[type, list[float]] = {Start: [], Resume: [], Report: []}
    for _ in range(200):
        began = now()
        decision = engine.ask()
        taken[type(decision)].append(now() - began)
        assert isinstance(decision, Start | Resume)
        engine.tell(decision)
        trial = engine.history.trials[decision.trial]
        engine.tell(AttemptStarted(trial.id, trial.attempt + 1))
        losses = blackbox.curve(trial.config).losses
        for at in range(trial.resource + 1, trial.until + 1):
            report = Report(trial.id, trial.attempt + 1, at, {"loss": losses[at - 1]})
            began = now()
            engine.tell(report)
            taken[Report].append(now() - began)
        engine.tell(AttemptEnded(trial.id, trial.attempt + 1, Outcome.OK))
    return [
        Figure(f"asha ask, first at {TRIALS} trials", first * 1e3, "ms"),
        Figure("asha ask, new trial", median(taken[Start]) * 1e3, "ms", most=1.0),
        Figure("asha ask, promotion", median(taken[Resume] or [0.0]) * 1e3, "ms", most=1.0),
        Figure("asha ask, slowest", max(taken[Start] + taken[Resume]) * 1e3, "ms"),
        Figure("tell of a report", median(taken[Report]) * 1e3, "ms"),
    ]


def model(blackbox: Blackbox, journal: list[Event], rows: int) -> list[Figure]:
    """Of a-bohb with so many records and 8 evaluations pending."""
    rungs = levels(1, blackbox.length, 3)
    method = make_method("a-bohb", Setting(blackbox.space, rungs, 3), {})
    history = History(rungs, Objective((Metric(blackbox.metric),)))
    stream = iter(journal)
    while len(history.observations()) < rows or len(history.running) < 8:
        history.apply(next(stream))
    fitted = method.searcher.fit(history, np.random.default_rng(0))
    assert fitted is not None, "no level has enough records for a model"
    fit = seconds_of(lambda: method.searcher.fit(history, np.random.default_rng(0)), repeat=3)
    history.apply(fitted)
    last = rungs[0]
    suggest = seconds_of(lambda: method.searcher.suggest(history, np.random.default_rng(0), last), repeat=5)
    return [
        Figure(f"a-bohb fit, {rows} records", fit * 1e3, "ms"),
        Figure(f"a-bohb suggestion, {rows} records", suggest * 1e3, "ms"),
    ]


def main() -> int:
    given = parser(__doc__).parse_args()
    with TemporaryDirectory() as folder:
        blackbox = synthetic(Path(folder) / "bowl.npz")
    figures = asha(blackbox)
    _, simulation = study(blackbox, "asha", 1, Plan(workers=9, trials=1000))
    journal = [event for _, event in islice(simulation.journal, 1, None)]
    for rows in ROWS:
        figures += model(blackbox, journal, rows)
    return publish(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
