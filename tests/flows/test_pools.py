"""Runs that outlive a change of the work pool, on a real Prefect server: no worker comes for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Running

from flows.deployment import keeper
from flows.deployment.child import FLOWS, execute
from flows.deployment.flow_runs import register
from flows.deployment.keeping import Keeper
from flows.deployment.serve import Starter
from flows.deployment.spawn import Processes
from tests.flows.test_serve import JOB, begin
from tests.flows.tries import several_tries


@dataclass
class Begun:
    """What would be processes."""

    runs: list[UUID] = field(default_factory=list)

    def start(self, kind: str, run: UUID) -> None:
        assert kind == "tune"
        self.runs.append(run)

    def here(self) -> set[UUID]:
        return set(self.runs)

    def count(self, kind: str) -> int:
        return 0

    def last_words(self, run: UUID) -> str:
        return ""


@pytest.fixture
def client(prefect_settings: str) -> Any:
    with several_tries(), get_client(sync_client=True) as client:
        yield client
        for run in client.read_flow_runs():
            if run.deployment_id is not None:  # else whoever serves the deployment begins it
                client.delete_flow_run(run.id)
        register(FLOWS, None)


@pytest.fixture
def begun() -> Begun:
    return Begun()


@pytest.fixture
def starter(begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A controller, by the name of its pool."""
    monkeypatch.setenv("ABOHB_STORE", "s3://tuning/studies")
    monkeypatch.setenv("ABOHB_AGENT_IMAGE", "registry.example/agent:1")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(JOB))

    def named(pool: str | None) -> Starter:
        return Starter(cast(Processes, begun), 5, pool, tmp_path / "job.yaml")

    return named


def study(client: SyncPrefectClient, name: str) -> UUID:
    return begin(client, "tune", study=name, image="registry.example/digits:1")


def state(client: SyncPrefectClient, run: UUID) -> StateType:
    found = client.read_flow_run(run).state
    assert found is not None
    return found.type


def test_a_run_from_before_the_pool_begins_in_the_controller(
    client: SyncPrefectClient, starter: Any, begun: Begun
) -> None:
    starter(None).turn(client)
    before = study(client, "before")
    ours, pool = f"studies-{uuid4().hex[:6]}", f"others-{uuid4().hex[:6]}"
    pooled = starter(ours)
    pooled.turn(client)
    assert begun.runs == [before]
    since = study(client, "since")
    for _ in range(2):
        pooled.turn(client)
    assert begun.runs == [before], "the other one is for a worker"
    assert (state(client, before), state(client, since)) == (StateType.PENDING, StateType.SCHEDULED)
    starter(pool).turn(client)  # the pool has another name now
    assert begun.runs == [before, since]


def test_a_run_of_a_pool_that_is_no_longer_used_begins_in_the_controller(
    client: SyncPrefectClient, starter: Any, begun: Begun
) -> None:
    starter(f"studies-{uuid4().hex[:6]}").turn(client)
    run = study(client, "pooled")
    starter(None).turn(client)
    assert begun.runs == [run]


def test_what_runs_in_the_controller_is_kept_like_it_beside_a_pool(
    client: SyncPrefectClient, starter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is missed sooner than a pod."""
    starter(None).turn(client)
    local = study(client, "local")
    pool = f"studies-{uuid4().hex[:6]}"
    pooled = starter(pool)
    pooled.turn(client)
    pod = study(client, "pod")
    for run in (local, pod):
        client.set_flow_run_state(run, Running(), force=True)
    monkeypatch.setattr(keeper, "SETTLING", 0.0)
    monkeypatch.delenv("ABOHB_STORE")  # no study can be read: nobody owns it
    Keeper(cast(Processes, Begun()), pool, lambda: pooled.kinds, print).turn(client)
    assert (state(client, local), state(client, pod)) == (StateType.SCHEDULED, StateType.RUNNING)


def test_a_pod_that_comes_late_leaves_the_run_to_whoever_has_it(client: SyncPrefectClient) -> None:
    register(FLOWS, None)
    run = study(client, "late")  # as tune it would be refused, and fail
    client.set_flow_run_state(run, Running(), force=True)
    execute("tune", str(run))
    assert state(client, run) is StateType.RUNNING
