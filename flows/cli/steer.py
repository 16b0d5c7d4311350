"""The commands that steer a study: stop, pause, resume, set and cancel."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flows.cli.words import FAILED, OK, Commands, add_command, command_line, looked_at
from hpo_engine.types import AbohbError

if TYPE_CHECKING:
    from flows.outside.look import Looked
    from flows.outside.steering import Answer

WAIT = 30.0  # seconds; more than it takes to see that an owner on another host is dead


def add_commands(commands: Commands) -> None:
    stop = add_command(commands, "stop", _stop, "end its trials and its controller; `tune` goes on later")
    pause = add_command(commands, "pause", _pause, "trials end after their next report, and none begins")
    resume = add_command(commands, "resume", _resume, "go on after a pause")
    change = add_command(commands, "set", _set, "change a setting while it runs: workers=N")
    change.add_argument(
        "setting", metavar="workers=N", help="fewer than run: the newest pause at their next report"
    )
    cancel = add_command(commands, "cancel", _cancel, "end one trial for good; the study goes on without it")
    cancel.add_argument("trial", type=int, metavar="TRIAL", help="its number, as `abohb trials` shows it")
    for command in (stop, pause, resume, change, cancel):
        command.add_argument(
            "--wait",
            type=_seconds,
            default=WAIT,
            metavar="SECONDS",
            help=f"until its controller has done so ({WAIT:g})",
        )


def _stop(arguments: argparse.Namespace) -> int:
    from flows.outside.steering import CLOCKS, let_go, withdraw

    looked = looked_at(arguments)
    name, tune = looked.study.name, command_line(arguments, "tune")
    answer = None if looked.history.finished else _ask(looked, "stopped", 1, arguments)
    if answer is None or (not answer.folded and answer.owner.alive is False):
        if answer:
            withdraw(looked.store, answer)
        print(f"{_standing(looked)} There is nothing to stop.")
        return OK
    if not answer.folded:
        return _not_taken(answer, arguments)
    print(f"Study {name} stops: its trials are being ended.", flush=True)
    if not let_go(looked.store, name, wait=arguments.wait, clocks=CLOCKS):
        print(f"After {arguments.wait:g} s some of them are still there; its controller waits for them.")
        return FAILED
    print(f"Study {name} has stopped. To go on: {tune}")
    return OK


def _pause(arguments: argparse.Namespace) -> int:
    return _steer(arguments, "paused", 1)


def _resume(arguments: argparse.Namespace) -> int:
    return _steer(arguments, "paused", 0)


def _set(arguments: argparse.Namespace) -> int:
    return _steer(arguments, "workers", _workers(arguments))


def _cancel(arguments: argparse.Namespace) -> int:
    from flows.controller.balance import uncancellable

    looked = looked_at(arguments)
    if problem := "" if looked.history.finished else uncancellable(looked.history, arguments.trial):
        raise AbohbError(f"cancel: {problem}")
    return _steer(arguments, "cancel", arguments.trial)


def _steer(arguments: argparse.Namespace, setting: str, value: int) -> int:
    looked = looked_at(arguments)
    if looked.history.finished:
        print(f"{_standing(looked)} It cannot be steered any more.")
        return FAILED
    before = looked.history.settings.get("workers", looked.study.workers)
    answer = _ask(looked, setting, value, arguments)
    if answer.folded:
        looked.read_on()
        print(_done(looked, setting, before, arguments))
        return OK
    if answer.owner.alive is False:
        print(
            f"{_standing(looked)} This takes effect when it is tuned again: {command_line(arguments, 'tune')}"
        )
        return OK
    return _not_taken(answer, arguments)


def _ask(looked: Looked, setting: str, value: int, arguments: argparse.Namespace) -> Answer:
    from flows.outside.steering import CLOCKS, steer

    return steer(looked.store, looked.study.name, setting, value, wait=arguments.wait, clocks=CLOCKS)


def _standing(looked: Looked) -> str:
    name, finished = looked.study.name, looked.history.finished
    return (
        f"Study {name} has ended: {finished.reason}." if finished else f"Nobody is tuning study {name} now."
    )


def _done(looked: Looked, setting: str, before: int, arguments: argparse.Namespace) -> str:
    from flows.outside.steering import draining
    from flows.views.report import plural

    history, name = looked.history, looked.study.name
    if setting == "cancel":
        return f"Trial {arguments.trial} of study {name} is cancelled."
    ends = draining(history)
    if history.settings.get("paused"):
        return f"Study {name} is paused.{ends} To go on: {command_line(arguments, 'resume')}"
    if setting == "paused":
        return f"Study {name} goes on with {plural(looked.workers, 'worker')}."
    return f"Study {name} has {plural(looked.workers, 'worker')} now, {before} before.{ends}"


def _not_taken(answer: Answer, arguments: argparse.Namespace) -> int:
    print(
        f"Asked for, but {answer.owner.where} has not taken it within {arguments.wait:g} s."
        f" It will when it looks at the store again; see {command_line(arguments, 'status')}"
    )
    return FAILED


def _workers(arguments: argparse.Namespace) -> int:
    """AbohbError: what came is not workers=N."""
    from flows.study.words import near, nearest

    name, equals, text = (part.strip() for part in arguments.setting.partition("="))
    if name != "workers":
        rest = "; workers can. For the rest: stop the study, change it in the study file, tune it again"
        guess = nearest(name, ["workers"]) if near(name, ["workers"]) else rest
        raise AbohbError(f"set: {name!r} cannot be changed while a study runs{guess}")
    if not equals or not text.isdecimal() or int(text) < 1:
        zero = f"; to run none: {command_line(arguments, 'pause')}" if text == "0" else ""
        raise AbohbError(f"set: got {arguments.setting!r}, expected workers=N with N at least 1{zero}")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: seconds from 0 on")
    return value
