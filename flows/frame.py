"""One picture of a study, for a terminal of a given size."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.report import NOTHING, duration, level_row, number, percent, setting, where
from flows.view import Slot, StudyView

NARROW = 76  # columns below which the rungs go under the workers
FIXED = 9  # lines besides the rows of the tables: title, budget, headers, best, spaces


def frame(view: StudyView, width: int, height: int) -> RenderableType:
    """At most `height` lines: rows of workers give way first."""
    side_by_side = width >= NARROW
    rungs = 0 if side_by_side else len(view.levels) + 2
    room = max(3, height - FIXED - rungs)
    workers, levels = worker_table(view, room), level_table(view, room)
    if side_by_side:
        tables = Table.grid(padding=(0, 3))
        tables.add_row(workers, levels)
    else:
        tables = Group(workers, Text(), levels)
    return Group(title(view, width), budget(view, width), Text(), tables, Text(), *best(view))


def title(view: StudyView, width: int) -> Text:
    counts = view.counts
    states = [(counts.running, "running"), (counts.paused, "paused"), (counts.completed, "completed"),
              (counts.stopped, "stopped")]  # fmt: skip
    line = Text(no_wrap=True, overflow="ellipsis", end="\n")
    line.append(view.study, style="bold").append(f"  {view.method}  {duration(view.elapsed)}  ")
    line.append(f"{counts.started} trials: " + ", ".join(f"{count} {word}" for count, word in states if count))
    if counts.failed:
        line.append(f", {counts.failed} failed", style="red")
    line.truncate(width, overflow="ellipsis")
    return line


def budget(view: StudyView, width: int) -> RenderableType:
    words = Text(f"{view.budget.text}   {view.units} {view.unit}s run, {percent(view.saved)} saved", no_wrap=True)
    bar = ProgressBar(total=1.0, completed=view.budget.fraction, width=max(10, min(30, width - len(words) - 3)))
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
    return f"{slot.trial}{again}", f"{slot.resource}/{slot.until}", Text(status, style="dim"), number(slot.value)


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


def best(view: StudyView) -> list[RenderableType]:
    if view.best is None:
        return [Text(view.waiting or "Nothing has been measured yet.", style="dim", no_wrap=True)]
    said = Text(no_wrap=True, overflow="ellipsis")
    said.append("Best: ", style="bold").append(f"{view.objective} {number(view.best.value)}", style="bold green")
    said.append(f", {where(view, view.best)}")
    config = "  ".join(f"{name}={setting(value)}" for name, value in view.best.config.items())
    lines: list[RenderableType] = [said, Text(config, style="dim", overflow="ellipsis")]
    if view.waiting:
        lines.append(Text(f"Waiting: {view.waiting}", style="dim", no_wrap=True, overflow="ellipsis"))
    return lines
