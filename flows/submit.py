"""Handing a study to the deployment `tune`, and following its run: what `abohb submit` does, for Python too.

Prefect is asked by its API alone: neither the store nor the cluster has to be reached from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentStatus, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from flows.deployment.follow import Ended, follow
from flows.deployment.form_fill import form_of
from flows.study.file import load_study, parse_study
from flows.study.model import Study
from hpo_engine.types import AbohbError

DEPLOYMENT = "tune/tune"
UNFINISHED = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]


class SubmitError(AbohbError):
    """Prefect does not take the study."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The run of a study. `joined`: it was there before us; `differs`: fields that it has otherwise."""

    study: str
    run: UUID
    url: str
    joined: bool = False
    differs: tuple[str, ...] = ()
    served: bool = True  # somebody is there to begin it

    def text(self) -> str:
        if not self.joined:
            return f"Study {self.study} was submitted: {self.url}" + ("" if self.served else f"\n{UNSERVED}")
        text = f"Study {self.study} has a run already, which is followed: {self.url}"
        if self.differs:
            text += (
                f"\nIt was begun with other values of {', '.join(self.differs)}. To run it with these, "
                "cancel it there and submit it again."
            )
        return text


UNSERVED = "Nobody serves the deployment at the moment; it begins when somebody does."


def submit(
    study: Study | Mapping[str, Any] | str | Path,
    *,
    wait: bool = True,
    say: Callable[[str], None] = print,
    deployment: str = DEPLOYMENT,
) -> tuple[Submission, Ended | None]:
    """Submit a study file, or a study from Python, to the Prefect of PREFECT_API_URL, and follow its run.

    A study of that name that has not ended is followed, and not begun twice. StudyError lists all mistakes;
    an interrupt leaves the run as it is.
    """
    submission = send(study, deployment=deployment)
    say(submission.text())
    if not wait:
        return submission, None
    with asking() as client:
        return submission, follow(client, submission.run, say, time.monotonic, time.sleep)


def send(study: Study | Mapping[str, Any] | str | Path, *, deployment: str = DEPLOYMENT) -> Submission:
    """StudyError: all mistakes. SubmitError: Prefect is not there, or does not take it."""
    known = load_study(study) if isinstance(study, str | Path) else parse_study(study)  # type: ignore[arg-type]
    parameters = form_of(known).model_dump()
    with asking() as client:
        found = _deployment(client, deployment)
        served = found.status is not DeploymentStatus.NOT_READY
        for run in _unfinished(client, found.id):
            if run.parameters.get("study") == known.name:
                theirs = run.parameters
                differs = tuple(name for name, value in parameters.items() if theirs.get(name) != value)
                return Submission(known.name, run.id, _url(run.id), True, differs, served)
        run = client.create_flow_run_from_deployment(
            found.id, parameters=parameters, name=known.name, tags=[f"study:{known.name}"]
        )
    return Submission(known.name, run.id, _url(run.id), served=served)


@contextmanager
def asking() -> Iterator[SyncPrefectClient]:
    """A client that gives up within seconds, and whose errors are for people. SubmitError."""
    url = PREFECT_API_URL.value()
    if not url:
        raise SubmitError(
            "PREFECT_API_URL is not set: give the address of the Prefect API that the study is submitted to, "
            "as http://localhost:4200/api behind `kubectl port-forward`"
        )
    try:
        with (
            temporary_settings(updates={"client.max_retries": 1, "api.request_timeout": 10.0}),
            get_client(sync_client=True) as client,
        ):
            yield client
    except PrefectHTTPStatusError as error:
        raise SubmitError(_refusal(url, error)) from None
    except (httpx.HTTPError, RuntimeError) as error:
        raise SubmitError(f"Prefect at {url} does not answer ({error}); is PREFECT_API_URL right?") from None


def _refusal(url: str, error: PrefectHTTPStatusError) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return f"Prefect at {url} wants a password: set PREFECT_API_AUTH_STRING to user:password"
    try:
        detail = error.response.json().get("detail") or error.response.text
    except ValueError:
        detail = error.response.text
    return f"Prefect at {url} does not take it ({status}): {str(detail)[:1000]}"


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        raise SubmitError(
            f"there is no deployment {name} at {client.api_url}: install the chart (docs/deploy.md), "
            "or run `python -m flows.deployment.serve`"
        ) from None


def _unfinished(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))),
    )


def _url(run: UUID) -> str:
    base = PREFECT_UI_URL.value() or (PREFECT_API_URL.value() or "").removesuffix("/api")
    return f"{base}/runs/flow-run/{run}"
