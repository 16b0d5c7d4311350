"""Whether a pass of the loop costs more the more trials have finished: 200 running, thousands behind them.

    python -m benchmarks.growth --legs 6000

A directory as store and attempts that end when they are told to, so that only our own work is counted.
`benchmarks.cluster_scale` measures the same with real Jobs.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks._controller import resident_mib
from benchmarks._report import Figure, parser, publish
from benchmarks.passes import Idle, study
from flows.controller.run import current_view
from flows.controller.session import Session, open_study
from hpo_engine.types import AttemptEnded, Outcome, Report
from operators.attempt import Observed, encode_report, report_key
from operators.store import DirectoryStore, Store

LIVE = 200
AGED = 0.15  # parts of the legs that are compared: the first, and the last


@dataclass(frozen=True, slots=True)
class Pass:
    cpu: float  # seconds
    mib: float


def one_leg(session: Session, store: Store, world: Idle, chance: random.Random) -> Pass:
    """The end of one attempt, and the pass that hears of it."""
    key = chance.choice([key for key, seen in world.attempts.items() if seen.running])
    trial = session.controller.history.trials[key[0]]
    report = Report(*key, trial.until, {"loss": chance.random()}, checkpoint=True)
    store.put(report_key("wide", report), encode_report(report))
    end = AttemptEnded(*key, Outcome.OK, units=trial.until - trial.resource, seconds=1.0)
    world.attempts[key] = Observed(False, end)
    began = time.thread_time()
    follow(session)
    return Pass(time.thread_time() - began, resident_mib())


def follow(session: Session) -> None:
    """A pass, as `flows.controller.run` makes it."""
    events, _ = session.controller.step()
    for event in events:
        session.watch.saw(event, 0.0)
    current_view(session.controller, session)
    session.watch.legs()


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--legs", type=int, default=6000)
    legs: int = arguments.parse_args().legs
    with TemporaryDirectory() as root:
        store, world, chance = DirectoryStore(Path(root)), Idle(), random.Random(1)
        session = open_study(study().model_copy(update={"workers": LIVE}), store, world)
        follow(session)
        passes = [one_leg(session, store, world, chance) for _ in range(legs)]
    part = round(legs * AGED)
    first, last = (median(one.cpu for one in some) for some in (passes[:part], passes[-part:]))
    figures = [
        Figure("running trials", LIVE, ""),
        Figure("legs that ended", legs, ""),
        Figure("pass, CPU, early", first * 1e3, "ms"),
        Figure("pass, CPU, late", last * 1e3, "ms", most=first * 1e3 * 1.3),
        Figure(
            "memory, for 1,000 legs", (passes[-1].mib - passes[part].mib) / (legs - part) * 1e3, "MiB", most=5
        ),
    ]
    return publish(figures, as_json=arguments.parse_args().json)


if __name__ == "__main__":
    sys.exit(main())
