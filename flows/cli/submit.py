"""The command `abohb submit`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from flows.cli.words import FAILED, INTERRUPTED, OK, WRONG, Commands, add_command, command_line

if TYPE_CHECKING:
    from flows.deployment.follow import Ended
    from flows.submit import Submission


def add_commands(commands: Commands) -> None:
    submit = add_command(
        commands, "submit", _submit, "hand it to the deployment `tune` at PREFECT_API_URL, and follow its run"
    )
    submit.add_argument("--detach", action="store_true", help="do not follow the run")
    submit.add_argument("--json", action="store_true", help="print nothing but the end, as one JSON object")


def _submit(arguments: argparse.Namespace) -> int:
    from flows.study.file import StudyError, load_study
    from flows.submit import submit
    from flows.ui.server import silence

    study = load_study(arguments.study)
    stream = sys.stderr if arguments.json else sys.stdout
    known: list[str] = []

    def say(line: str) -> None:
        known.append(line)
        print(line, file=stream, flush=True)

    try:
        with silence():
            submission, ended = submit(study, wait=not arguments.detach, say=say)
    except StudyError as error:
        raise StudyError(error.problems, str(arguments.study)) from None
    except KeyboardInterrupt:
        if not known:
            raise
        print(
            f"\nThe study runs on. To look again: {command_line(arguments, 'submit')}\n{known[0]}",
            file=sys.stderr,
        )
        return INTERRUPTED
    if arguments.json:
        print(json.dumps(_document(submission, ended)))
    elif ended is not None:
        print(_last(ended, command_line(arguments, "submit")))
    return _code(ended)


def _document(submission: Submission, ended: Ended | None) -> dict[str, object]:
    return {
        "study": submission.study,
        "run": str(submission.run),
        "url": submission.url,
        "joined": submission.joined,
        "state": ended.state if ended else None,
        "begun": ended.begun if ended else None,
        "message": ended.message if ended else None,
    }


def _last(ended: Ended, again: str) -> str:
    if not ended.begun:
        lines = "\n".join(f"  {line}" for line in ended.message.split("; "))
        return f"\nNothing was started:\n{lines}"
    text = f"\n{ended.state}. {ended.message}"
    return text if ended.state in ("Completed", "Failed") else f"{text}\nTo go on: {again}"


def _code(ended: Ended | None) -> int:
    if ended is None or ended.state == "Completed":
        return OK
    if not ended.begun:
        return WRONG
    return INTERRUPTED if ended.state == "Cancelled" else FAILED
