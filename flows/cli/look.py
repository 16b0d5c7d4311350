"""The commands that look at a study, from anywhere that reaches its store."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.words import FAILED, OK, Commands, add_command, command_line, looked_at
from hpo_engine.types import AbohbError, Status, Trial

if TYPE_CHECKING:
    from flows.outside.fetch import Output
    from flows.outside.look import Looked
    from operators.lease import Lookout, Owner

PAPER = (100, 60)  # columns and lines where there is no terminal
SILENCE = 7.0  # seconds: a heart beats more often
EVERY = 1.0  # seconds between looks of those who watch


def add_commands(commands: Commands) -> None:
    status = add_command(commands, "status", _status, "what a study is doing")
    status.add_argument(
        "--watch", action="store_true", help="go on until it ends, or nobody tunes it any more"
    )
    trials = add_command(commands, "trials", _trials, "a table of its trials")
    trials.add_argument(
        "--status",
        action="append",
        default=[],
        help=f"only those that are so: {', '.join(Status)}; may be repeated",
    )
    best = add_command(commands, "best", _best, "its best configuration")
    best.add_argument(
        "--to", type=Path, metavar="DIR", help="put the files of its checkpoint into a new folder"
    )
    for command in (status, trials, best):
        command.add_argument("--json", action="store_true", help="as one JSON object")
    logs = add_command(commands, "logs", _logs, "what a trial has printed")
    logs.add_argument("trial", type=int, metavar="TRIAL", help="0, 1, 2, ...")
    logs.add_argument(
        "--attempt", type=int, metavar="N", help="1, 2, ... (the last one that has printed anything)"
    )
    logs.add_argument("--follow", action="store_true", help="go on until the attempt ends")


# -- status ------------------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> int:
    from flows.cli.look_text import headline, status_json, status_text
    from flows.outside.look import view_of
    from flows.outside.steering import pending
    from operators.lease import Lookout

    looked = looked_at(arguments)
    lookout = Lookout(looked.store, looked.study.name)
    owner = _owner(looked, lookout)
    command = partial(command_line, arguments)
    if arguments.watch:
        owner = _watched(looked, lookout, owner, command("tune"), as_json=arguments.json)
    view = view_of(looked, alive=owner.alive is not False, now=time.time(), again=command("tune"))
    asked = pending(looked.store, looked.study.name)
    if arguments.json:
        print(status_json(looked, view, owner, asked, indent=None if arguments.watch else 2))
    elif arguments.watch:
        print(headline(looked, view, owner, command))
    else:
        columns, lines = shutil.get_terminal_size() if sys.stdout.isatty() else PAPER
        print(status_text(looked, view, owner, asked, command, (columns, lines)), end="")
    return OK


def _owner(looked: Looked, lookout: Lookout) -> Owner:
    """Of an owner on another host, a heartbeat is waited for."""
    began = time.monotonic()
    while (owner := lookout.look(now := time.monotonic())).alive is None:
        if looked.history.finished or now - began > SILENCE:
            return replace(owner, alive=False)
        time.sleep(0.25)
    return owner


def _watched(looked: Looked, lookout: Lookout, owner: Owner, again: str, *, as_json: bool) -> Owner:
    """Show it until it ends, nobody tunes it any more, or we are interrupted."""
    from flows.cli.display import display_for
    from flows.cli.look_text import status_json
    from flows.outside.look import state, view_of

    with closing(display_for(quiet=as_json)) as display, suppress(KeyboardInterrupt):
        news = True
        while state(looked, alive=owner.alive is not False) not in ("ended", "failed", "interrupted"):
            view = view_of(looked, alive=True, now=time.time(), again=again)
            display.show(view, looked.replayed.watch.legs())
            if as_json and news:
                print(status_json(looked, view, owner, [], indent=None), flush=True)
            time.sleep(EVERY)
            with suppress(OSError):  # the store is away
                news = looked.read_on()
                owner = lookout.look(time.monotonic())
    return owner


# -- trials and the best -----------------------------------------------------------------------------


def _trials(arguments: argparse.Namespace) -> int:
    from flows.cli.look_text import trials_json, trials_text
    from flows.outside.look import rows, view_of

    statuses = _statuses(arguments.status)
    looked = looked_at(arguments)
    view, found = view_of(looked), rows(looked, statuses)
    if arguments.json:
        print(trials_json(view, found))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(trials_text(view, found, width), end="")
    return OK


def _statuses(words: Sequence[str]) -> frozenset[Status]:
    """AbohbError: there is no such status."""
    from flows.study.words import nearest

    known = [status.value for status in Status]
    asked = [word.strip().lower() for text in words for word in text.split(",")]
    for word in asked:
        if word not in known:
            raise AbohbError(f"--status: a trial is never {word!r}{nearest(word, known)}")
    return frozenset(map(Status, asked)) or frozenset(Status)


def _best(arguments: argparse.Namespace) -> int:
    from flows.cli.look_text import best_json, best_text
    from flows.outside.fetch import check_target, restore_best
    from flows.outside.look import view_of

    if arguments.to:
        check_target(arguments.to)
    looked = looked_at(arguments)
    view = view_of(looked)
    if (best := view.best) is None:
        print(f"Study {view.study} has no usable result yet.", file=sys.stderr)
        return FAILED
    folder, code = "", OK
    if arguments.to:
        folder = str(arguments.to.absolute())
        if not restore_best(looked.store, view.study, best, arguments.to.absolute()):
            none = "has none that is whole" if best.checkpoint else "has written none"
            print(f"Trial {best.trial} {none}: there is no checkpoint to put into {folder}.", file=sys.stderr)
            folder, code = "", FAILED
    if arguments.json:
        print(best_json(view, best, folder))
    else:
        print(best_text(view, best, folder, partial(command_line, arguments)))
    return code


# -- logs --------------------------------------------------------------------------------------------


def _logs(arguments: argparse.Namespace) -> int:
    from flows.outside.fetch import Output, kept_attempts

    looked = looked_at(arguments)
    study, trial = looked.study.name, _trial(looked, arguments)
    kept = kept_attempts(looked.store, study, trial.id)
    last = trial.attempt if arguments.follow or not kept else kept[-1]
    attempt = arguments.attempt or last
    if not 1 <= attempt <= trial.attempt:
        had = f"attempts 1 to {trial.attempt}" if trial.attempt else "no attempt yet"
        raise AbohbError(f"trial {trial.id} has had {had}; there is no attempt {attempt or 1}")
    output = Output(looked.store, study, trial.id, attempt)
    if arguments.follow or attempt in kept:
        print(f"(trial {trial.id}, attempt {attempt} of {trial.attempt})", file=sys.stderr)
    if arguments.follow:
        with suppress(KeyboardInterrupt):
            _follow(looked, output)
    _write(output.more())
    if output.empty:
        runs = looked.history.trials[trial.id].live and attempt == trial.attempt
        when = "yet: what it prints is kept every few seconds, or when it ends" if runs else ""
        others = f"; there is of attempt {', '.join(map(str, kept))}" if kept else ""
        print(
            f"Of trial {trial.id}, attempt {attempt}, no output is kept {when}".rstrip() + f"{others}.",
            file=sys.stderr,
        )
        return FAILED
    return OK


def _trial(looked: Looked, arguments: argparse.Namespace) -> Trial:
    trials, wanted = looked.history.trials, int(arguments.trial)
    if 0 <= wanted < len(trials):
        return trials[wanted]
    there = f"they are 0 to {len(trials) - 1}" if trials else "none has begun"
    raise AbohbError(f"study {looked.study.name!r} has no trial {arguments.trial}; {there}")


def _follow(looked: Looked, output: Output) -> None:
    from operators.lease import Lookout

    lookout = Lookout(looked.store, looked.study.name)
    while lookout.look(time.monotonic()).alive is not False:
        trial = looked.history.trials[output.trial]
        if not trial.live or trial.attempt != output.attempt:
            return
        _write(output.more(whole_lines=True))
        time.sleep(EVERY)
        looked.read_on()


def _write(parts: Iterable[bytes]) -> None:
    for part in parts:
        sys.stdout.buffer.write(part)
    sys.stdout.flush()
