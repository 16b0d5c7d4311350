"""Whatever can befall studies on a cluster, at random, for a while; and see that nothing is lost.

    KUBECONFIG=... ABOHB_TEST_REGISTRY=... ABOHB_TEST_TAG=... python -m benchmarks.chaos --minutes 20

One study of quick trials after the other. Meanwhile pods are deleted and evicted, Jobs suspended, nodes
cordoned, the object storage and, if ABOHB_TEST_STOP_API says how, the API server stopped, and the controller
is killed. After each study all must hold that tests/cluster/test_faults.py asks for. The variables are those
of tests/cluster/README.md. It disturbs whatever else runs on the cluster.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect.settings import temporary_settings

from benchmarks._cluster import Counted, counted, kubeconfig, own_namespace, quantile
from benchmarks._report import Figure, keep, parser, publish
from flows.study.model import Study
from flows.ui.child import Server
from hpo_engine.types import Event, Report, Start
from operators.journal import Journal
from operators.kube.settings import selector
from operators.store import Store
from tests.cluster.aftermath import (
    check_blame,
    check_logs,
    check_losses,
    check_pods,
    check_reports,
    ends,
    unwatched,
    wasted,
)
from tests.cluster.desk import Desk
from tests.cluster.faults import Fault, Faults
from tests.cluster.keeper import Keeper, kept
from tests.cluster.kit import minio_in, missing, until
from tests.cluster.sleeper import sleeper
from tests.cluster.watched import Key, watched

TRIALS = 30
LIFE = 3.0, 60.0  # seconds of a controller
OUTAGE = 3.0, 40.0
END = 600.0  # seconds for a study to end once it is left in peace


@dataclass
class Tally:
    """Of all studies together."""

    studies: int = 0
    trials: int = 0
    epochs: int = 0
    exits: int = 0  # controllers that found the store or the API away when they started
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    wasted: list[int] = field(default_factory=list)  # epochs, by attempt that was disrupted
    recovery: dict[str, list[float]] = field(default_factory=dict)  # seconds, by kind of fault
    logs: int = 0
    calls: int = 0  # of the API, but for fetches of logs

    def figures(self) -> Iterator[Figure]:
        attempts = sum(self.outcomes.values())
        yield Figure("studies", self.studies, "")
        yield Figure("trials", self.trials, "")
        yield Figure("epochs", self.epochs, "")
        for kind, count in sorted(self.faults.items()):
            yield Figure(kind, count, "times")
        yield Figure("controllers that found something away", self.exits, "")
        for outcome, count in sorted(self.outcomes.items()):
            yield Figure(f"attempts ended: {outcome}", count, "")
        yield Figure("epochs run again", sum(self.wasted), "")
        yield Figure("epochs run again per disruption", sum(self.wasted) / max(1, len(self.wasted)), "")
        yield Figure("epochs run again, at most", max(self.wasted, default=0), "")
        yield Figure("logs kept", self.logs, "")
        yield Figure("API calls", self.calls, "")
        yield Figure("API calls per attempt, logs apart", self.calls / max(1, attempts), "")
        for kind, seconds in sorted(self.recovery.items()):
            yield Figure(f"recovery after {kind}, median", quantile(seconds, 0.5), "s")
            yield Figure(f"recovery after {kind}, longest", max(seconds), "s")


def befall(faults: Faults, server: Counted, tally: Tally) -> None:
    """One fault. A server that is stopped forgets what it has counted."""
    chance = faults.chance
    blows = [*3 * [faults.delete_pod], *3 * [faults.evict_pod], *2 * [faults.suspend_job]]
    outages = [faults.cordon_for, faults.stop_store, *([faults.stop_api] if faults.can_stop_api else [])]
    if chance.random() < len(blows) / (len(blows) + len(outages)):
        chance.choice(blows)()
        return
    outage = chance.choice(outages)
    if outage == faults.stop_api:
        tally.calls += server.calls()
    outage(chance.uniform(*OUTAGE))


def one_study(desk: Desk, number: int, deadline: float, server: Counted, seed: int, tally: Tally) -> None:
    chance = random.Random(f"{seed} {number}")
    changes = {
        "name": f"chaos-{number}",
        "budget": {"trials": TRIALS},
        "resource": {"min": 4, "max": 36},
        "space": {"kind": {"values": ["good", "fine", "nice", "greedy", "broken"]}},
        "seed": chance.randrange(2**31),
        "kubernetes": {"grace": 3},
    }
    path, study = sleeper(desk, changes)
    store = desk.minio.open(study)
    faults = Faults(desk, study, store, chance)
    keeper = Keeper(desk, path, random.Random(chance.random()), sys.maxsize, LIFE)
    with watched(desk.cluster, selector(study.name)) as pods, kept(keeper):
        while time.monotonic() < deadline and not keeper.over:
            time.sleep(chance.uniform(0.5, 15.0))
            befall(faults, server, tally)
            assert keeper.unexcused(faults.done) == []
        keeper.kills = 0  # in peace from now on
        keeper.wait(END)
    until("nothing is left", lambda: not desk.cluster.left(), 90, every=1.0)
    events = desk.events(study)
    check_losses(events)
    check_pods(study, store, events, pods)
    check_reports(study, store, events)
    check_blame(study, store)
    assert sum(isinstance(event, Start) for event in events) == TRIALS
    excused = unwatched(faults.done, keeper.absences)
    tally.logs += len(check_logs(study, store, pods, excused=excused))
    count(study, store, events, faults, keeper, tally)


def count(
    study: Study, store: Store, events: Sequence[Event], faults: Faults, keeper: Keeper, tally: Tally
) -> None:
    tally.studies += 1
    tally.trials += TRIALS
    tally.epochs += sum(end.units for end in ends(events))
    tally.exits += len(keeper.exits)
    tally.outcomes.update(end.outcome.value for end in ends(events))
    tally.wasted += wasted(events).values()
    for fault in [*faults.done, *keeper.killed]:
        tally.faults[fault.kind] += 1
        if (seconds := recovery(study, store, fault)) is not None:
            tally.recovery.setdefault(fault.kind, []).append(seconds)


def recovery(study: Study, store: Store, fault: Fault) -> float | None:
    """Seconds until the trial that it hit reports again, or else until anything is journalled."""
    for batch in Journal(store, study.name).read():
        if batch.time < fault.ended:
            continue
        if fault.hit is None or any(_later(event, fault.hit) for event in batch.events):
            return batch.time - fault.ended
    return None


def _later(event: Event, hit: Key) -> bool:
    """Whether it is a report of a later attempt of the same trial."""
    return isinstance(event, Report) and event.trial == hit[0] and event.attempt > hit[1]


@contextmanager
def desks() -> Iterator[tuple[Desk, Counted]]:
    """All that studies need."""
    with TemporaryDirectory() as name, own_namespace() as cluster, minio_in(cluster, lasting=True) as minio:
        folder = Path(name)
        minio.client().make_bucket(bucket_name="chaos")
        url = f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
        with temporary_settings(
            updates={"server.database.connection_url": url}, restore_defaults={"api.url"}
        ):
            prefect = Server(within=120)
        environment = {
            **minio.environment(),
            "KUBECONFIG": str(kubeconfig(cluster, folder)),
            "PREFECT_API_URL": prefect.url,
        }
        desk = Desk(folder, cluster, minio, "chaos", environment, [])
        try:
            with counted(cluster) as server:
                yield desk, server
        finally:
            desk.close()
            prefect.stop()


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=20.0)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    given = arguments.parse_args()
    if lacks := missing(images=True):
        print(f"set {', '.join(lacks)}; see tests/cluster/README.md", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no node stays cordoned
    tally, deadline, number = Tally(), time.monotonic() + given.minutes * 60, 0
    with desks() as (desk, server):
        while time.monotonic() < deadline:
            one_study(desk, number, deadline, server, given.seed, tally)
            number += 1
        tally.calls += server.calls()
    figures = [Figure("seed", given.seed, ""), *tally.figures()]
    keep("chaos", given.minutes, figures)
    return publish(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
