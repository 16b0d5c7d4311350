"""The command `abohb`: docs/commands.md. Exit codes: `flows.cli.words`."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.look import add_commands as add_looking
from flows.cli.steer import add_commands as add_steering
from flows.cli.submit import add_commands as add_submitting
from flows.cli.words import CODES, FAILED, INTERRUPTED, LEFT, OK, OWNED, UNUSABLE, WRONG, command_line
from hpo_engine.types import AbohbError

if TYPE_CHECKING:  # a command starts faster without what it does not use
    from collections.abc import Callable
    from typing import TextIO

    from flows.controller.places import Place
    from flows.controller.session import Replayed
    from flows.views.view import StudyView


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors that are the user's are one message on stderr."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = None
    try:
        arguments = _parser(simulate="simulate" in argv).parse_args(argv)
        return int(arguments.run(arguments))
    except AbohbError as error:
        print(error, file=sys.stderr)
        return _code(error)
    except KeyboardInterrupt:
        again = (
            f" The same command goes on where it was: {command_line(arguments, 'tune')}"
            if arguments is not None and arguments.run is _tune
            else ""
        )
        print(f"abohb: interrupted.{again}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone; the interpreter must not flush into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    except OSError as error:
        print(f"abohb: {error}", file=sys.stderr)
        return UNUSABLE


def _parser(*, simulate: bool = True) -> argparse.ArgumentParser:
    """`simulate`: with the options of that command, which take a second to import."""
    parser = argparse.ArgumentParser(
        prog="abohb",
        description="Tune hyper-parameters by asynchronous BOHB.",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tune = commands.add_parser(
        "tune", help="tune a study; the same command again goes on, or shows the result"
    )
    tune.add_argument("study", type=Path, help="the study file (docs/study-file.md)")
    tune.add_argument(
        "--take-over", action="store_true", help="also when another controller is at work on it"
    )
    tune.add_argument("--json", action="store_true", help="print nothing but the result, as one JSON object")
    _add_place(tune, "local", "processes of this machine (default), or Jobs of a cluster")
    tune.set_defaults(run=_tune)
    check = commands.add_parser("check", help="validate a study file and show what would run")
    check.add_argument("study", type=Path, help="the study file")
    check.add_argument("--json", action="store_true", help="as one JSON object")
    _add_place(check, None, "kubernetes: ask the cluster and the store as well, leaving nothing behind")
    check.set_defaults(run=_check)
    add_submitting(commands)
    add_looking(commands)
    add_steering(commands)
    simulation = commands.add_parser("simulate", help="replay recorded learning curves through a method")
    if simulate:
        _add_simulate(simulation)
    simulation.set_defaults(run=_simulate)
    helper = commands.add_parser("helper", help="print the one-file Python helper for training code")
    helper.set_defaults(run=_helper)
    return parser


def _add_place(command: argparse.ArgumentParser, default: str | None, words: str) -> None:
    command.add_argument("--on", choices=("local", "kubernetes"), default=default, help=words)
    command.add_argument(
        "--context", help="the kube context to use; else the current one, or the cluster around us"
    )


def _tune(arguments: argparse.Namespace) -> int:
    from flows.controller.places import place_for
    from flows.controller.run import ended_view
    from flows.controller.session import ended
    from flows.study.file import StudyError, load_study
    from flows.views.report import result_json, result_text
    from operators.lease import check_free

    study = load_study(arguments.study)
    say = _say(sys.stderr if arguments.json else sys.stdout)
    try:
        place = place_for(study, arguments.on, context=arguments.context)
        replayed = _replayed(place)
        over = ended(study, replayed)
        if not over:
            place.check()
    except StudyError as error:
        raise StudyError(error.problems, str(arguments.study)) from None
    if over:
        view, code = ended_view(place, replayed), OK
    else:
        # Before Prefect, which takes its time to start and would show a run that never ran.
        if not arguments.take_over:
            check_free(place.store, study.name, time.sleep)
        answer = _run(place, arguments, say)
        if answer is None:
            say(f"Told to end: trials of {study.name} run on, and the same command adopts them.")
            return LEFT
        view, code = answer
    view = dataclasses.replace(view, again=command_line(arguments, "tune"))
    print(
        result_json(view) if arguments.json else "\n" + result_text(view), end="\n" if arguments.json else ""
    )
    return code


def _run(
    place: Place, arguments: argparse.Namespace, say: Callable[[str], None]
) -> tuple[StudyView, int] | None:
    """The study as it ended, and the exit code. None: we were told to end, and its trials run on."""
    from prefect.exceptions import TerminationSignal

    from flows.cli.display import display_for
    from flows.tune import tune_in_prefect

    try:
        with closing(display_for(quiet=arguments.json)) as display:
            view, ending, lost = tune_in_prefect(place, [display], take_over=arguments.take_over, say=say)
    except TerminationSignal:
        return None
    if lost:
        say(lost)
    if not ending.final:
        say(f"Study {place.study.name} was {ending.reason}.")
    return view, INTERRUPTED if not ending.final else FAILED if ending.failed else OK


def _replayed(place: Place) -> Replayed:
    """Its journal; a store that refuses us is named together with all else that is wrong."""
    from flows.controller.session import replay
    from operators.store import StoreError

    try:
        return replay(place.study, place.store)
    except StoreError:
        place.check()
        raise


def _check(arguments: argparse.Namespace) -> int:
    import json

    from flows.study.file import StudyError, load_study
    from flows.study.local import local_problems
    from flows.study.summary import check_summary, render_summary

    study = load_study(arguments.study)
    try:
        if arguments.on == "kubernetes":
            from flows.controller.places import place_for

            place_for(study, arguments.on, context=arguments.context).check()
        elif not study.for_a_cluster and (problems := local_problems(study)):
            raise StudyError(problems)
    except StudyError as error:
        raise StudyError(error.problems, str(arguments.study)) from None
    summary = check_summary(study)
    print(json.dumps(dataclasses.asdict(summary), default=str) if arguments.json else render_summary(summary))
    return OK


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    from flows.simulate.command import add_arguments

    add_arguments(parser)


def _simulate(arguments: argparse.Namespace) -> int:
    from flows.simulate.command import run

    return run(arguments)


def _helper(arguments: argparse.Namespace) -> int:
    found = importlib.util.find_spec("abohb_trial")
    if found is None or found.origin is None:
        raise OSError("the module abohb_trial is not installed beside this command")
    print(Path(found.origin).read_text(), end="")
    return OK


def _say(stream: TextIO) -> Callable[[str], None]:
    return lambda line: print(line, file=stream, flush=True)


def _code(error: AbohbError) -> int:
    from flows.controller.backend import AwayError
    from operators.journal import Fenced, JournalError
    from operators.lease import Owned
    from operators.store import StoreError

    if isinstance(error, (Owned, Fenced)):
        return OWNED
    return UNUSABLE if isinstance(error, (JournalError, StoreError, AwayError)) else WRONG


if __name__ == "__main__":
    sys.exit(main())
