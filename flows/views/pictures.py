"""A study as two pictures: its learning curves, and the best value over time. Pure functions.

They are drawn again every few seconds while a study runs, so they are plain SVG text of bounded size: some
milliseconds each, where a plotting library would take half a second to load.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import quantiles
from typing import TypeVar

from flows.views.report import number, plural
from flows.views.svg import Axis, Mark, Picture, linear, logarithmic, svg
from flows.views.view import Curves, Gain, StudyView
from hpo_engine.types import Report

T = TypeVar("T")

CURVES = 40  # drawn at most
RUNNING = 12  # of these that run now, at most
POINTS = 60  # of one curve
GAINS = 200
WIDE = {"min": 10.0, "max": 100.0}  # from that ratio on, positive values are shown on a log axis

BEST, NOW, OTHER = "#d55e00", "#0072b2", "#8c959f"  # told apart by people who see no red or no green, too
TIMES = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def learning_curves(view: StudyView) -> str:
    """The objective against the resource; "" while nothing has been measured."""
    lines = {
        trial: thinned(points_of(view.curves.reports[trial], view.objective), POINTS)
        for trial in chosen(view)
    }
    lines = {trial: points for trial, points in lines.items() if points}
    if not lines:
        return ""
    best, running = view.best.trial if view.best else None, working(view)
    y, cut = value_axis([value for points in lines.values() for _, value in points], view)
    marks = [_mark(points, trial, best, running) for trial, points in lines.items()]
    marks.sort(key=lambda mark: mark.width)
    measured = sum(1 for reports in view.curves.reports if reports)
    shown = plural(len(lines), "trial") if len(lines) == measured else f"{len(lines)} of {measured} trials"
    names = [(OTHER, "others"), (NOW, "running now"), (BEST, f"best, trial {best}")]
    present = {mark.colour for mark in marks}
    return svg(
        Picture(
            f"Learning curves of {view.study}",
            f"{shown}{cut}",
            resource_axis(view, lines.values()),
            y,
            marks,
            [(colour, words) for colour, words in names if colour in present],
            [level.level for level in view.levels],
        )
    )


def best_over_time(view: StudyView) -> str:
    """Steps from each best report to the next; "" before the first."""
    gains = thinned(list(view.curves.gains), GAINS)
    if not gains:
        return ""
    seconds = max(view.curves.seconds, gains[-1].seconds)
    scale, unit = next((each for each in TIMES if seconds >= 2 * each[0]), TIMES[-1])
    y, cut = value_axis([gain.value for gain in gains], view)
    points = [(gain.seconds / scale, gain.value) for gain in gains]
    last = gains[-1]
    return svg(
        Picture(
            f"Best {view.objective} of {view.study} over time",
            f"{plural(len(view.curves.gains), 'improvement')}{cut}",
            linear(0.0, seconds / scale, f"{unit} since the study began", 8),
            y,
            [
                Mark(points, BEST, 2.5, steps=True, dots=True),
                Mark([points[-1], (seconds / scale, last.value)], BEST, 2.5),
            ],
            note=_note(last, view.unit),
        )
    )


def _note(gain: Gain, unit: str) -> str:
    return f"{number(gain.value)}: trial {gain.trial} after {plural(gain.resource, unit)}"


def _mark(
    points: Sequence[tuple[float, float]], trial: int, best: int | None, running: frozenset[int]
) -> Mark:
    if trial == best:
        return Mark(points, BEST, 3)
    if trial in running:
        return Mark(points, NOW, 2, 0.9)
    return Mark(points, OTHER, 1.2, 0.6)


# -- what is drawn ---------------------------------------------------------------------------------


def working(view: StudyView) -> frozenset[int]:
    return frozenset(slot.trial for slot in view.workers if slot.trial is not None)


def chosen(view: StudyView) -> list[int]:
    """The best trial, some that run, those that came furthest, and the rest thinned out evenly.

    With only the best ones it would look as if none were ever given up.
    """
    curves = view.curves
    order = sorted(
        (trial for trial, reports in enumerate(curves.reports) if reports),
        key=lambda trial: _merit(curves, trial, view),
    )
    first = [trial for trial in order if view.best and trial == view.best.trial]
    first += sorted(working(view) & set(order), reverse=True)[:RUNNING]
    picked = dict.fromkeys(first)
    picked |= dict.fromkeys(order[: (CURVES - len(picked)) // 2])
    rest = [trial for trial in order if trial not in picked]
    return [*picked, *thinned(rest, CURVES - len(picked))]


def _merit(curves: Curves, trial: int, view: StudyView) -> tuple[int, float]:
    """Sorts those that came furthest first, and of these the better ones."""
    report = curves.reports[trial][-1]
    value = report.metrics.get(view.objective, math.nan)
    loss = -value if view.mode == "max" else value
    return -report.resource, loss if math.isfinite(loss) else math.inf


def points_of(reports: Sequence[Report], metric: str) -> list[tuple[float, float]]:
    """Those with a finite value."""
    values = [(float(report.resource), report.metrics.get(metric, math.nan)) for report in reports]
    return [(resource, value) for resource, value in values if math.isfinite(value)]


def thinned(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    if count < 2:
        return list(items[:count])
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


# -- axes ------------------------------------------------------------------------------------------


def value_axis(values: Sequence[float], view: StudyView) -> tuple[Axis, str]:
    """The axis of the objective, and words about what does not fit on it.

    A few values that are far off on the bad side, as at the start of a training, would flatten all others.
    """
    low, high = min(values), max(values)
    if low > 0 and high / low >= WIDE[view.mode]:
        return logarithmic(low, high, view.objective), ""
    if len(values) >= 20:
        cuts = quantiles(values, n=50)
        if view.mode == "min" and high - low > 4 * (cuts[-1] - low) > 0:
            axis = linear(low, cuts[-1], view.objective)
            return axis, f"; values above {axis.high:g} on the upper edge"
        if view.mode == "max" and high - low > 4 * (high - cuts[0]) > 0:
            axis = linear(cuts[0], high, view.objective)
            return axis, f"; values below {axis.low:g} on the lower edge"
    return linear(low, high, view.objective), ""


def resource_axis(view: StudyView, lines: Iterable[Sequence[tuple[float, float]]]) -> Axis:
    """With the rungs as ticks; logarithmic where they are several: each is a multiple of the one before."""
    levels = [level.level for level in view.levels]
    used = [resource for points in lines for resource, _ in points]
    low, high = min([*used, *levels]), max([*used, *levels])
    if len(levels) < 3 or low <= 0 or high / low < 8:
        return linear(min(low, 0), high, view.unit, 8)
    ticks = tuple((float(level), str(level)) for level in levels)
    return Axis(float(low), float(high), True, ticks, view.unit)
