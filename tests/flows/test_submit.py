"""`abohb submit` against a real Prefect server: the run that it makes, what it tells, and how it ends."""

from __future__ import annotations

import contextvars
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.settings import temporary_settings
from prefect.states import AwaitingRetry, Completed, Crashed, Failed, Running, State

from flows.deployment import follow as submit_follow
from flows.deployment.follow import Ended, follow
from flows.deployment.form import Form, flat
from flows.deployment.form_study import study_of
from flows.deployment.mistakes import mistakes_message
from flows.study.file import StudyError
from flows.submit import SubmitError, asking, send, submit
from tests.flows.tries import several_tries

STUDY: dict[str, Any] = {
    "name": "digits",
    "image": "registry.example/digits:1",
    "metrics": ["val_error"],
    "resource": {"max": 9},
    "space": {"lr": {"type": "float", "low": 0.1, "high": 1}},
    "budget": {"trials": 3},
    "workers": 2,
}


@task
def trial() -> None: ...


@flow(name="submitted", flow_run_name="{study}")
@flat
def served(form: Form) -> State[Any]:
    """What the deployed flow does, without a cluster."""
    try:
        study = study_of(form)
    except StudyError as error:
        return Failed(message=mistakes_message(error))
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    with get_client(sync_client=True) as client:  # as flows.ui.writer does it
        ends = [Completed(message="5 s, val_error 0.25"), Failed(message="user error after 3 s\nTraceback")]
        for number, state in enumerate(ends):
            name = f"trial-{number} to epoch 9"
            run = client.create_task_run(
                trial, context.flow_run.id, dynamic_key=str(number), name=name, state=Running()
            )
            client.set_task_run_state(run.id, state, force=True)
        line = {"name": "abohb", "level": 20, "message": "Two trials have ended."}
        at = datetime.now(UTC).isoformat()
        client.create_logs([{**line, "timestamp": at, "flow_run_id": str(context.flow_run.id)}])
    return Completed(message=f"Best configuration of {study.name}: {study.workers} workers")


