"""Our deployments and their flow runs, as Prefect's API tells of them and is told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterName,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.runner import RunnerDeployment
from prefect.states import AwaitingRetry, Failed, Pending
from prefect.types._datetime import now
from prefect.types.entrypoint import EntrypointType

TAKEN = "TakenOver"  # the name of a failed run's state: its study goes on with another controller
PAGE = 200  # runs in an answer, the most that Prefect gives
OPEN = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
)


@dataclass(frozen=True, slots=True)
class Run:
    id: UUID
    kind: str  # the name of its deployment
    name: str
    study: str  # by its parameters; "" if they name none
    parameters: Mapping[str, Any]
    state: StateType
    state_id: UUID | None
    said: str  # the message of that state
    since: float  # unix seconds: when it came into that state
    created: float
    begun: bool = False  # it has run before
    launched: bool = False  # a worker has made its pod
    taken: bool = False  # its study goes on elsewhere
    pool: str | None = None  # the work pool whose workers begin it: that of its deployment when it was made


def for_a_worker(run: Run, pool: str | None) -> bool:
    """Whether it becomes a pod of our work pool. For a run made before that pool was, no worker comes."""
    return pool is not None and run.pool == pool


def register(flows: Mapping[str, Flow[..., Any]], pool: str | None) -> dict[UUID, str]:
    """Make the deployments as they should be, `tune` on the work pool if there is one; their names by id."""
    names: dict[UUID, str] = {}
    for name, flow in flows.items():
        deployment = flow.to_deployment(name, entrypoint_type=EntrypointType.MODULE_PATH)
        assert isinstance(deployment, RunnerDeployment)  # not awaitable: nobody awaits here
        # Both are set, also to nothing, so that an earlier pool is forgotten.
        deployment.work_pool_name = pool if name == "tune" else None
        deployment.work_queue_name = None
        names[cast(UUID, deployment.apply())] = name
    return names


@dataclass(frozen=True, slots=True)
class FlowRuns:
    """Of the deployments that we serve. Errors are those of the client: Prefect does not answer."""

    client: SyncPrefectClient
    kinds: Mapping[UUID, str]  # names of deployments by their ids

    def due(self) -> list[Run]:
        """Those that should begin now, the oldest first."""
        before = FlowRunFilterNextScheduledStartTime(before_=cast(Any, now()))
        return sorted(self._read((StateType.SCHEDULED,), due=before), key=lambda run: run.created)

    def ready(self) -> None:
        """Tell Prefect that somebody serves them; it writes that down, so not at each turn."""
        self.client.get_scheduled_flow_runs_for_deployments(list(self.kinds), scheduled_before=now(), limit=1)

    def open(self) -> list[Run]:
        """Those that have not ended."""
        return self._read(OPEN)

    def ended(self, states: Iterable[StateType], seconds: float) -> list[Run]:
        """Those that ended so within the last seconds."""
        after = FlowRunFilterEndTime(after_=cast(Any, now() - timedelta(seconds=seconds)))
        return self._read(states, after=after)

    def named(self, name: str) -> list[Run]:
        """The last ones of that name, the newest first."""
        wanted = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=list(self.kinds)),
            name=FlowRunFilterName(any_=[name]),
        )
        newest = FlowRunSort.START_TIME_DESC
        return [self._run(run) for run in self.client.read_flow_runs(flow_run_filter=wanted, sort=newest)]

    def claim(self, run: Run) -> bool:
        """Whether it is ours to begin."""
        return self.client.set_flow_run_state(run.id, Pending()).status is SetStateStatus.ACCEPT

    def begin_again(self, run: Run, message: str, seconds: float) -> None:
        when = now() + timedelta(seconds=seconds)
        self._set(run, AwaitingRetry(scheduled_time=when, message=message))

    def end(self, run: Run, state: State[Any]) -> None:
        self._set(run, state)

    def refuse(self, run: Run, text: str, message: str) -> None:
        """Ended before it began, also while a worker makes its pod; its artifact `mistakes` says why."""
        state = self.client.read_flow_run(run.id).state
        if state is not None and state.type in (StateType.SCHEDULED, StateType.PENDING):
            self.client.create_artifact(
                ArtifactCreate(key="mistakes", type="markdown", data=text, flow_run_id=run.id)
            )
            self.client.create_logs([_line(run, message)])  # its page opens with the logs
            self.client.set_flow_run_state(run.id, Failed(message=message), force=True)

    def deaths(self, run: Run, beginning: str) -> list[float]:
        """When it was begun again with a message that begins so."""
        states = self.client.read_flow_run_states(run.id)
        return [_seconds(state.timestamp) for state in states if (state.message or "").startswith(beginning)]

    def _set(self, run: Run, state: State[Any]) -> None:
        """Unless its state has changed since it was read."""
        current = self.client.read_flow_run(run.id).state
        if current is not None and current.id == run.state_id:
            self.client.set_flow_run_state(run.id, state, force=True)

    def _read(
        self,
        states: Iterable[StateType],
        *,
        after: FlowRunFilterEndTime | None = None,
        due: FlowRunFilterNextScheduledStartTime | None = None,
    ) -> list[Run]:
        wanted = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=list(self.kinds)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
            end_time=after,
            next_scheduled_start_time=due,
        )
        runs: list[Run] = []
        page: Sequence[FlowRun] | None = None
        while page is None or len(page) == PAGE:
            page = self.client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=len(runs))
            runs += [self._run(run) for run in page]
        return runs

    def _run(self, run: FlowRun) -> Run:
        state = run.state
        return Run(
            id=run.id,
            kind=self.kinds.get(run.deployment_id, "") if run.deployment_id else "",
            name=run.name,
            study=str(run.parameters.get("study", "")).strip(),  # as the form reads it
            parameters=run.parameters,
            state=state.type if state else StateType.SCHEDULED,
            state_id=state.id if state else None,
            said=(state.message or "") if state else "",
            since=_seconds(state.timestamp if state else None),
            created=_seconds(run.created),
            begun=run.run_count > 0,
            launched=bool(run.infrastructure_pid),
            taken=bool(state and state.name == TAKEN),
            pool=run.work_pool_name,
        )


def _line(run: Run, message: str) -> dict[str, Any]:
    at = now().isoformat()
    return {"name": "abohb", "level": 40, "message": message, "timestamp": at, "flow_run_id": str(run.id)}


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else time.time()
