"""Kill everything at random for a while, and see that nothing is lost.

A real local study of the default method, whose controllers, agents and training processes are SIGKILLed at
random times; then, for as long, simulated studies with a crash at a random write of the store and
with messages late and repeated. The invariants of tests/flows/invariants.py must hold on every journal.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._report import Figure, keep, parser, publish
from flows.study.store import open_store
from hpo_engine.types import AttemptEnded, Report, Start
from tests.flows.invariants import check_journal
from tests.flows.real_study import controller, trial_processes, write_study
from tests.flows.stand_ins import MemoryStore, Workers
from tests.flows.test_loop_crash import make_study, tune

METHODS = ("random", "asha", "asha-stop", "hyperband", "a-bohb")


def agents(folder: Path) -> list[int]:
    """Agents that hold the lock of a work directory below `folder`; the lock holds their process id."""
    found = []
    for lock in folder.rglob("work/*/lock"):
        with suppress(OSError, ValueError):
            found.append(int(lock.read_text()))
    return found


def real(seconds: float, chance: random.Random) -> list[Figure]:
    kills: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    with TemporaryDirectory() as name:
        folder = Path(name)
        path, study = write_study(folder, name="soak", method="a-bohb", trials=100_000)
        while time.monotonic() < deadline:
            process = controller(path)
            until = time.monotonic() + 1.5 + chance.random() * 6
            while time.monotonic() < until:
                time.sleep(chance.random() * 0.5)
                what = chance.choice(("agent", "training"))
                victims = agents(folder) if what == "agent" else trial_processes(folder)
                if victims:
                    with suppress(ProcessLookupError):
                        os.kill(chance.choice(victims), signal.SIGKILL)
                        kills[what] += 1
            assert process.poll() is None, process.communicate()
            process.kill()
            process.communicate()
            kills["controller"] += 1
        process = controller(path)
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        time.sleep(1)
        assert trial_processes(folder) == [], "training code was left behind"
        events = check_journal(study, open_store(study))
    reports = [event for event in events if isinstance(event, Report)]
    for report in reports:  # the sum is carried by checkpoints alone
        assert report.metrics["sum"] == report.resource * (report.resource + 1) / 2, report
    ends = Counter(event.outcome.value for event in events if isinstance(event, AttemptEnded))
    return [
        *(Figure(f"{what}s killed", count, "") for what, count in sorted(kills.items())),
        Figure("trials", sum(isinstance(event, Start) for event in events), ""),
        Figure("records", len(reports), ""),
        *(Figure(f"attempts ended: {outcome}", count, "") for outcome, count in sorted(ends.items())),
    ]


def simulated(seconds: float, chance: random.Random) -> list[Figure]:
    studies = crashes = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        study = make_study(chance.choice(METHODS), seed=chance.randrange(2**31), max_disruptions=2)
        store = MemoryStore(crash_at=chance.randint(1, 200), after=chance.random() < 0.5)
        workers = Workers(store, chance, fault=chance.choice((0, 0.08)), messy=chance.choice((0, 0.3)))
        _, crashed = tune(study, store, workers, survivors=chance.random() < 0.5)
        check_journal(study, store)
        studies, crashes = studies + 1, crashes + crashed
    return [Figure("simulated studies", studies, ""), Figure("crashes of their controllers", crashes, "")]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=15.0)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    given = arguments.parse_args()
    chance, seconds = random.Random(given.seed), given.minutes * 60
    figures = [Figure("seed", given.seed, ""), *real(seconds / 2, chance), *simulated(seconds / 2, chance)]
    keep("soak", given.minutes, figures)
    return publish(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
