"""What was seen of a study, as words and as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from rich.console import Console

from flows.outside.look import Looked, Row, changed, state, waits
from flows.views.frame import frame
from flows.views.report import (
    best_lines,
    duration,
    failure_line,
    finite,
    number,
    result_json,
    setting,
    tally,
)
from flows.views.view import Best, StudyView
from operators.lease import Owner

Command = Callable[[str], str]  # "resume" -> "abohb resume study.yaml"
WHY = 60  # columns of a trial's reason in the table


def status_text(
    looked: Looked,
    view: StudyView,
    owner: Owner,
    asked: Sequence[str],
    command: Command,
    size: tuple[int, int],
) -> str:
    """`size`: columns and lines of the terminal."""
    lines = [headline(looked, view, owner, command), "", picture(view, size), ""]
    lines += [f"Waiting: {cause}" for cause in waits(looked)]
    lines += [failure_line(failures, view.store) for failures in view.failures]
    if asked:
        when = "soon" if owner.alive else "when it is tuned again"
        lines.append(f"Asked for, takes effect {when}: {', '.join(asked)}")
    lines += [*view.messages, *changed(looked), f"Store: {view.store}"]
    return "\n".join(lines) + "\n"


def headline(looked: Looked, view: StudyView, owner: Owner, command: Command) -> str:
    name, who = f"Study {view.study}", f"tuned by {owner.where}"
    match state(looked, alive=owner.alive is not False):
        case "ended" | "failed" as word:
            return f"{name} {word}: {view.finished} ({duration(view.elapsed)})."
        case "interrupted":
            paused = ", and is paused" if looked.history.settings.get("paused") else ""
            left = f" ({owner.where} has gone)" if owner.where else ""
            return f"{name} has not ended{paused}. Nobody is tuning it{left}; to go on: {command('tune')}"
        case "stopping":
            return f"{name} is stopping: its trials are being ended ({who})."
        case "pausing":
            return (
                f"{name} is pausing: its trials end after their next report ({who})."
                f" To go on: {command('resume')}"
            )
        case "paused":
            return f"{name} is paused ({who}). To go on: {command('resume')}"
    return f"{name} is running, {who}."


def picture(view: StudyView, size: tuple[int, int]) -> str:
    """The frame that `abohb tune` shows, without colours."""
    width, height = size
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(frame(view, width, height))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def status_json(
    looked: Looked, view: StudyView, owner: Owner, asked: Sequence[str], *, indent: int | None
) -> str:
    """As `tune --json` has it, and: state, controller (null, or where and alive), workers, paused, asked,
    waits, changed, slots [{trial, attempt, status, resource, until, value}].
    """
    result = {
        **json.loads(result_json(view)),
        "state": state(looked, alive=owner.alive is not False),
        "controller": {"where": owner.where, "alive": owner.alive} if owner.where else None,
        "workers": looked.history.settings.get("workers", looked.study.workers),
        "paused": bool(looked.history.settings.get("paused")),
        "asked": list(asked),
        "waits": waits(looked),
        "changed": changed(looked),
        "slots": [asdict(slot) for slot in view.workers if slot.trial is not None],
    }
    return json.dumps(finite(result), indent=indent, ensure_ascii=False, allow_nan=False)


# -- trials ------------------------------------------------------------------------------------------


def trials_text(view: StudyView, rows: Sequence[Row], width: int | None) -> str:
    """A table; lines are cut at `width`, unless it is None."""
    disrupted = any(row.disruptions for row in rows)
    explained = any(row.why for row in rows)
    header = ["trial", "status", view.unit, view.objective, "attempts", "failures"]
    header += ["disruptions"] * disrupted + ["why"] * explained + ["configuration"]
    table = [header]
    for row in rows:
        reached = f"{row.resource}/{row.until}"
        line = [str(row.trial), row.status.value, reached, number(row.value), str(row.attempts)]
        line += [str(row.failures), *[str(row.disruptions)] * disrupted]
        line += [clipped(row.why, WHY)] * explained
        table.append([*line, "  ".join(f"{name}={setting(value)}" for name, value in row.config.items())])
    return aligned(table, width) + f"\nTrials: {tally(view)}.\n"


def aligned(table: Sequence[Sequence[str]], width: int | None) -> str:
    """Columns of numbers to the right, of words to the left; the last one as it is."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    words = {index for index, name in enumerate(table[0]) if name in ("status", "why", "configuration")}
    lines = [
        "  ".join(
            text.ljust(width) if index in words else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "".join(f"{line if width is None else clipped(line, width)}\n" for line in lines)


def clipped(text: str, width: int) -> str:
    text = " ".join(text.splitlines())
    return text if len(text) <= width else text[: width - 1] + "…"


def trials_json(view: StudyView, rows: Sequence[Row]) -> str:
    """study, objective, mode, unit, trials [{trial, status, resource, until, value, metrics, attempts,
    failures, disruptions, why, checkpoint (of which resource; 0: none), units, origin, config}].
    """
    result = {
        "study": view.study,
        "objective": view.objective,
        "mode": view.mode,
        "unit": view.unit,
        "trials": [{**asdict(row), "metrics": dict(row.metrics), "config": dict(row.config)} for row in rows],
    }
    return json.dumps(finite(result), indent=2, ensure_ascii=False, allow_nan=False)


# -- the best ----------------------------------------------------------------------------------------


def best_text(view: StudyView, best: Best, folder: str, command: Command) -> str:
    """`folder`: where its checkpoint was put, "" if nowhere."""
    kept = f"in the store; to have its files: {command('best')} --to DIR" if best.checkpoint else ""
    best = replace(best, checkpoint=folder or kept)
    first, *rest = best_lines(replace(view, best=best))
    return "\n".join([f"{first}{'' if view.finished else '. The study has not ended.'}", *rest])


def best_json(view: StudyView, best: Best, folder: str) -> str:
    """study, objective, mode, unit, ended (why, or null), trial, value, resource, config, metrics,
    checkpoint (the URI of its manifest, or null), folder (where its files were put, or null).
    """
    result = {
        "study": view.study, "objective": view.objective, "mode": view.mode, "unit": view.unit,
        "ended": view.finished or None, "trial": best.trial, "value": best.value, "resource": best.resource,
        "config": dict(best.config), "metrics": dict(best.metrics), "checkpoint": best.checkpoint or None,
        "folder": folder or None,
    }  # fmt: skip
    return json.dumps(finite(result), indent=2, ensure_ascii=False, allow_nan=False)
