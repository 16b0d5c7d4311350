"""`abohb simulate`: methods against recorded curves, seeds in parallel, regret against virtual time."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.blackbox import Blackbox, load_blackbox
from flows.simulate_runs import Plan, Run, check, run_all
from hpo_engine.domains import Array
from hpo_engine.methods import METHODS
from hpo_engine.simulate import HOUR, Costs, Faults
from hpo_engine.types import AbohbError

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
FULL_LENGTHS = 12.0  # the default budget, in trainings at full length: ten seeds of a-bohb take a minute or two


@dataclass(frozen=True, slots=True)
class Comparison:
    """Simple regret: the best loss reported so far, at whatever resource, above the best of the whole table."""

    path: Path
    blackbox: Blackbox
    plan: Plan
    runs: dict[str, list[Run]]  # method -> one for each seed

    @property
    def horizon(self) -> float:
        """Seconds that are compared: the budget, or what the longest study took."""
        return self.plan.seconds or max(run.seconds for runs in self.runs.values() for run in runs)

    def regrets(self, method: str, seconds: Array) -> Array:  # (t,) -> (seeds, t), inf before the first report
        return np.array([_regret(run, seconds) - self.blackbox.best for run in self.runs[method]])


def _regret(run: Run, seconds: Array) -> Array:
    times, losses = np.array([(0.0, np.inf), *run.incumbents]).T
    return np.asarray(losses[np.searchsorted(times, seconds, side="right") - 1])


def quartiles(regrets: Array) -> Array:  # (seeds, t) -> (3, t): lower quartile, median, upper quartile
    return np.quantile(regrets, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")


def compare(path: Path, methods: list[str], seeds: int, plan: Plan, processes: int | None = None) -> Comparison:
    """Run every method with every seed. AbohbError: a file, a method or a budget that cannot be."""
    blackbox = load_blackbox(path)
    if plan.seconds is None and plan.trials is None and plan.units is None:
        plan = plan.with_seconds(FULL_LENGTHS * blackbox.full_seconds)
    check(blackbox, methods, plan)
    return Comparison(path, blackbox, plan, run_all(path, methods, seeds, plan, processes))


# -- what it is shown as ----------------------------------------------------------------------------


def table(comparison: Comparison) -> str:
    """Rows: fractions of the time. Columns: methods, median regret and its quartiles over the seeds."""
    seconds = np.array(FRACTIONS) * comparison.horizon
    bands = [quartiles(comparison.regrets(method, seconds)) for method in comparison.runs]
    rows = [["time", *comparison.runs]]
    for k, fraction in enumerate(FRACTIONS):
        rows.append([f"{fraction:.0%}", *(_cell(*band[:, k]) for band in bands)])
    rows.append([])
    for title, of in (("trials", lambda r: r.trials), (comparison.blackbox.resource + "s", lambda r: r.units)):
        rows.append([title, *(f"{np.median([of(r) for r in runs]):.0f}" for runs in comparison.runs.values())])
    rows.append(["own time", *(f"{np.mean([r.wall for r in runs]):.1f} s" for runs in comparison.runs.values())])
    widths = [max(len(row[c]) for row in rows if row) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=False)) for row in rows)


def _cell(low: float, median: float, high: float) -> str:
    return f"{_short(median)} [{_short(low)}, {_short(high)}]"


def _short(regret: float) -> str:
    return "-" if not np.isfinite(regret) else "0" if regret == 0 else f"{regret:.2g}"


def figures(comparison: Comparison) -> dict[str, object]:
    """The same as numbers, for `--json`."""
    seconds = np.array(FRACTIONS) * comparison.horizon
    methods: dict[str, object] = {}
    for method, runs in comparison.runs.items():
        regrets = comparison.regrets(method, seconds)
        low, median, high = (_numbers(q) for q in quartiles(regrets))
        methods[method] = {
            "median": median,
            "lower_quartile": low,
            "upper_quartile": high,
            "final": _numbers(regrets[:, -1]),
            "trials": [run.trials for run in runs],
            "units": [run.units for run in runs],
            "events": [run.events for run in runs],
            "wall_seconds": [round(run.wall, 3) for run in runs],
        }
    return {
        "blackbox": str(comparison.path),
        "best": comparison.blackbox.best,
        "workers": comparison.plan.workers,
        "seeds": len(next(iter(comparison.runs.values()))),
        "seconds": [round(s, 3) for s in seconds],
        "fractions": list(FRACTIONS),
        "regret": methods,
    }


def _numbers(values: Array) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def draw(comparison: Comparison, target: Path) -> None:
    """Median and inter-quartile band against virtual time, on a log axis; regret 0 lies on its lower edge."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second: only who draws waits for it
    from matplotlib.figure import Figure

    seconds = np.linspace(0.0, comparison.horizon, 400)
    regrets = {method: comparison.regrets(method, seconds) for method in comparison.runs}
    positive = [r[np.isfinite(r) & (r > 0)] for r in regrets.values()]
    floor = min((float(r.min()) for r in positive if r.size), default=1e-6) / 2
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for method, values in regrets.items():
        low, median, high = np.maximum(np.where(np.isfinite(q := quartiles(values)), q, np.nan), floor)
        (line,) = axes.step(seconds / 60, median, where="post", label=method)
        axes.fill_between(seconds / 60, low, high, step="post", alpha=0.2, color=line.get_color())
    axes.set(yscale="log", xlabel="virtual minutes", ylabel=f"regret ({comparison.blackbox.metric})")
    axes.set_title(f"{comparison.path.stem}, {comparison.plan.workers} workers")
    axes.legend()
    figure.savefig(target, dpi=120)


