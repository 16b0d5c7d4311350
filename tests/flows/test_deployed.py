"""The deployed flows on a real Prefect server, their place this machine: how a run ends that had begun."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Completed, Crashed, Failed, Running, Scheduled, State

from flows.cli.submit import _code, _last
from flows.controller import run as tuning
from flows.controller.places import LocalPlace
from flows.controller.run import tune_at, tune_locally
from flows.deployment import flows as deployed
from flows.deployment.child import FLOWS
from flows.deployment.flow_runs import register
from flows.deployment.follow import Ended, follow
from flows.deployment.whereabouts import store_of
from flows.study.file import StudyError
from flows.study.model import Study
from flows.submit import asking
from hpo_engine.types import AbohbError
from operators.store import DirectoryStore, StoreError
from tests.flows.test_run import quick_study
from tests.flows.tries import several_tries

FORM = {"study": "any", "image": "registry.example/any:1"}
DENIED = "the store refuses: AccessDenied, the key does not exist"


class Revoked(DirectoryStore):
    """Refuses the third batch of the journal."""

    def put_once(self, key: str, data: bytes) -> bool:
        if key.endswith("/journal/00000003.json"):
            raise StoreError(DENIED)
        return super().put_once(key, data)


@pytest.fixture
def runs(prefect_settings: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[FlowRun, Ended]]:
    """Run a study, and what `abohb submit` sees of it."""
    monkeypatch.setattr(tuning, "REFUSALS", 1.0)

    def begun(place: LocalPlace, run: FlowRun | None = None) -> tuple[FlowRun, Ended]:
        monkeypatch.setattr(deployed, "study_of", lambda form: place.study)
        monkeypatch.setattr(deployed, "place_for", lambda study, on: place)
        with asking() as client:
            run = run or client.create_flow_run(deployed.tune, parameters=FORM, state=Scheduled())
            run_flow(
                deployed.tune, flow_run=client.read_flow_run(run.id), parameters=FORM, return_type="state"
            )
            now = iter(range(0, 10_000, 100))
            ended = follow(client, run.id, print, lambda: next(now), lambda seconds: None)
            return client.read_flow_run(run.id), ended

    return begun


def mistakes(run: FlowRun) -> list[str]:
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        found = client.read_artifacts(artifact_filter=wanted)
    return [str(one.data) for one in found if one.key == "mistakes"]


def with_store(study: Study, store: DirectoryStore) -> LocalPlace:
    place = LocalPlace(study)
    object.__setattr__(place, "store", store)
    return place


def test_a_store_that_refuses_before_the_study_has_begun(tmp_path: Path, runs: Any) -> None:
    class Shut(DirectoryStore):
        def list(self, prefix: str) -> list[str]:
            raise StoreError(DENIED)

    study = quick_study(tmp_path)
    run, ended = runs(with_store(study, Shut(study.store_path())))
    assert (ended, _code(ended)) == (Ended("Failed", DENIED, begun=False), 2)
    (artifact,) = mistakes(run)
    assert artifact.startswith("# Nothing was started: 1 mistake")


def test_a_store_that_refuses_a_study_that_runs_is_no_mistake(tmp_path: Path, runs: Any) -> None:
    study = quick_study(tmp_path)
    place = with_store(study, Revoked(study.store_path()))
    run, ended = runs(place)
    assert ended == Ended("Failed", f"{DENIED}. {deployed.MEND}")
    assert (_code(ended), mistakes(run)) == (1, [])
    assert "Nothing was started" not in _last(ended, "")
    assert runs(LocalPlace(study))[1].state == "Completed"  # as it says


def test_begun_again_it_waits_for_what_may_pass(tmp_path: Path, runs: Any) -> None:
    study = quick_study(tmp_path)
    place = with_store(study, Revoked(study.store_path()))
    with asking() as client:
        run = again(client)
    with pytest.raises(StoreError):
        tune_at(place, [])
    run, ended = runs(place, run)
    assert ended == Ended("Crashed", DENIED)
    assert mistakes(run) == []


def test_what_was_away_at_first_is_checked_when_it_is_back(
    tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(place: LocalPlace) -> None:
        raise AbohbError("study 'quick' cannot run in namespace 'tuning': no rights")

    monkeypatch.setattr(LocalPlace, "check", lacks)
    with asking() as client:
        run = again(client)
    run, ended = runs(LocalPlace(quick_study(tmp_path)), run)
    assert (ended.state, ended.begun) == ("Failed", False)
    assert mistakes(run)[0].startswith("# Nothing was started: 1 mistake")


def test_who_lost_the_study_says_that_it_goes_on_there(tmp_path: Path, runs: Any) -> None:
    study = quick_study(tmp_path, budget={"trials": 4})

    class Taken(DirectoryStore):
        def put_once(self, key: str, data: bytes) -> bool:
            if key.endswith("/journal/00000003.json"):
                tune_locally(study, [], take_over=True)
            return super().put_once(key, data)

    run, ended = runs(with_store(study, Taken(study.store_path())))
    assert (ended.state, ended.begun, mistakes(run)) == ("Failed", True, [])
    assert ended.message.endswith("and goes on there")


def test_what_cannot_go_on_is_told_in_a_table_and_is_no_mistake_of_a_new_study(
    tmp_path: Path, runs: Any
) -> None:
    tune_locally(quick_study(tmp_path, budget={"trials": 1}), [])
    with asking() as client:
        run = again(client)
    run, ended = runs(LocalPlace(quick_study(tmp_path, seed=1, budget={"trials": 2})), run)
    assert ended.message.startswith("It does not go on: study 'quick' is in the store already")
    assert (ended.begun, _code(ended)) == (True, 1)
    (artifact,) = mistakes(run)
    assert artifact.startswith("# It does not go on")


def again(client: SyncPrefectClient) -> FlowRun:
    """A run that has been at work before."""
    run = client.create_flow_run(deployed.tune, parameters=FORM, state=Scheduled())
    for state in (Running(), Crashed(), Scheduled()):
        client.set_flow_run_state(run.id, state, force=True)
    return run


# -- steering ---------------------------------------------------------------------------------------


@pytest.fixture
def studied(prefect_settings: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make runs of a study of the deployment, in the order of the calls."""
    monkeypatch.setenv("ABOHB_STORE", "s3://tuning/studies")
    monkeypatch.setenv("ABOHB_AGENT_IMAGE", "registry.example/agent:1")
    runs: list[UUID] = []

    def made(study: str, *states: State[Any], store: str = "", **fields: Any) -> None:
        form = {**FORM, "study": study, "advanced": f"store: {store}" if store else "", **fields}
        with several_tries(), get_client(sync_client=True) as client:
            tune = client.read_deployment_by_name("tune/tune").id
            run = client.create_flow_run_from_deployment(tune, parameters=form, name=study)
            runs.append(run.id)
            for state in states:
                client.set_flow_run_state(run.id, state, force=True)

    with several_tries():
        register(FLOWS, None)
    yield made
    with several_tries(), get_client(sync_client=True) as client:
        for id in runs:  # else whoever serves the deployment begins them
            client.delete_flow_run(id)


