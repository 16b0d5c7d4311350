"""The controller of the Helm chart, which serves the deployments: `python -m flows.deployment.serve`.

Each study is a process of its own. Two loops look at Prefect again and again, and every pass may be the
first: one begins what is due, the other keeps going what has died. SIGTERM: studies let go of their trials,
which run on for the next controller to adopt.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from flows.deployment import pages
from flows.deployment.child import FLOWS
from flows.deployment.door import at_the_door
from flows.deployment.flow_runs import FlowRuns, Run, for_a_worker, register
from flows.deployment.keeping import STILL, Keeper
from flows.deployment.pool import make_pool
from flows.deployment.spawn import Processes
from flows.metrics import book as metrics
from flows.policy.apply import read_policy
from hpo_engine.types import AbohbError
from operators.stores import make_bucket

STUDIES = 20  # at once in one pod
STEERS = 5
ENDING = 25.0  # seconds that studies have to let go; one that is being cancelled needs most of them
FRESH = 90.0  # seconds since its last turn after which a loop is said to hang
REGISTER = 300.0  # seconds between looks whether our deployments are as they should be
TELL = 20.0  # seconds between words that we are there; after 60 Prefect calls a deployment not ready
IMPATIENT = {"client.max_retries": 0, "api.request_timeout": 10.0}  # the next pass is the next try


@dataclass
class Loop:
    """One turn after another until the end; what fails is tried again, and told once."""

    name: str
    turn: Callable[[SyncPrefectClient], None]
    seconds: float  # between turns
    over: threading.Event
    problem: str = "it has just begun"
    turned: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        failures = 0
        while not self.over.is_set():
            try:
                with temporary_settings(updates=IMPATIENT), get_client(sync_client=True) as client:
                    while not self.over.is_set():
                        self.turned = time.monotonic()
                        self.turn(client)
                        if self.problem:
                            say(f"{self.name}: all is well")
                        failures, self.problem = 0, ""
                        self.over.wait(self.seconds)
            except Exception as error:  # Prefect is away, or we are wrong: the next turn may go better
                failures += 1
                what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                if what != self.problem:
                    say(f"{self.name}: {what}; trying again")
                self.problem, self.turned = what, time.monotonic()
                self.over.wait(min(10.0, float(failures)))

    def hangs(self) -> str:
        still = time.monotonic() - self.turned
        return f"{self.name} has not turned for {still:.0f} s" if still > FRESH else ""


@dataclass
class Starter:
    """Begins what is due: here, or by workers of a pool that has been made from `template`.

    A run stays where it was made for: what began before the pool was there, or in another one, goes on here.
    """

    processes: Processes
    studies: int
    pool: str | None
    template: Path | None
    kinds: dict[UUID, str] = field(default_factory=dict)
    registered: float = -float("inf")
    told: float = -float("inf")
    passed: set[UUID] = field(default_factory=set)  # runs for a worker in which no mistake was found

    def turn(self, client: SyncPrefectClient) -> None:
        read_policy(os.environ)  # one that cannot be read refuses nobody: we are not ready, and say so
        if time.monotonic() - self.registered > REGISTER:
            if self.pool and self.template:
                make_pool(client, self.pool, self.template)
            self.kinds = register(FLOWS, self.pool)
            self.registered = time.monotonic()
        runs = FlowRuns(client, self.kinds)
        try:
            if time.monotonic() - self.told > TELL:
                runs.ready()
                self.told = time.monotonic()
            self._begin(runs)
        except Exception:
            self.registered = -float("inf")  # Prefect was away: it may have forgotten us
            raise

    def _begin(self, runs: FlowRuns) -> None:
        due = runs.due()
        others = runs.open() if due or self.pool else []
        here = self.processes.here()
        for run in [*due, *self._taken(others)]:
            if run.id in here:  # somebody paused and resumed it in Prefect, which it did not notice
                runs.end(run, Running(message=STILL))
            elif run.kind == "tune" and (refusal := at_the_door(run, others)):
                say(f"run {run.name} of study {run.study!r} is refused: {refusal.message}")
                runs.refuse(run, refusal.text, refusal.message)
            elif for_a_worker(run, self.pool):
                self.passed.add(run.id)
            elif self._room(run.kind) and runs.claim(run):
                say(f"run {run.name} begins: {run.kind} {run.study}")
                self.processes.start(run.kind, run.id)

    def _taken(self, runs: Iterable[Run]) -> list[Run]:
        """Those that a worker has taken before they were looked at: their pods have yet to start."""
        taken = [run for run in runs if run.state is StateType.PENDING and for_a_worker(run, self.pool)]
        return [run for run in taken if run.id not in self.passed]

    def _room(self, kind: str) -> bool:
        return self.processes.count(kind) < (self.studies if kind == "tune" else STEERS)


def make_the_bucket(url: str, over: threading.Event) -> None:
    """The bucket of the studies, if it is missing and we may; until the store answers."""
    while not over.is_set():
        try:
            if make_bucket(url, os.environ):
                say(f"made the bucket of {url}")
            return
        except AbohbError as error:  # it may be there all the same, and we not be allowed to look
            say(f"the bucket of {url}: {error}")
            return
        except OSError as error:
            say(f"{error}; trying again")
            over.wait(5.0)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if not PREFECT_API_URL.value():
        print("PREFECT_API_URL is not set: give the address of Prefect's API, http://HOST:4200/api")
        return 2
    metrics.prepare()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    processes = Processes()
    starter = Starter(processes, arguments.limit, arguments.work_pool, arguments.job_template)
    keeper = Keeper(processes, pool=arguments.work_pool, kinds=lambda: starter.kinds, say=say)
    loops = [Loop("serving", starter.turn, 1.0, over), Loop("keeping", keeper.turn, 2.0, over)]
    answers = {
        "/healthz": lambda: "; ".join(filter(None, (loop.hangs() for loop in loops))),
        "/readyz": lambda: loops[0].problem,
    }
    server = pages.start(arguments.port, answers)
    say(f"serving at {PREFECT_API_URL.value()}; /healthz, /readyz and /metrics on port {arguments.port}")
    threads = [threading.Thread(target=loop.run, name=loop.name, daemon=True) for loop in loops]
    store = os.environ.get("ABOHB_STORE", "")
    if store.startswith("s3://"):
        threads.append(threading.Thread(target=make_the_bucket, args=(store, over), daemon=True))
    for thread in threads:
        thread.start()
    over.wait()
    say("told to end: studies let go of their trials, which run on")
    for thread in threads:
        thread.join(5.0)
    processes.end_all(ENDING)
    with suppress(OSError):
        server.server_close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.deployment.serve", description=__doc__)
    environment = os.environ.get
    parser.add_argument(
        "--limit",
        type=int,
        default=int(environment("ABOHB_MAX_STUDIES") or STUDIES),
        metavar="N",
        help=f"studies at once here; more of them wait ($ABOHB_MAX_STUDIES, else {STUDIES})",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=int(environment("ABOHB_METRICS_PORT") or pages.PORT),
        help=f"of /healthz, /readyz and /metrics ($ABOHB_METRICS_PORT, else {pages.PORT})",
    )
    parser.add_argument(
        "--work-pool", metavar="NAME", help="run each study in a pod of its own, by this Prefect work pool"
    )
    parser.add_argument(
        "--job-template", type=Path, metavar="FILE", help="the Job of such a pod; the pool is made of it"
    )
    return parser


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
