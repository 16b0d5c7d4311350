"""One picture of a study, for a terminal of a given size."""

from __future__ import annotations

import textwrap

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.views.report import NOTHING, duration, level_row, number, percent, setting, where
from flows.views.view import Slot, StudyView

NARROW = 76  # columns below which the rungs go under the workers
FIXED = 6  # lines besides the rows of the tables and the best: title, budget, header, spaces, the cursor's
CONFIG_LINES = 3


def frame(view: StudyView, width: int, height: int) -> RenderableType:
    """At most `height` lines: rows of workers give way first."""
    side_by_side = width >= NARROW
    rungs = 0 if side_by_side else len(view.levels) + 2
    footer = best(view, width)
    room = max(3, height - FIXED - rungs - len(footer))
    workers, levels = worker_table(view, room), level_table(view, room)
    tables: Table | Group
    if side_by_side:
        tables = Table.grid(padding=(0, 3))
        tables.add_row(*([workers] if view.workers else []), levels)
    else:
        tables = Group(workers, Text(), levels)
    return Group(title(view, width), budget(view, width), Text(), tables, Text(), *footer)


def title(view: StudyView, width: int) -> Text:
    counts = view.counts
    states = [(counts.paused, "paused"), (counts.completed, "completed"), (counts.stopped, "stopped")]
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(view.study, style="bold").append(f"  {view.method}  {duration(view.elapsed)}  ")
    line.append(f"{counts.started} trials: {counts.running} running")
    if counts.failed:
        line.append(f", {counts.failed} failed", style="red")
    line.append("".join(f", {count} {word}" for count, word in states if count))
    line.truncate(width, overflow="ellipsis")
    return line


def budget(view: StudyView, width: int) -> RenderableType:
    saved = f", {percent(view.saved)} saved" if view.best else ""  # before that, it is all of nothing
    words = Text(f"{view.budget.text}   {view.units} {view.unit}s run{saved}", no_wrap=True)
    bar = ProgressBar(
        total=1.0, completed=view.budget.fraction, width=max(10, min(30, width - len(words) - 3))
    )
    line = Table.grid(padding=(0, 2))
    line.add_row(bar, words)
    return line


def worker_table(view: StudyView, room: int) -> Table:
    table = head("worker", "trial", view.unit, "", view.objective)
    shown = view.workers if len(view.workers) <= room else view.workers[: room - 1]
    for index, slot in enumerate(shown):
        table.add_row(str(index), *worker_row(slot))
    if hidden := len(view.workers) - len(shown):
        table.add_row("", f"… {hidden} more", "", "", "")
    return table


def worker_row(slot: Slot) -> tuple[str | Text, ...]:
    if slot.trial is None:
        return NOTHING, "", Text(slot.status, style="dim"), ""
    again = f" #{slot.attempt}" if slot.attempt > 1 else ""
    status = "" if slot.status == "running" else slot.status
    return (
        f"{slot.trial}{again}",
        f"{slot.resource}/{slot.until}",
        Text(status, style="dim"),
        number(slot.value),
    )


def level_table(view: StudyView, room: int) -> Table:
    table = head(view.unit, "recorded", "kept", "running", "best")
    for level in view.levels[-room:]:
        table.add_row(*level_row(level))
    return table


def head(*names: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, overflow="ellipsis")
    return table


def best(view: StudyView, width: int) -> list[Text]:
    if view.best is None:
        return [one_line(view.waiting or "Nothing has been measured yet.", width)]
    said = Text("Best: ", style="bold")
    said.append(f"{view.objective} {number(view.best.value)}", style="green")
    said.append(f", {where(view, view.best)}", style="not bold")
    said.truncate(width, overflow="ellipsis")
    named = "  ".join(f"{name}={setting(value)}" for name, value in view.best.config.items())
    config = textwrap.wrap(named, width, max_lines=CONFIG_LINES, placeholder=" …", break_on_hyphens=False)
    lines = [said, *(Text(line, style="dim") for line in config)]
    return [*lines, *([one_line(f"Waiting: {view.waiting}", width)] if view.waiting else [])]


def one_line(words: str, width: int) -> Text:
    line = Text(words, style="dim")
    line.truncate(width, overflow="ellipsis")
    return line
