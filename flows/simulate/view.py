"""What a comparison of simulated methods is shown as: a table, figures, a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.simulate.blackbox import Blackbox
from flows.simulate.runs import Plan, Run
from hpo_engine.domains import Array
from hpo_engine.simulate import HOUR

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # of the time


@dataclass(frozen=True, slots=True)
class Comparison:
    """Simple regret: the best loss reported so far, at whatever resource, above the best of the table."""

    path: Path
    blackbox: Blackbox
    plan: Plan
    runs: dict[str, list[Run]]  # method -> one for each seed

    @property
    def horizon(self) -> float:
        """Seconds that are compared: the budget, or what the longest study took."""
        return self.plan.seconds or max(run.seconds for runs in self.runs.values() for run in runs)

    def regrets(self, method: str, seconds: Array) -> Array:  # (t,) -> (seeds, t)
        """Infinite before the first report."""
        return np.array([_regret(run, seconds) - self.blackbox.best for run in self.runs[method]])


def _regret(run: Run, seconds: Array) -> Array:
    times, losses = np.array([(0.0, np.inf), *run.incumbents]).T
    return np.asarray(losses[np.searchsorted(times, seconds, side="right") - 1])


def quartiles(regrets: Array) -> Array:  # (seeds, t) -> (3, t): lower quartile, median, upper quartile
    return np.quantile(regrets, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")


def heading(comparison: Comparison) -> str:
    seeds, workers = len(next(iter(comparison.runs.values()))), comparison.plan.workers
    return (
        f"{comparison.path.stem}: regret of the best {comparison.blackbox.metric} so far, median [quartiles]"
        f" of {seeds} seeds; {workers} workers, {comparison.horizon / HOUR:.2f} virtual hours\n"
    )


def table(comparison: Comparison) -> str:
    """Rows: fractions of the time. Columns: methods, median regret and its quartiles over the seeds."""
    seconds = np.array(FRACTIONS) * comparison.horizon
    bands = [quartiles(comparison.regrets(method, seconds)) for method in comparison.runs]
    rows = [["time", *comparison.runs]]
    for k, fraction in enumerate(FRACTIONS):
        rows.append([f"{fraction:.0%}", *(_cell(*band[:, k]) for band in bands)])
    footer: dict[str, Callable[[Run], float]] = {
        "trials": lambda run: run.trials,
        f"{comparison.blackbox.resource}s": lambda run: run.units,
        "own seconds": lambda run: run.wall,
    }
    rows.append([])
    for title, of in footer.items():
        medians = (np.median([of(run) for run in runs]) for runs in comparison.runs.values())
        rows.append([title, *(f"{median:.4g}" for median in medians)])
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
    if any(r.size for r in positive):  # else nobody has reported anything
        axes.set_yscale("log")
    axes.set(xlabel="virtual minutes", ylabel=f"regret ({comparison.blackbox.metric})")
    axes.set_title(f"{comparison.path.stem}, {comparison.plan.workers} workers")
    axes.legend()
    figure.savefig(target, dpi=120)
