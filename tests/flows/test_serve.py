"""The server of the deployments against a real Prefect server; what needs a cluster is in tests/cluster."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import temporary_settings
from prefect.states import Cancelled, Crashed, Failed
from prefect.workers.base import BaseJobConfiguration

from flows.deployment.child import FLOWS
from flows.deployment.flow_runs import FlowRuns, register
from flows.deployment.keeper import AGAIN
from flows.deployment.pool import TemplateError, base_job, make_pool
from flows.deployment.serve import Starter
from flows.deployment.spawn import Processes
from flows.policy.apply import PolicyError
from flows.ui.child import free_port
from tests.flows.real_study import ROOT, controller, write_study

FORM = {"study": "served", "image": "registry.example/digits:1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def pages(prefect_server: str, folder: Path) -> Iterator[str]:
    """A server of the deployments, its store a folder: no study can run there, all else works."""
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_server,
        "ABOHB_STORE": (folder / "runs").as_uri(),
        "ABOHB_METRICS_DIR": str(folder / "metrics"),
        "ABOHB_METRICS_PORT": str(port),
    }
    process = subprocess.Popen([sys.executable, "-m", "flows.deployment.serve"], cwd=ROOT, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: page(f"{url}/readyz") == (200, "ok\n"), 60)
        yield url
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings(updates={"api.url": prefect_server}), get_client(sync_client=True) as found:
        yield found


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def page(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def begin(client: SyncPrefectClient, name: str, **fields: Any) -> UUID:
    deployment = client.read_deployment_by_name(f"{name}/{name}")
    return client.create_flow_run_from_deployment(deployment.id, parameters=fields).id


def ended(client: SyncPrefectClient, run: UUID, within: float = 60) -> tuple[StateType, str]:
    def over() -> bool:
        state = client.read_flow_run(run).state
        return state is not None and state.is_final()

    until(over, within)
    state = client.read_flow_run(run).state
    assert state is not None
    return state.type, state.message or ""


def artifact(client: SyncPrefectClient, run: UUID) -> str:
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    )
    return "".join(str(one.data) for one in found if one.key == "mistakes")


def test_its_pages(pages: str) -> None:
    assert page(f"{pages}/healthz") == (200, "ok\n")
    assert page(f"{pages}/metrics")[0] == 200
    assert page(f"{pages}/")[0] == 404


def test_a_mistake_shows_within_seconds_and_nothing_is_begun(pages: str, client: SyncPrefectClient) -> None:
    began = time.monotonic()
    run = begin(client, "tune", **FORM, search_space="rate: {type: float, low: 1, hihg: 2}", method="asha")
    state, message = ended(client, run, 5)
    print(f"a mistake showed after {time.monotonic() - began:.1f} s")
    assert (state, message[:9]) == (StateType.FAILED, "mistakes:")
    assert "did you mean 'high'?" in artifact(client, run)
    assert [one.type for one in client.read_flow_run_states(run)] == [StateType.SCHEDULED, StateType.FAILED]


def test_a_running_study_is_steered(pages: str, client: SyncPrefectClient, folder: Path) -> None:
    path, _ = write_study(folder, name="steered", trials=100_000)
    process = controller(path)
    try:
        until(lambda: (folder / "runs/steered/journal/00000008.json").exists(), 60)
        run = begin(client, "steer", study="steered", action="workers", number=1)
        state, message = ended(client, run)
        assert state is StateType.COMPLETED
        assert message.startswith("Study steered has 1 worker now.")
        run = begin(client, "steer", study="steered", action="cancel trial", number=100_000)
        state, message = ended(client, run)
        assert state is StateType.FAILED
        assert "there is no trial 100000" in artifact(client, run)
        run = begin(client, "steer", study="steered", action="stop")
        assert ended(client, run)[0] is StateType.COMPLETED
        assert process.wait(60) == 0
        run = begin(client, "steer", study="nobody", action="pause")
        assert ended(client, run)[0] is StateType.FAILED
        assert "nothing is known of study 'nobody'" in artifact(client, run)
    finally:
        process.kill()
        process.communicate()


def test_only_what_died_is_begun_again(pages: str, client: SyncPrefectClient) -> None:
    deployment = client.read_deployment_by_name("tune/tune")
    made: dict[str, UUID] = {}
    states: list[State[Any]] = [Cancelled(), Failed(message="by itself"), Crashed(message="killed")]
    for state in states:
        name = f"kept-{state.type.value.lower()}"
        made[name] = client.create_flow_run_from_deployment(
            deployment.id, parameters={**FORM, "study": name}, state=state
        ).id
    until(lambda: len(client.read_flow_run_states(made["kept-crashed"])) > 2, 20)
    passed = client.read_flow_run_states(made["kept-crashed"])
    assert passed[1].type is StateType.SCHEDULED
    assert (passed[1].message or "").startswith(AGAIN)
    assert ended(client, made["kept-crashed"])[0] is StateType.FAILED  # its store is no place for pods
    assert ended(client, made["kept-cancelled"])[0] is StateType.CANCELLED
    assert ended(client, made["kept-failed"]) == (StateType.FAILED, "by itself")


JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"namespace": "tuning"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "prefect-job"}]}}},
}


def test_the_work_pool_is_made_and_left_again(client: SyncPrefectClient, tmp_path: Path) -> None:
    name, template = f"studies-{uuid4().hex[:6]}", tmp_path / "job.yaml"
    template.write_text(yaml.safe_dump(JOB))
    make_pool(client, name, template)
    make_pool(client, name, template)
    pool = client.read_work_pool(name)
    assert pool.type == "kubernetes"
    made = pool.base_job_template["job_configuration"]
    assert made["namespace"] == "tuning"
    assert made["job_manifest"]["spec"]["template"]["spec"].items() >= JOB["spec"]["template"]["spec"].items()
    assert "{{" not in str(pool.base_job_template), "whoever begins a run chooses nothing of its pod"
    asked = {"env": {"PYTHONWARNINGS": "all"}, "command": "sh", "labels": {"a": "b"}}
    run = asyncio.run(BaseJobConfiguration.from_template_and_values(pool.base_job_template, asked))
    assert (run.env, run.command, run.labels) == ({}, None, {}), "not even its environment"
    register(FLOWS, name)
    tune = client.read_deployment_by_name("tune/tune").id
    with pytest.raises(PrefectHTTPStatusError, match=r"409|422"):
        client.create_flow_run_from_deployment(tune, parameters=FORM, job_variables=asked)
    assert client.read_deployment_by_name("tune/tune").work_pool_name == name
    assert client.read_deployment_by_name("steer/steer").work_pool_name is None
    kinds = register(FLOWS, None)
    assert client.read_deployment_by_name("tune/tune").work_pool_name is None
    assert sorted(kinds.values()) == ["steer", "tune"]
    assert FlowRuns(client, kinds).due() == []


def test_a_policy_that_cannot_be_read_refuses_nobody(
    client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text("defaults: {requets: {cpu: 1}}\n")
    monkeypatch.setenv("ABOHB_POLICY", str(tmp_path / "policy.yaml"))
    run = begin(client, "tune", **FORM)
    with pytest.raises(PolicyError, match="requets"):
        Starter(Processes(), 1, None, None).turn(client)
    state = client.read_flow_run(run).state
    assert state is not None
    assert state.type is StateType.SCHEDULED
    client.delete_flow_run(run)


@pytest.mark.parametrize("text", ["kind: Pod", "{", "- 1", "kind: Job"])
def test_what_is_no_job_makes_no_pool(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(TemplateError):
        base_job(path)
