"""Why nothing was started, for people who look at Prefect."""

from __future__ import annotations

import html
import re

from flows.study.file import StudyError
from hpo_engine.types import AbohbError

BEGINNING = "mistakes: "  # of the message of a run that was never begun
STUCK = "It does not go on"
SHOWN = 50


def mistakes_message(error: AbohbError, *, begun: bool = False) -> str:
    """The message of the failed run: all of them in one line. `begun`: it has run before."""
    return (f"{STUCK}: " if begun else BEGINNING) + "; ".join(
        line.strip() for line in str(error).splitlines() if line.strip()
    )


def mistakes_markdown(error: AbohbError, *, begun: bool = False) -> str:
    """The artifact of the failed run: a table of where and what."""
    if isinstance(error, StudyError):
        rows = [(problem.path, problem.message) for problem in error.problems]
    else:
        rows = [("", line.strip()) for line in str(error).splitlines() if line.strip()]
    count = "1 mistake" if len(rows) == 1 else f"{len(rows)} mistakes"
    what = STUCK if begun else "Nothing was started"
    lines = [f"# {what}: {count}", "", "| where | what |", "|---|---|"]
    lines += [f"| {_cell(where)} | {_cell(what)} |" for where, what in rows[:SHOWN]]
    if len(rows) > SHOWN:
        lines.append(f"| | … and {len(rows) - SHOWN} more |")
    return "\n".join([*lines, "", "Run the deployment again, with these fields put right."])


def _cell(text: str) -> str:
    """As it stands: a user's words are no markdown, and no HTML."""
    plain = html.escape(" ".join(text.split())[:1000], quote=False)
    return re.sub(r"([\\`*_{}\[\]|~#!])", r"\\\1", plain)
