"""The writer against a real server, and against servers that are away or do not answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.settings import temporary_settings
from prefect.states import Cancelled, Cancelling

from flows.ui.child import free_port
from flows.ui.outbox import Outbox
from flows.ui.server import Prefect, outlive, patience, prefect_api
from flows.ui.writer import Pace, PrefectWriter, leg_name, leg_state
from flows.views.view import Best, Budget, Counts, LegEnded, LegStarted, Level, StudyView
from hpo_engine.types import Outcome

QUICK = Pace(artifacts=0.2, state=0.2, request=0.5, pause=0.1, longest_pause=0.2)
VIEW = StudyView(
    "Digits 1", "a-bohb", elapsed=61, best=Best(2, 0.25, 3, {"lr": 0.1}),
    levels=(Level(1, 9, 3), Level(3, 3)),
    counts=Counts(started=9), units=18, full_units=243, budget=Budget("9 of 20 trials", 0.45),
    messages=("trial 4 has no checkpoint: it starts over",),
)  # fmt: skip


def ended(trial: int, outcome: Outcome, *, until: int = 3, **more: object) -> LegEnded:
    return LegEnded(trial, 1, until, outcome, seconds=2.0, at=0.0, **more)  # type: ignore[arg-type]


def legs_of(client: SyncPrefectClient, run: UUID) -> dict[str, object]:
    found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    return {task_run.name: task_run for task_run in found}


def until(true: object, within: float = 5.0) -> bool:
    end = time.monotonic() + within
    while not true() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.05)
    return bool(true())  # type: ignore[operator]


# -- a server that is there -------------------------------------------------------------------------


def test_a_leg_becomes_a_task_run_with_its_name_state_and_duration(
    client: SyncPrefectClient, run: UUID
) -> None:
    began = time.monotonic()
    writer = PrefectWriter("digits", run, pace=QUICK)
    writer.show(VIEW, [LegStarted(0, 1, 3, 0.0), LegStarted(1, 1, 9, 0.0), LegStarted(2, 1, 3, 0.0)])
    assert until(lambda: len(legs_of(client, run)) == 3)
    time.sleep(1.2)
    writer.show(
        VIEW, [ended(0, Outcome.OK), ended(2, Outcome.USER_ERROR, detail="Traceback\nValueError: no")]
    )
    assert writer.close() == ""
    legs = legs_of(client, run)
    states = {name: leg.state_type for name, leg in legs.items()}
    assert states == {
        "trial-0 to epoch 3": StateType.COMPLETED,
        "trial-1 to epoch 9": StateType.RUNNING,
        "trial-2 to epoch 3": StateType.FAILED,
    }
    assert 1.2 < legs["trial-0 to epoch 3"].total_run_time.total_seconds() < time.monotonic() - began
    assert legs["trial-2 to epoch 3"].state.message == "user error after 2.0 s\nTraceback\nValueError: no"


def test_a_leg_that_ended_before_its_start_was_told_is_told_whole(
    client: SyncPrefectClient, run: UUID
) -> None:
    writer = PrefectWriter("digits", run, pace=QUICK)
    writer.show(
        VIEW, [LegStarted(5, 1, 1, 0.0), ended(5, Outcome.OK, until=1), ended(6, Outcome.OK, stopped=True)]
    )
    assert writer.close() == ""
    legs = legs_of(client, run)
    assert legs["trial-5 to epoch 1"].state_type == StateType.COMPLETED
    assert legs["trial-6 to epoch 3"].state_type == StateType.CANCELLED


def test_the_run_gets_name_tags_messages_and_the_newest_artifacts(
    client: SyncPrefectClient, run: UUID
) -> None:
    writer = PrefectWriter("Digits 1", run, pace=QUICK)
    for trials in range(9, 12):
        writer.show(replace(VIEW, budget=Budget(f"{trials} of 20 trials", trials / 20)))
        time.sleep(0.3)
    assert writer.close() == ""
    told = client.read_flow_run(run)
    assert (told.name, told.tags) == ("Digits 1", ["study:Digits 1"])
    logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))
    assert [log.message for log in logs] == list(VIEW.messages)
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    shown = {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=mine)}
    assert sorted(shown) == ["digits-1-best", "digits-1-progress", "digits-1-rungs", "digits-1-summary"]
    assert shown["digits-1-progress"].data == 55
    assert "11 of 20 trials" in shown["digits-1-summary"].data
    assert "| 1 | 9 | 3 | 0 | – |" in shown["digits-1-rungs"].data
    assert "| lr | 0.1 |" in shown["digits-1-best"].data


def test_cancelling_the_run_in_prefect_is_seen(client: SyncPrefectClient, run: UUID) -> None:
    writer = PrefectWriter("digits", run, pace=QUICK)
    assert not writer.cancelled.wait(0.6)
    client.set_flow_run_state(run, Cancelling(), force=True)
    assert writer.cancelled.wait(3)
    writer.close()


def test_what_prefect_refuses_is_counted_and_the_rest_goes_on(client: SyncPrefectClient, run: UUID) -> None:
    writer = PrefectWriter("digits", uuid4(), pace=QUICK, watch=False)  # no such run: its title is refused
    writer.show(VIEW)
    assert until(lambda: writer.dropped == 1)
    assert writer.close() == "Prefect was slow or away: 1 update not shown there. The study has them all."


# -- a server that is not ---------------------------------------------------------------------------


@pytest.fixture(params=["away", "silent"])
def bad_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "away":
        yield f"http://127.0.0.1:{free_port()}/api"
        return
    with socket.create_server(("127.0.0.1", 0), backlog=64) as accepts_and_says_nothing:
        yield f"http://127.0.0.1:{accepts_and_says_nothing.getsockname()[1]}/api"


def test_tuning_does_not_notice_a_bad_server(bad_url: str) -> None:
    with patience(bad_url):
        writer = PrefectWriter("digits", uuid4(), size=50, pace=QUICK)
        slowest = 0.0
        for trial in range(2000):
            before = time.perf_counter()
            writer.show(VIEW, [LegStarted(trial, 1, 3, 0.0), ended(trial, Outcome.OK)])
            slowest = max(slowest, time.perf_counter() - before)
        before = time.monotonic()
        line = writer.close(timeout=1.0)
        assert time.monotonic() - before < 1.3
    assert slowest < 0.05  # the mean is some microseconds; one pause of the interpreter is allowed
    assert writer.dropped > 1900
    assert str(writer.dropped) in line


def test_calls_take_less_than_a_millisecond(bad_url: str) -> None:
    with patience(bad_url):
        writer = PrefectWriter("digits", uuid4(), size=50, pace=QUICK)
        before = time.perf_counter()
        for trial in range(1000):
            writer.show(VIEW, [LegStarted(trial, 1, 3, 0.0)])
        assert (time.perf_counter() - before) / 1000 < 0.001
        writer.close(timeout=0.1)


def test_a_server_that_comes_late_is_told_everything(
    prefect_server: str, client: SyncPrefectClient, run: UUID
) -> None:
    gate = Gate(prefect_server)
    with patience(gate.url):
        writer = PrefectWriter("digits", run, pace=QUICK, watch=False)
        writer.show(VIEW, [LegStarted(0, 1, 3, 0.0)])
        time.sleep(2.5)  # longer than the tries that one request makes
        gate.open()
        assert until(lambda: "trial-0 to epoch 3" in legs_of(client, run))
        gate.close()
        writer.show(VIEW, [ended(0, Outcome.OK), LegStarted(1, 1, 3, 0.0), ended(1, Outcome.STALLED)])
        time.sleep(1.0)
        gate.open()
        assert until(lambda: len(legs_of(client, run)) == 2)
        assert writer.close() == ""
    gate.close()
    states = {name: leg.state_type for name, leg in legs_of(client, run).items()}
    assert states == {"trial-0 to epoch 3": StateType.COMPLETED, "trial-1 to epoch 3": StateType.FAILED}
    assert client.read_flow_run(run).name == "digits"


class Gate:
    """A TCP relay in front of a server that can be shut and opened."""

    def __init__(self, url: str) -> None:
        self.target = int(url.split(":")[2].split("/")[0])
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.listener: socket.socket | None = None
        self.pairs: list[socket.socket] = []

    def open(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def close(self) -> None:
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        for each in self.pairs:
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self.pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=relay, args=(source, sink), daemon=True).start()


def relay(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for each in (source, sink):
        each.close()


# -- flows that outlive their API -------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    value: int


@dataclass(frozen=True)
class NotANumber:
    value: int


called: list[str] = []


@flow(name="doubles")
def doubles(number: Number) -> int:
    called.append("in Prefect" if FlowRunContext.get() else "alone")
    if number.value < 0:
        raise ArithmeticError(number)
    return 2 * number.value


def test_outlive_returns_and_raises_as_the_function_does(prefect_settings: str) -> None:
    called.clear()
    for prefect in (Prefect(prefect_settings), Prefect("")):
        assert outlive(doubles, Number(21), prefect) == 42
        with pytest.raises(ArithmeticError):
            outlive(doubles, Number(-1), prefect)
    assert called == ["in Prefect"] * 2 + ["alone"] * 2


def test_outlive_tells_when_prefect_refuses_the_argument(prefect_settings: str) -> None:
    said: list[str] = []
    wrong: Any = NotANumber(21)
    assert outlive(doubles, wrong, Prefect(prefect_settings), said.append) == 42
    assert len(said) == 1
    assert "Validation" in said[0]


def test_outlive_runs_without_a_server_that_is_gone(bad_url: str) -> None:
    said: list[str] = []
    with patience(bad_url), temporary_settings(updates={"api.request_timeout": 0.5}):
        assert outlive(doubles, Number(21), Prefect(bad_url), said.append) == 42
    assert len(said) == 1
    assert "did not start this run" in said[0]


def test_outlive_keeps_the_result_when_the_server_dies_under_the_run(prefect_server: str) -> None:
    gate = Gate(prefect_server)
    gate.open()
    said: list[str] = []

    @flow(name="orphaned")
    def orphaned(number: int) -> int:
        gate.close()
        return number

    with patience(gate.url):
        assert outlive(orphaned, 7, Prefect(gate.url), said.append) == 7
    assert len(said) == 1
    assert "did not take the end of this run" in said[0]


def test_a_configured_api_that_is_away_is_told_and_not_used(bad_url: str) -> None:
    with temporary_settings(updates={"api.url": bad_url}), prefect_api() as prefect:
        assert prefect.url == ""
        assert "tuning without it" in prefect.note


def test_a_configured_api_is_used(prefect_settings: str) -> None:
    with prefect_api() as prefect:
        assert prefect.url == prefect_settings


def test_our_server_ends_with_the_process_that_started_it(
    prefect_server: str, prefect_database: dict[str, str]
) -> None:
    code = (
        "import os, signal, sys\nfrom flows.ui.child import free_port, spawn\n"
        "print(spawn(free_port(), sys.stderr).pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {**os.environ, **prefect_database}
    child = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    server = Path(f"/proc/{int(child.stdout)}/cmdline")
    assert until(lambda: not server.exists() or not server.read_bytes(), within=20)  # gone, or not yet buried


def test_a_run_cancelled_in_prefect_ends_cancelled_with_its_result(prefect_settings: str) -> None:
    runs: list[UUID] = []
    said: list[str] = []

    @flow(name="cancelled")
    def cancelled(number: int) -> object:
        runs.append(runtime.flow_run.id)
        writer = PrefectWriter("digits", runs[0], pace=QUICK)
        with get_client(sync_client=True) as somebody:
            somebody.set_flow_run_state(runs[0], Cancelling())
        assert writer.cancelled.wait(5)
        assert writer.close() == ""
        return Cancelled(message=f"resumable {number}")

    ended = outlive(cancelled, 7, Prefect(prefect_settings), said.append)
    assert said == []
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(runs[0]).state
    assert state
    assert (state.type, state.message, ended.message) == (StateType.CANCELLED, "resumable 7", "resumable 7")


@pytest.mark.parametrize("there", [True, False])
def test_sigterm_is_raised_inside_the_function_and_out_of_it(prefect_settings: str, there: bool) -> None:
    seen: list[str] = []

    @flow(name="terminated")
    def terminated(number: int) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            seen.append("cleaned up")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TerminationSignal):
        outlive(terminated, 0, Prefect(prefect_settings if there else ""))
    assert seen == ["cleaned up"]
    assert signal.getsignal(signal.SIGTERM) is before


# -- the values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leg", "kind", "message"),
    [
        (LegStarted(1, 1, 3, 0.0), StateType.RUNNING, None),
        (ended(1, Outcome.OK, value=0.25), StateType.COMPLETED, "2.0 s, objective 0.25"),
        (ended(1, Outcome.OK, stopped=True, detail="bad"), StateType.CANCELLED, "Stopped after 2.0 s. bad"),
        (ended(1, Outcome.INTERRUPTED), StateType.CANCELLED, "interrupted after 2.0 s"),
        (ended(1, Outcome.LOST), StateType.FAILED, "lost after 2.0 s"),
        (ended(1, Outcome.USER_ERROR, detail="boom"), StateType.FAILED, "user error after 2.0 s\nboom"),
    ],
)  # fmt: skip
def test_the_state_of_a_leg(leg: LegStarted | LegEnded, kind: StateType, message: str | None) -> None:
    state = leg_state(leg)
    assert (state.type, state.message) == (kind, message)
    assert leg_name(leg, "epoch") == "trial-1 to epoch 3"


def test_the_outbox_keeps_order_replaces_and_counts() -> None:
    box: Outbox[str] = Outbox(2)
    assert [box.put("a", "1"), box.put("b", "2"), box.put("c", "3"), box.put("a", "4")] == [
        True,
        True,
        False,
        True,
    ]
    assert box.put("d", "5", urgent=True)
    assert box.take(0) == ("a", "4")
    box.put_back("a", "4")
    box.put_back("b", "older")
    assert [box.take(0) for _ in range(4)] == [("a", "4"), ("b", "2"), ("d", "5"), None]
    assert box.dropped == 1
