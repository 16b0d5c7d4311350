"""Trials of runs that ended while nobody had them, on a real Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Cancelled, Failed, Running

from flows.controller.kubernetes import KubernetesPlace
from flows.deployment import keeping
from flows.deployment.child import FLOWS
from flows.deployment.flow_runs import TAKEN, register
from flows.deployment.keeping import Keeper
from flows.deployment.spawn import Processes
from flows.study.model import Study
from operators.store import DirectoryStore
from tests.flows.test_deployed import FORM
from tests.flows.test_pools import Begun
from tests.flows.test_serve import begin
from tests.flows.tries import several_tries


@dataclass
class Swept:
    """What would be a cluster."""

    studies: list[str] = field(default_factory=list)

    def reach(self, study: Study) -> Swept:
        self.studies.append(study.name)
        return self

    def sweep(self) -> None: ...


@pytest.fixture
def client(prefect_settings: str) -> Iterator[SyncPrefectClient]:
    with several_tries(), get_client(sync_client=True) as client:
        yield client
        for run in client.read_flow_runs():
            if run.deployment_id is not None:  # else whoever serves the deployment begins it
                client.delete_flow_run(run.id)


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Swept:
    monkeypatch.setenv("ABOHB_STORE", "s3://tuning/studies")
    monkeypatch.setenv("ABOHB_AGENT_IMAGE", "registry.example/agent:1")
    swept = Swept()
    monkeypatch.setattr(KubernetesPlace, "reach", swept.reach)
    monkeypatch.setattr(keeping, "open_store", lambda study: DirectoryStore(tmp_path))
    return swept


def over(client: SyncPrefectClient, study: str, *states: State[object]) -> UUID:
    run = begin(client, "tune", **FORM | {"study": study})
    for state in states:
        client.set_flow_run_state(run, state, force=True)
    return run


def test_trials_of_a_run_that_nobody_had_are_ended(client: SyncPrefectClient, swept: Swept) -> None:
    kinds = register(FLOWS, None)
    over(client, "left-cancelled", Running(), AwaitingRetry(), Cancelled())
    over(client, "left-failed", Running(), Failed())
    over(client, "left-elsewhere", Running(), Failed(name=TAKEN))
    over(client, "left-again", Running(), Failed())
    over(client, "left-again", Running())
    keeper = Keeper(cast(Processes, Begun()), None, lambda: kinds, print)
    for _ in range(2):
        keeper.turn(client)
    ours = sorted(name for name in swept.studies if name.startswith("left-"))  # others have left runs too
    assert ours == ["left-cancelled", "left-failed"], "once"
