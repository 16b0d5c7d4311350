"""Views as words: single values, and a result as text and as JSON. Pure functions."""

from __future__ import annotations

import json
import math

from flows.views.view import Best, Failures, Level, StudyView

NOTHING = "–"


# -- words for single values -----------------------------------------------------------------------


def number(value: float | None, digits: int = 4) -> str:
    """A measured number at sensible precision; integers in full."""
    if value is None:
        return NOTHING
    if isinstance(value, float) and not math.isfinite(value):
        return "diverged"
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"


def setting(value: float | int | str | bool) -> str:
    """A hyper-parameter's value; floats with the digits that matter to repeat it by hand."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as two units at most."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def level_row(level: Level) -> tuple[str, str, str, str, str]:
    kept = NOTHING if level.kept is None else str(level.kept)
    return str(level.level), str(level.recorded), kept, str(level.running), number(level.best)


# -- the result ------------------------------------------------------------------------------------


def result_text(view: StudyView) -> str:
    """What a user reads at the end; ends with a newline."""
    ended = f"ended: {view.finished}" if view.finished else "has not ended"
    lines = [f"Study {view.study} {ended} ({duration(view.elapsed)}).", ""]
    lines += best_lines(view)
    lines += [f"Trials: {tally(view)}.", f"{view.unit.capitalize()}s run: {savings(view)}."]
    lines += [failure_line(failures, view.store) for failures in view.failures]
    lines += [f"Store: {view.store}"] if view.store else []
    if view.again:
        lines.append(f"{'To see this again' if view.finished else 'To go on'}: {view.again}")
    return "\n".join(lines) + "\n"


def best_lines(view: StudyView) -> list[str]:
    if view.best is None:
        return ["No trial has reported its objective.", ""]
    best = view.best
    config = [(name, setting(value)) for name, value in best.config.items()]
    metrics = [(name, number(value)) for name, value in objective_first(view, best)]
    metrics[0] = (metrics[0][0], f"{metrics[0][1]}  (the objective, {view.mode})")
    metrics.append(("checkpoint", best.checkpoint or "none was written"))
    width = max(len(name) for name, _ in config + metrics)
    rows = [*config, ("", ""), *metrics]
    return [
        f"Best configuration: {where(view, best)}",
        *(f"  {n:<{width}}  {v}".rstrip() for n, v in rows),
        "",
    ]


def where(view: StudyView, best: Best) -> str:
    return f"trial {best.trial} after {plural(best.resource, view.unit)}"


def objective_first(view: StudyView, best: Best) -> list[tuple[str, float]]:
    others = [(name, value) for name, value in best.metrics.items() if name != view.objective]
    return [(view.objective, best.value), *others]


def tally(view: StudyView) -> str:
    counts = view.counts
    running = "cut short" if view.finished else "running"
    parts = [(running, counts.running), ("paused", counts.paused), ("completed", counts.completed),
             ("stopped", counts.stopped), ("failed", counts.failed)]  # fmt: skip
    return f"{counts.started} started" + "".join(f", {count} {word}" for word, count in parts if count)


def savings(view: StudyView) -> str:
    if not view.units or not view.full_units:
        return str(view.units)
    saved = f"{percent(view.saved)} saved by early stopping"
    return f"{view.units}, instead of {view.full_units} at full length: {saved}"


def failure_line(failures: Failures, store: str = "") -> str:
    example = f"trial {failures.trial}, attempt {failures.attempt}"
    said = f": {failures.last_line.strip()}" if failures.last_line.strip() else ""
    logs = f"\n  {log_file(store, failures.trial, failures.attempt)}" if store else ""
    return f"Failed attempts, {failures.outcome.value}: {failures.count}, e.g. {example}{said}{logs}"


def log_file(store: str, trial: int, attempt: int) -> str:
    return f"{store}/trials/{trial:08d}/logs/{attempt:04d}.*"  # stdout and stderr, or one of both


def result_json(view: StudyView) -> str:
    """The result as one JSON object; numbers are finite or null.

    study, method, objective, mode, unit, seconds, ended (why, or null),
    best (null, or trial, value, resource, config, metrics, checkpoint),
    trials (started, running, paused, completed, stopped, failed),
    rungs [{level, recorded, kept, running, best}], units, full_units, saved (share in [0, 1]),
    failures [{class, attempts, trial, attempt, last_line}], messages, store, again.
    """
    best = view.best and {
        "trial": view.best.trial, "value": view.best.value, "resource": view.best.resource,
        "config": dict(view.best.config), "metrics": dict(objective_first(view, view.best)),
        "checkpoint": view.best.checkpoint or None,
    }  # fmt: skip
    counts = view.counts
    result = {
        "study": view.study, "method": view.method, "objective": view.objective, "mode": view.mode,
        "unit": view.unit, "seconds": round(view.elapsed, 3), "ended": view.finished or None, "best": best,
        "trials": {"started": counts.started, "running": counts.running, "paused": counts.paused,
                   "completed": counts.completed, "stopped": counts.stopped, "failed": counts.failed},
        "rungs": [{"level": row.level, "recorded": row.recorded, "kept": row.kept, "running": row.running,
                   "best": row.best} for row in view.levels],
        "units": view.units, "full_units": view.full_units, "saved": round(view.saved, 4),
        "failures": [{"class": f.outcome.value, "attempts": f.count, "trial": f.trial, "attempt": f.attempt,
                      "last_line": f.last_line} for f in view.failures],
        "messages": list(view.messages), "store": view.store, "again": view.again,
    }  # fmt: skip
    return json.dumps(finite(result), indent=2, ensure_ascii=False, allow_nan=False)


def finite(value: object) -> object:
    """The same, with null for what JSON has no word for."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: finite(inner) for key, inner in value.items()}
        case list():
            return [finite(inner) for inner in value]
    return value
