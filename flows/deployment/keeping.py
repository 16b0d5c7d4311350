"""Looks after flow runs that nobody has: `flows.deployment.keeper` decides, this does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Crashed, Running

from flows.deployment.door import described, wanted
from flows.deployment.flow_runs import FlowRuns, Run, for_a_worker
from flows.deployment.keeper import AGAIN, RECENT, SETTLING, Act, Facts, decide, pause, words
from flows.deployment.spawn import Processes
from flows.study.model import Study
from flows.study.store import open_store
from hpo_engine.types import AbohbError
from operators.lease import Lookout

ENDED = "Its controller was gone; its trials were ended, and the same study again goes on where it was"
LEFT = "Its controller was gone; its trials may be left: "
STILL = "Prefect's pause does not reach a study: pause it by the deployment `steer`"
AFTERMATH = 900.0  # seconds after its end in which a run is looked at for trials that it has left


@dataclass
class Keeper:
    processes: Processes
    pool: str | None  # the work pool whose runs are pods
    kinds: Callable[[], Mapping[UUID, str]]
    say: Callable[[str], None]
    _studies: dict[UUID, tuple[Study, Lookout] | None] = field(default_factory=dict)
    _looked: set[UUID] = field(default_factory=set)  # ended runs that have left nothing
    _troubles: dict[UUID, str] = field(default_factory=dict)  # what was told of them last

    def turn(self, client: SyncPrefectClient) -> None:
        """One look at all of them."""
        kinds = self.kinds()
        if not kinds:  # not registered yet
            return
        here = self.processes.here()  # before we ask Prefect, so that one that ends now is told as ended
        runs = FlowRuns(client, kinds)
        open = runs.open()
        crashed = runs.ended((StateType.CRASHED,), RECENT)
        for run in [*open, *crashed]:
            if run.kind == "steer":
                self._steer(runs, run, here)
            elif run.state is not StateType.SCHEDULED:
                with self._alone(run):
                    self._tune(runs, run, here)
        busy = {run.study for run in (*open, *crashed)}
        over = runs.ended((StateType.CANCELLED, StateType.FAILED), AFTERMATH)
        for run in over:
            left = run.kind == "tune" and not run.taken and run.study not in busy
            if left and run.id not in self._looked | here:
                with self._alone(run):
                    self._aftermath(run)
        known = {run.id for run in (*open, *crashed, *over)}
        self._studies = {id: study for id, study in self._studies.items() if id in known}
        self._troubles = {id: text for id, text in self._troubles.items() if id in known}

    @contextmanager
    def _alone(self, run: Run) -> Iterator[None]:
        """The trouble of one run, with its store or its cluster, is not that of the others."""
        try:
            yield
        except (AbohbError, OSError) as error:
            if self._troubles.get(run.id) != str(error):
                self._troubles[run.id] = str(error)
                self.say(f"run {run.name} of study {run.study!r} cannot be looked after: {error}")

    def _tune(self, runs: FlowRuns, run: Run, here: set[UUID]) -> None:
        at_hand = run.id in here
        now = time.time()
        owned = None if at_hand else self._owned(run)
        facts = Facts(run.state, now - run.since, at_hand, owned, run.launched)
        match decide(facts, pods=for_a_worker(run, self.pool)):
            case Act.KILL:
                self.say(f"run {run.name} has not ended after its cancellation: its process is killed")
                self.processes.kill(run.id)
            case Act.AGAIN:
                deaths = runs.deaths(run, AGAIN)
                message = words(deaths, now, self._why(run))
                self.say(f"run {run.name} of study {run.study!r}: {message}")
                runs.begin_again(run, message, pause(deaths, now))
            case Act.CLEAR:
                runs.end(run, Cancelled(message=self._cleared(run)))
            case Act.RUNNING:
                runs.end(run, Running(message=STILL))

    def _why(self, run: Run) -> str:
        said = run.said.splitlines()[0][:300] if run.state is StateType.CRASHED and run.said else ""
        return self.processes.last_words(run.id) or said

    def _steer(self, runs: FlowRuns, run: Run, here: set[UUID]) -> None:
        if run.id in here or time.time() - run.since < SETTLING:
            return
        if run.state is StateType.CANCELLING:
            runs.end(run, Cancelled())
        elif run.state in (StateType.PENDING, StateType.RUNNING):
            runs.end(run, Crashed(message="Its process died; submit it again"))

    def _owned(self, run: Run) -> bool | None:
        """Whether a live controller has its study; None when that cannot be told."""
        if run.id not in self._studies:
            try:
                # One that was refused at once has left nothing, wherever its form points.
                study = described(run) if run.begun else wanted(run)
                self._studies[run.id] = study, Lookout(open_store(study), study.name)
            except AbohbError:  # it never was a study: begun again, it will be told so
                self._studies[run.id] = None
        known = self._studies[run.id]
        return False if known is None else known[1].look(time.monotonic()).alive

    def _aftermath(self, run: Run) -> None:
        """Trials of a run that was cancelled while nobody had it, or that failed by an error of ours."""
        if self._owned(run) is False:
            self._clear(run)
            self._looked.add(run.id)

    def _cleared(self, run: Run) -> str:
        """What is said of a run whose trials are to be ended; a cluster that is away is tried again."""
        try:
            self._clear(run)
        except AbohbError as error:  # they are another study's, or not for us to end
            return f"{LEFT}{error}"
        return ENDED

    def _clear(self, run: Run) -> None:
        known = self._studies.get(run.id)
        if known is not None:
            from flows.controller.kubernetes import KubernetesPlace  # the client takes its time to import

            KubernetesPlace.reach(known[0]).sweep()
