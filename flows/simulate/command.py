"""`abohb simulate`: methods against recorded curves, seeds in parallel, regret against virtual time."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

from flows.simulate.blackbox import load_blackbox
from flows.simulate.runs import Plan, check, run_all
from flows.simulate.view import Comparison, draw, figures, heading, table
from hpo_engine.methods import METHODS
from hpo_engine.simulate import HOUR, Costs, Faults
from hpo_engine.types import AbohbError

PICTURES = (".png", ".svg", ".pdf")
FULL_LENGTHS = 12.0  # the default budget, in trainings at full length: minutes for ten seeds of a-bohb


def compare(
    path: Path, methods: list[str], seeds: int, plan: Plan, processes: int | None = None
) -> Comparison:
    """Run every method with every seed. AbohbError: a file, a method or a budget that cannot be."""
    blackbox = load_blackbox(path)
    if plan.seconds is None and plan.trials is None and plan.units is None:
        plan = plan.with_seconds(FULL_LENGTHS * blackbox.full_seconds)
    check(blackbox, methods, plan)
    return Comparison(path, blackbox, plan, run_all(path, methods, seeds, plan, processes))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `abohb simulate`."""
    add, number = parser.add_argument, _number
    add("--blackbox", required=True, type=Path, metavar="FILE", help="NAME.npz, with NAME.json beside it")
    add(
        "--method",
        action="append",
        metavar="NAME",
        help=f"more than once, too: {', '.join(METHODS)} (a-bohb)",
    )
    add("--workers", type=number(int, 1), default=8, metavar="N", help="(8)")
    add("--seeds", type=number(int, 1), default=10, metavar="N", help="studies of each method (10)")
    add("--eta", type=number(int, 2), default=3, metavar="N", help="one in so many goes on at a rung (3)")
    add("--min-resource", type=number(int, 1), default=1, metavar="N", help="the lowest rung (1)")
    add("--processes", type=number(int, 1), metavar="N", help="studies at a time (all cores)")
    add("--out", type=Path, default=Path("regret.png"), metavar="FILE", help="the picture (regret.png)")
    add("--json", action="store_true", help="figures as one JSON object instead of the table")
    title = f"budget (the time of {FULL_LENGTHS:g} trainings at full length)"
    budget = parser.add_argument_group(title)
    budget.add_argument("--hours", type=number(float, 0), metavar="H", help="virtual time")
    budget.add_argument("--trials", type=number(int, 1), metavar="N", help="that are started")
    budget.add_argument("--units", type=number(int, 1), metavar="N", help="of the resource, over all trials")
    costs = parser.add_argument_group("costs in virtual seconds, and faults (none)")
    for name, text in _COSTS.items():
        most = 1.0 if name in ("fail", "duplicate") else math.inf
        costs.add_argument(f"--{name}", type=number(float, 0, most), default=0.0, metavar="X", help=text)
    costs.add_argument("--checkpoint-every", type=number(int, 0), metavar="N", help=_EVERY)


_EVERY = "units between checkpoints (only at the end of each order); 0: none, trials start over"
_COSTS = {
    "start-up": "before an attempt trains",
    "checkpoint": "to save a checkpoint, and to restore one",
    "decision": "that the controller takes for one decision",
    "notice": "until the controller sees a report, and until a trial sees a stop",
    "lost-per-hour": "rate at which running attempts are lost",
    "fail": "probability that an attempt's training code fails",
    "delay": "mean seconds that a report is late",
    "duplicate": "probability that a report comes twice",
}


def _number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    what = f"{'a whole number' if kind is int else 'a number'} of at least {low}"
    what += f" and at most {high:g}" if high < math.inf else ""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or value == math.inf:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {what}")
        return value

    return parse


def run(arguments: argparse.Namespace) -> int:
    """0: done. 2: the arguments or the files cannot be used; standard error says why."""
    methods = list(dict.fromkeys(arguments.method or ["a-bohb"]))
    try:
        if not arguments.out.resolve().parent.is_dir():  # told now, not after minutes of work
            raise NotADirectoryError(f"--out {arguments.out}: its directory does not exist")
        if arguments.out.suffix.lower() not in PICTURES:
            raise AbohbError(f"--out {arguments.out}: expected a name that ends in {', '.join(PICTURES)}")
        comparison = compare(
            arguments.blackbox, methods, arguments.seeds, _plan(arguments), arguments.processes
        )
        draw(comparison, arguments.out)
    except (AbohbError, OSError) as error:
        print(f"abohb simulate: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({**figures(comparison), "picture": str(arguments.out)}))
    else:
        print(heading(comparison), table(comparison), f"\n{arguments.out} shows it as a picture.", sep="\n")
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        workers=arguments.workers,
        eta=arguments.eta,
        low=arguments.min_resource,
        seconds=None if arguments.hours is None else arguments.hours * HOUR,
        trials=arguments.trials,
        units=arguments.units,
        costs=Costs(
            start_up=arguments.start_up,
            save=arguments.checkpoint,
            restore=arguments.checkpoint,
            decision=arguments.decision,
            notice=arguments.notice,
            stop=arguments.notice,
            checkpoint_every=arguments.checkpoint_every,
        ),
        faults=Faults(arguments.lost_per_hour, arguments.fail, arguments.delay, arguments.duplicate),
    )
