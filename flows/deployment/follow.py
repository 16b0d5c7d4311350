"""A flow run as lines of text: its states, its trials, and what a user is told, until it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterName,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.client.schemas.sorting import LogSort, TaskRunSort
from prefect.exceptions import PrefectHTTPStatusError

from flows.deployment.mistakes import BEGINNING

EVERY = 2.0  # seconds between looks
PATIENCE = 180.0  # seconds that a crashed run is given to be taken up by another controller
ENDED = [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED]
PAGE = 200


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run has ended. `begun` is False when the study was wrong, and nothing was started."""

    state: str  # Completed, Failed, Cancelled or Crashed
    message: str
    begun: bool = True


def follow(
    client: SyncPrefectClient,
    run: UUID,
    say: Callable[[str], None],
    steady: Callable[[], float],
    sleep: Callable[[float], None],
) -> Ended:
    """Tells what happens, and returns when nothing more will; Prefect may be away for any time."""
    told, since, away = _Told(), steady(), False
    while True:
        try:
            found = client.read_flow_run(run)
            for line in told.lines(client, found):
                say(line)
            away = False
        except (httpx.HTTPError, RuntimeError) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
                raise
            if not away:
                say("Prefect does not answer; trying again.")
            away, found = True, None
        state = found.state if found else None
        if state is None or state.type is not StateType.CRASHED:
            since = steady()
        if state is not None and state.is_final() and steady() - since >= _patience(state):
            message = state.message or ""
            begun = not message.startswith(BEGINNING)
            return Ended(state.type.value.capitalize(), message.removeprefix(BEGINNING), begun)
        sleep(EVERY)


def _patience(state: State) -> float:
    return PATIENCE if state.type is StateType.CRASHED else 0.0


@dataclass(slots=True)
class _Told:
    """What has been said already."""

    state: str = ""
    tasks: dict[UUID, str] = field(default_factory=dict)
    logs: int = 0

    def lines(self, client: SyncPrefectClient, run: FlowRun) -> Iterator[str]:
        name = (run.state.name if run.state else "") or "Unknown"
        if name != self.state:
            self.state = name
            if run.state is not None and not run.state.is_final():
                yield f"The run is {name.lower()}."
            elif run.state is not None and run.state.type is StateType.CRASHED:
                yield "Its controller has crashed; waiting for another one to go on with it."
        yield from self._trials(client, run.id)
        yield from self._said(client, run.id)

    def _trials(self, client: SyncPrefectClient, run: UUID) -> Iterator[str]:
        found = [*_tasks(client, run, ENDED, PAGE), *_tasks(client, run, [StateType.RUNNING], PAGE)]
        for task in sorted(found, key=_when):
            if task.state is None or self.tasks.get(task.id) == task.state.name:
                continue
            name = self.tasks[task.id] = task.state.name or "Unknown"
            message = task.state.message or ""
            first = message.splitlines()[0] if message else ""
            yield f"  {task.name}: {name.lower()}" + (f", {first}" if first else "")

    def _said(self, client: SyncPrefectClient, run: UUID) -> Iterator[str]:
        ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]), name=LogFilterName(any_=["abohb"]))
        found = client.read_logs(ours, limit=PAGE, offset=self.logs, sort=LogSort.TIMESTAMP_ASC)
        self.logs += len(found)
        yield from (log.message for log in found)


def _when(task: TaskRun) -> float:
    at = task.end_time or task.start_time or task.created
    return at.timestamp() if at else 0.0


def _tasks(client: SyncPrefectClient, run: UUID, types: list[StateType], most: int) -> list[TaskRun]:
    """The newest first: what ended long ago has been told."""
    return client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=types))),
        sort=TaskRunSort.END_TIME_DESC,
        limit=most,
    )
