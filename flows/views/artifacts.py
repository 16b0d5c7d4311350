"""Views as markdown, for Prefect's artifacts. Pure functions, bounded in size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.views.pictures import best_over_time, learning_curves
from flows.views.report import (
    NOTHING,
    duration,
    finite,
    level_row,
    log_file,
    number,
    objective_first,
    percent,
    savings,
    setting,
    tally,
    where,
)
from flows.views.svg import data_uri
from flows.views.view import FailedAttempt, StudyView

LIMIT = (
    150_000  # characters of an artifact: the UI fetches all of it, and the server keeps it in its database
)
SHOWN = 100  # rows of a table
LINE, LINES = 300, 10  # characters of a log line, and how many of an attempt
QUOTED = 5  # attempts whose last lines are shown


@dataclass(frozen=True, slots=True)
class Artifact:
    """What Prefect is asked to show: `kind` is Prefect's type, `data` markdown, or a number of percent."""

    key: str
    kind: str
    data: str | float
    description: str = ""


def artifacts(view: StudyView) -> tuple[Artifact, ...]:
    """What is cheap to make; failures only once there are some."""
    name = slug(view.study)
    shown = [
        Artifact(f"{name}-progress", "progress", round(100 * view.budget.fraction, 1), view.budget.text),
        _markdown(f"{name}-summary", summary_markdown(view)),
        _markdown(f"{name}-rungs", rungs_markdown(view)),
        _markdown(f"{name}-best", best_markdown(view)),
    ]
    if view.failures:
        shown.append(_markdown(f"{name}-failures", failures_markdown(view)))
    return tuple(shown)


def pictures(view: StudyView) -> tuple[Artifact, ...]:
    """What takes some milliseconds to make; none before something was measured."""
    text = curves_markdown(view)
    return (_markdown(f"{slug(view.study)}-curves", text),) if text else ()


def _markdown(key: str, text: str) -> Artifact:
    cut = "\n\n… and more, which is not shown here.\n"
    return Artifact(key, "markdown", text if len(text) <= LIMIT else text[: LIMIT - len(cut)] + cut)


def slug(name: str) -> str:
    """A study's name as Prefect allows it in an artifact's key: lower-case letters, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "study"


# -- one artifact each -----------------------------------------------------------------------------


def summary_markdown(view: StudyView) -> str:
    busy = sum(slot.trial is not None for slot in view.workers)
    rows = [
        ("method", view.method),
        ("running for", duration(view.elapsed)),
        ("budget", view.budget.text or NOTHING),
        ("workers", f"{busy} of {len(view.workers)} busy"),
        ("trials", tally(view)),
        (f"{view.unit}s run", savings(view)),
        *_gpu_rows(view),
        (view.objective, number(view.best.value if view.best else None)),
    ]
    state = f"ended: {view.finished}" if view.finished else view.waiting or "running"
    return f"# {view.study}\n\n{cell(state)}\n\n" + table(("", ""), rows)


def _gpu_rows(view: StudyView) -> list[tuple[str, str]]:
    spent = view.spent
    if not spent.gpu_seconds:
        return []
    full = spent.gpu_seconds + spent.gpu_seconds_saved
    return [("GPU time", f"{duration(spent.gpu_seconds)}, instead of {duration(full)} at full length: "
             f"{percent(spent.gpu_seconds_saved / full)} saved by early stopping")]  # fmt: skip


def rungs_markdown(view: StudyView) -> str:
    header = (view.unit, "recorded", "kept", "running", f"best {view.objective}")
    rows = table(header, [level_row(level) for level in view.levels])
    return f"# Rungs of {view.study}\n\n{rows}\n{KEPT}\n"


KEPT = (
    "Recorded: trials that have reported there. Kept: of these, promoted or not stopped. Running: on the way."
)


def best_markdown(view: StudyView) -> str:
    if view.best is None:
        return f"# Best of {view.study}\n\nNothing has been measured yet.\n"
    best = view.best
    config = table(("hyper-parameter", "value"), [(name, setting(v)) for name, v in best.config.items()])
    metrics = table(
        ("metric", "value"), [(name, number(v)) for name, v in objective_first(view, best)][:SHOWN]
    )
    exact = json.dumps(finite(dict(best.config)), ensure_ascii=False)
    saved = f"\nCheckpoint: `{best.checkpoint}`\n" if best.checkpoint else ""
    return (
        f"# Best of {view.study}\n\n{where(view, best)}\n\n{config}\n"
        f"All digits, to copy:\n\n{fenced(exact, 'json')}\n{metrics}{saved}"
    )


def curves_markdown(view: StudyView) -> str:
    shown = (("Learning curves", learning_curves(view)), ("Best over time", best_over_time(view)))
    return "\n\n".join(f"![{name}]({data_uri(picture)})" for name, picture in shown if picture)


def failures_markdown(view: StudyView) -> str:
    """How many of each class, and the newest ones; of a few what they printed last."""
    totals = [(failures.outcome.value, str(failures.count)) for failures in view.failures]
    newest = view.failed[::-1]
    rows = [
        (clock(end.at), f"{end.trial} / {end.attempt}", end.outcome.value, duration(end.seconds),
         end.message[:LINE] or NOTHING, (end.log.splitlines() or [NOTHING])[-1][:LINE])
        for end in newest
    ]  # fmt: skip
    parts = [f"# Failures of {view.study}", table(("class", "attempts"), totals)]
    if rows:
        parts += [
            "## The newest ones",
            table(("when (UTC)", "trial / attempt", "class", "after", "message", "last line"), rows),
        ]
    parts += [_logged(end, view.store) for end in [end for end in newest if end.log][:QUOTED]]
    return "\n\n".join(parts)


def _logged(end: FailedAttempt, store: str) -> str:
    lines = [line if len(line) <= LINE else line[:LINE] + "…" for line in end.log.splitlines()[-LINES:]]
    title = f"### Trial {end.trial}, attempt {end.attempt}: {end.outcome.value}"
    whole = f" All of it: `{log_file(store, end.trial, end.attempt)}`" if store else ""
    return f"{title}\n\nThe last lines that it printed.{whole}\n\n{fenced(chr(10).join(lines))}"


# -- markdown --------------------------------------------------------------------------------------


def clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%b %d %H:%M:%S")


def fenced(text: str, language: str = "") -> str:
    """Text as it is, whatever fences it has of its own."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell(text) for text in line)} |\n" for line in lines)


def cell(text: str) -> str:
    """User's text that cannot break out of its cell, nor be read as HTML, a link or a picture."""
    for letter, instead in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(letter, instead)
    return " ".join(text.split())