# -- the command ------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `abohb simulate`."""
    known = ", ".join(METHODS)
    add = parser.add_argument
    add("--blackbox", required=True, type=Path, metavar="FILE", help="recorded curves: NAME.npz beside NAME.json")
    add("--method", action="append", metavar="NAME", help=f"may be repeated: {known} (default a-bohb)")
    add("--workers", type=_number(int, 1), default=8, metavar="N")
    add("--seeds", type=_number(int, 1), default=10, metavar="N", help="studies of each method (10)")
    add("--eta", type=_number(int, 2), default=3, metavar="N", help="one in so many goes on to the next rung (3)")
    add("--min-resource", type=_number(int, 1), default=1, metavar="N", help="the lowest rung (1)")
    budget = parser.add_argument_group("budget", f"default: {FULL_LENGTHS:g} trainings at full length, in time")
    budget.add_argument("--hours", type=_number(float, 0), metavar="H", help="virtual time")
    budget.add_argument("--trials", type=_number(int, 1), metavar="N")
    budget.add_argument("--units", type=_number(int, 1), metavar="N", help="resource units of all trials together")
    costs = parser.add_argument_group("costs, in virtual seconds, and faults (all 0)")
    for name, text in _COSTS.items():
        costs.add_argument(f"--{name}", type=_number(float, 0), default=0.0, metavar="X", help=text)
    costs.add_argument("--checkpoint-every", type=_number(int, 0), metavar="N", help=_EVERY)
    add("--processes", type=_number(int, 1), metavar="N", help="studies at a time (all cores)")
    add("--out", type=Path, default=Path("regret.png"), metavar="FILE", help="the picture (regret.png)")
    add("--json", action="store_true", help="figures as one JSON object instead of the table")


_EVERY = "units between checkpoints (only at the end of each order); 0: none, trials start over"
_COSTS = {
    "start-up": "before an attempt trains",
    "checkpoint": "to save a checkpoint, and to restore one",
    "decision": "that the controller takes for one decision",
    "notice": "until the controller sees a report, and until a trial sees a stop",
    "lost-per-hour": "rate at which running attempts are lost",
    "fail": "probability that an attempt's training code fails",
    "delay": "mean seconds that a report is late",
    "duplicate": "probability that a report comes twice",
}


def _number(kind: type, low: float):  # type: ignore[no-untyped-def]
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not value >= low:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {what} of at least {low}")
        return value  # type: ignore[no-any-return]

    return parse


def run(arguments: argparse.Namespace) -> int:
    """0: done. 2: the arguments or the files cannot be used; standard error says why."""
    methods = list(dict.fromkeys(arguments.method or ["a-bohb"]))
    try:
        comparison = compare(
            arguments.blackbox, methods, arguments.seeds, _plan(arguments), arguments.processes
        )
        draw(comparison, arguments.out)
    except (AbohbError, OSError) as error:
        print(f"abohb simulate: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({**figures(comparison), "picture": str(arguments.out)}))
    else:
        print(_heading(comparison), table(comparison), f"\n{arguments.out} shows it as a picture.", sep="\n")
    return 0


def _heading(comparison: Comparison) -> str:
    seeds = len(next(iter(comparison.runs.values())))
    return (
        f"{comparison.path.stem}: regret of the best {comparison.blackbox.metric} so far, median [quartiles] of"
        f" {seeds} seeds; {comparison.plan.workers} workers, {comparison.horizon / HOUR:.2f} virtual hours\n"
    )


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        workers=arguments.workers,
        eta=arguments.eta,
        low=arguments.min_resource,
        seconds=None if arguments.hours is None else arguments.hours * HOUR,
        trials=arguments.trials,
        units=arguments.units,
        costs=Costs(
            start_up=arguments.start_up,
            save=arguments.checkpoint,
            restore=arguments.checkpoint,
            decision=arguments.decision,
            notice=arguments.notice,
            stop=arguments.notice,
            checkpoint_every=arguments.checkpoint_every,
        ),
        faults=Faults(arguments.lost_per_hour, arguments.fail, arguments.delay, arguments.duplicate),
    )