@pytest.fixture
def deployment(prefect_settings: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A deployment of its own, so that no test finds the runs of another."""
    monkeypatch.setenv("ABOHB_STORE", "s3://tuning/studies")
    monkeypatch.setenv("ABOHB_AGENT_IMAGE", "registry.example/agent:1")
    monkeypatch.setattr(submit_follow, "EVERY", 0.1)
    name = f"tune-{time.time_ns()}"
    with several_tries():
        served.to_deployment(name).apply()
    return f"submitted/{name}"


def scheduled(study: str) -> FlowRun:
    """The run that was submitted, once it is there."""
    with get_client(sync_client=True) as client:
        for _ in range(200):
            found = [run for run in client.read_flow_runs() if run.parameters.get("study") == study]
            if found:
                return found[0]
            time.sleep(0.1)
    raise AssertionError("nothing was submitted")


def beside(work: Callable[[], Any]) -> threading.Thread:
    """In a thread that has the settings of this one."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    thread.start()
    return thread


def test_a_study_is_run_by_the_deployment_and_followed_to_its_end(deployment: str) -> None:
    told: list[str] = []
    ends: list[Any] = []
    study = {**STUDY, "name": "followed"}
    thread = beside(lambda: ends.append(submit(study, say=told.append, deployment=deployment)))
    run = scheduled("followed")
    assert Form.model_validate(run.parameters).workers == 2
    assert run.tags == ["study:followed"]
    run_flow(served, flow_run=run, parameters=run.parameters, return_type="state")
    thread.join(30)
    ((submission, ended),) = ends
    assert ended == Ended("Completed", "Best configuration of followed: 2 workers")
    assert told[0].startswith("Study followed was submitted: http://")
    assert told[0].splitlines()[0].endswith(f"/runs/flow-run/{run.id}")
    assert "Nobody serves the deployment" in told[0]
    assert "  trial-0 to epoch 9: completed, 5 s, val_error 0.25" in told
    assert "  trial-1 to epoch 9: failed, user error after 3 s" in told
    assert "Two trials have ended." in told
    assert (submission.run, submission.joined) == (run.id, False)


def test_a_study_that_is_there_already_is_joined_and_what_differs_is_said(deployment: str) -> None:
    first = send({**STUDY, "name": "twice"}, deployment=deployment)
    again = send({**STUDY, "name": "twice"}, deployment=deployment)
    assert (again.run, again.joined, again.differs) == (first.run, True, ())
    other = send({**STUDY, "name": "twice", "workers": 3, "seed": 4}, deployment=deployment)
    assert (other.run, other.differs) == (first.run, ("workers", "seed"))
    assert "other values of workers, seed" in other.text()


def test_what_the_platform_refuses_is_told_as_mistakes(deployment: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("max_workers: 1\n")
    submission = send({**STUDY, "name": "refused"}, deployment=deployment)
    run = scheduled("refused")
    with pytest.MonkeyPatch.context() as patch, asking() as client:
        patch.setenv("ABOHB_POLICY", str(tmp_path / "policy.yaml"))
        run_flow(served, flow_run=run, parameters=run.parameters, return_type="state")
        ended = follow(client, submission.run, print, time.monotonic, time.sleep)
    assert ended == Ended("Failed", "workers: got 2; the policy allows 1", begun=False)


def test_a_crashed_run_is_waited_for_until_it_is_taken_up(deployment: str) -> None:
    told: list[str] = []
    submission = send({**STUDY, "name": "crashing"}, deployment=deployment)
    now = [0.0]
    states = [Crashed(), AwaitingRetry(), Completed(message="done")]
    with asking() as client:

        def sleep(seconds: float) -> None:
            now[0] += 60
            client.set_flow_run_state(submission.run, states.pop(0), force=True)

        ended = follow(client, submission.run, told.append, lambda: now[0], sleep)
    assert ended == Ended("Completed", "done")
    assert "Its controller has crashed; waiting for another one to go on with it." in told


def test_a_crashed_run_that_nobody_takes_up_ends(deployment: str) -> None:
    submission = send({**STUDY, "name": "crashed"}, deployment=deployment)
    now = [0.0]
    with asking() as client:
        client.set_flow_run_state(submission.run, Crashed(message="gone"), force=True)

        def sleep(seconds: float) -> None:
            now[0] += 60

        ended = follow(client, submission.run, lambda line: None, lambda: now[0], sleep)
    assert (ended, now[0]) == (Ended("Crashed", "gone"), submit_follow.PATIENCE)


def test_prefect_may_be_away_for_a_while(deployment: str) -> None:
    told: list[str] = []
    submission = send({**STUDY, "name": "away"}, deployment=deployment)
    with asking() as client:
        there = client._client.base_url

        def sleep(seconds: float) -> None:
            if "trying again" in told[-1]:
                client._client.base_url = there
                client.set_flow_run_state(submission.run, Completed(message="done"), force=True)
            else:
                client._client.base_url = "http://127.0.0.1:9/api/"

        ended = follow(client, submission.run, told.append, time.monotonic, sleep)
    assert ended == Ended("Completed", "done")
    assert told.count("Prefect does not answer; trying again.") == 1


def test_errors_say_what_to_do(prefect_settings: str) -> None:
    with pytest.raises(SubmitError, match=r"there is no deployment nobody/tune at http.*docs/deploy.md"):
        send(STUDY, deployment="nobody/tune")
    with pytest.raises(StudyError, match="workers: got 0"):
        send({**STUDY, "workers": 0})
    with (
        temporary_settings(updates={"api.url": "http://127.0.0.1:9/api"}),
        pytest.raises(SubmitError) as away,
    ):
        send(STUDY)
    assert str(away.value).startswith("Prefect at http://127.0.0.1:9/api does not answer")
    with temporary_settings(restore_defaults={"api.url"}), pytest.raises(SubmitError) as unset:
        send(STUDY)
    assert str(unset.value).startswith("PREFECT_API_URL is not set: ")


def test_the_command_leaves_the_run_at_an_interrupt(deployment: str, tmp_path: Path) -> None:
    """By another name of the deployment the command finds this test's own."""
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps({**STUDY, "name": "left"}))
    code = (
        "import sys, flows.submit, flows.cli.main;"
        f"flows.submit.submit.__kwdefaults__['deployment'] = {deployment!r};"
        f"sys.exit(flows.cli.main.main(['submit', {str(file)!r}]))"
    )
    from prefect.settings import PREFECT_API_URL

    env = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or ""}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("Study left was submitted: http")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 4
    assert f"The study runs on. To look again: abohb submit {file}" in said
    state = scheduled("left").state
    assert state is not None
    assert state.is_scheduled()
