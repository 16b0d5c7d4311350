"""What the commands have in common: exit codes, parsers, and commands as the user has to type them."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from flows.outside.look import Looked

OK, FAILED, WRONG, OWNED, INTERRUPTED, UNUSABLE = range(6)
LEFT = 143  # as a shell says SIGTERM
CODES = """\
exit codes: 0 done, or the study has ended; 1 the study failed, or there is nothing to show, or it was not
done in time; 2 wrong study file or arguments; 3 another controller has the study; 4 interrupted, cancelled
or stopped (the same command goes on); 5 the store or the cluster cannot be used now; 143 SIGTERM with
--on kubernetes: the trials run on"""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """A command on a study file."""
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="the study file")
    parser.set_defaults(run=run)
    return parser


def command_line(arguments: argparse.Namespace, name: str) -> str:
    """The command `name` for the same study, `tune` where it ran. After `make demo`, abohb is on no PATH."""
    ours = shutil.which("abohb") or ""
    known = Path(ours).resolve() == Path(sys.argv[0]).resolve() or Path(sys.argv[0]).name != "abohb"
    line = f"{'abohb' if known else sys.argv[0]} {name} {shlex.quote(str(arguments.study))}"
    if name == "tune" and getattr(arguments, "on", "local") != "local":
        line += f" --on {arguments.on}"
    if name == "tune" and getattr(arguments, "context", None):
        line += f" --context {shlex.quote(arguments.context)}"
    return line


def looked_at(arguments: argparse.Namespace) -> Looked:
    """AbohbError: the study file is wrong, or the store knows nothing of the study."""
    from flows.outside.look import look
    from flows.study.file import load_study
    from flows.study.store import open_store

    study = load_study(arguments.study)
    arguments.on = "kubernetes" if "://" in study.store else "local"
    return look(study, open_store(study))
