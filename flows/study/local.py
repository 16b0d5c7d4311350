"""What a study needs of this machine, told before anything starts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from flows.study.file import Problem
from flows.study.model import Study
from flows.study.words import shown
from operators.processes import training_environment

# Options of interpreters that take a value, and those after which no script comes.
_WITH_VALUE = {
    "python": {"-W", "-X", "--check-hash-based-pycs"},
    "bash": {"-o", "-O", "--rcfile", "--init-file"},
}
_NO_SCRIPT = {"python": {"-c", "-m", "-"}, "perl": {"-e", "-E"}, "Rscript": {"-e"}, "node": {"-e", "-p"}}
_NO_SCRIPT |= {"julia": {"-e", "-E"}, "ruby": {"-e"}, "bash": {"-c", "-s"}, "sh": {"-c", "-s"}}


def local_problems(study: Study) -> list[Problem]:
    """Why its command cannot run here; empty when it can. Looks at the file system and at PATH only."""
    workdir = Path(study.workdir).expanduser()
    if not study.command:
        return [
            _problem("command", "is missing; here a trial is a process, an image runs with --on kubernetes")
        ]
    if not workdir.is_dir():
        return [_problem("workdir", f"{study.workdir} is no folder")]
    return [*_program_problems(study, workdir), *_script_problems(study, workdir)]


def _program_problems(study: Study, workdir: Path) -> list[Problem]:
    program = study.command[0]
    if "/" in program:
        file = workdir / program
        if not file.is_file():
            return [_problem("command[0]", f"there is no file {shown(program)} in {workdir}")]
        if not os.access(file, os.X_OK):
            return [_problem("command[0]", f"{file} is not executable; chmod +x it, or name an interpreter")]
    elif shutil.which(program, path=study.env.get("PATH", _path())) is None:
        return [_problem("command[0]", f"{shown(program)} is not found on PATH{_instead(program, workdir)}")]
    return []


def _path() -> str | None:
    """As the agent will have it: `python` may be on no PATH but beside the interpreter that runs us."""
    return training_environment(os.environ, {}, Path(), None).get("PATH")


def _instead(program: str, workdir: Path) -> str:
    if (workdir / program).is_file():
        return f"; for the file in {workdir} write './{program}'"
    other = {"python": "python3", "python3": "python"}.get(program)
    return f"; there is {other!r}" if other and shutil.which(other) else ""


def _script_problems(study: Study, workdir: Path) -> list[Problem]:
    place = script_place(study.command)
    if place is None or (workdir / study.command[place]).exists():
        return []
    return [_problem(f"command[{place}]", f"there is no file {shown(study.command[place])} in {workdir}")]


def script_place(command: Sequence[str]) -> int | None:
    """Where a command names its interpreter's script; None when there is none, or we do not know."""
    interpreter = re.sub(r"[\d.]+$", "", Path(command[0]).name)
    if interpreter not in _NO_SCRIPT:
        return None
    skip = False
    for place, text in enumerate(command[1:], start=1):
        if text in _NO_SCRIPT[interpreter]:
            return None
        if not skip and not text.startswith("-"):
            return place
        skip = text in _WITH_VALUE.get(interpreter, ())
    return None


def _problem(path: str, message: str) -> Problem:
    return Problem(path, None, message)