def test_a_study_is_steered_where_its_run_keeps_it(studied: Any, tmp_path: Path) -> None:
    studied("elsewhere", Running(), Completed(), store="s3://tuning/studies/old")
    studied("elsewhere", Running(), AwaitingRetry(), store="s3://tuning/studies/team")
    studied("elsewhere", Running(), Failed(), store="s3://tuning/studies/wrong")
    studied("elsewhere", Failed(), store="s3://tuning/studies/refused")  # it never began
    studied("unreadable", Running(), search_space="x: {typ: float}", store="s3://tuning/studies/team")
    for study, store in (
        ("elsewhere", "s3://tuning/studies/team"),
        ("unreadable", "s3://tuning/studies"),
        ("nobody", "s3://tuning/studies"),
    ):
        assert store_of(study, os.environ) == store
    policy = tmp_path / "policy.yaml"
    policy.write_text("{max_workers: 1, stores: [s3://tuning/studies/team]}")  # the study has 4
    env = {**os.environ, "ABOHB_POLICY": str(policy)}
    assert store_of("elsewhere", env) == "s3://tuning/studies/team", "of the policy only the store counts"
    policy.write_text("{stores: [s3://tuning/other]}")
    with pytest.raises(StudyError, match=r"^store: 's3://tuning/studies/team' is not allowed by the policy"):
        store_of("elsewhere", env)


def test_steer_asks_there(studied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = quick_study(tmp_path, name="asked", budget={"trials": 1})
    tune_locally(study, [])
    studied("asked", Running(), store="s3://tuning/studies/team")
    stores = {"s3://tuning/studies/team": DirectoryStore(study.store_path())}
    monkeypatch.setattr(deployed, "open_store", lambda where, env: stores[where])
    state = deployed.steer("asked", "pause", return_state=True)
    assert "Study asked has ended: the budget of 1 trials is used" in (state.message or "")
