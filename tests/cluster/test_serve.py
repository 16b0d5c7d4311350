"""Deployments served for real: a study begun by Prefect's API, its controller killed, cancelled, steered."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from flows.controller.session import replay
from flows.outside.look import known
from hpo_engine.history import History
from hpo_engine.types import AttemptEnded, Blame, Event, Outcome, Status
from operators.journal import Journal
from operators.lease import Lookout
from operators.store import Store
from operators.stores import open_store
from tests.cluster.aftermath import check_losses
from tests.cluster.desk import Desk
from tests.cluster.kit import Json, until
from tests.cluster.serving import Office, form, office, serving
from tests.flows.invariants import check_journal

pytestmark = pytest.mark.cluster


@pytest.fixture
def prefect(prefect_server: str) -> Iterator[Office]:
    with office(prefect_server) as found:
        yield found


def store_of(desk: Desk) -> Store:
    return open_store(f"s3://{desk.bucket}/studies", {**os.environ, **desk.environment})


def owner(desk: Desk, study: str) -> int:
    """The process id of the controller."""
    return int(json.loads(store_of(desk).get(f"{study}/owner.json") or b"{}").get("pid", 0))


def runs(desk: Desk, pods: int) -> bool:
    running = [pod for pod in desk.cluster.list("pods") if pod["status"].get("phase") == "Running"]
    return len(running) >= pods


def job_uids(desk: Desk) -> set[str]:
    return {job["metadata"]["uid"] for job in desk.cluster.list("jobs")}


def test_begun_killed_and_killed_again_it_goes_on_with_its_jobs(desk: Desk, prefect: Office) -> None:
    with serving(desk) as served:
        began = time.monotonic()
        # Legs of half a minute, so that a Job outlives two controllers.
        run = prefect.begin("tune", form(desk, "served", pace=8.0, trials=2, resource_min=4, resource_max=5))
        until("two trials run", lambda: runs(desk, 2), 120)
        print(f"two trials ran {time.monotonic() - began:.1f} s after the run was made")
        before, first = job_uids(desk), owner(desk, "served")
        os.kill(first, signal.SIGKILL)
        killed = time.monotonic()
        until("it is begun again", lambda: "AwaitingRetry" in prefect.states(run), 30)
        until("somebody has it", lambda: owner(desk, "served") != first, 60)
        print(f"another controller had it {time.monotonic() - killed:.1f} s after the first was killed")
        assert job_uids(desk) & before
        served.kill()
    with serving(desk) as served:
        prefect.wait(run, "Completed", 240)
        print(prefect.states(run))
    events = check_journal_of(desk, "served")
    check_losses(events)
    ended = [event.outcome for event in events if isinstance(event, AttemptEnded)]
    assert {*ended} == {Outcome.OK}, "no attempt was lost"


@pytest.mark.slow
def test_steered_let_go_and_cancelled_no_job_is_left(desk: Desk, prefect: Office) -> None:
    fields = form(desk, "steered", pace=4.0, trials=60, workers=3, resource_min=3)
    with serving(desk) as served:
        run = prefect.begin("tune", fields)
        until("three trials run", lambda: runs(desk, 3), 120)
        refused(prefect, fields, "is at work on study 'steered' already")
        refused(
            prefect, {**fields, "study": "Other", "search_space": "x: {typ: float}"}, "did you mean 'type'?"
        )

        said = steered(prefect, "workers", 1)
        assert said.startswith("Study steered has 1 worker now.")
        until("one trial runs", lambda: len(history(desk, "steered").live) == 1, 60)
        (victim,) = history(desk, "steered").live
        assert steered(prefect, "cancel trial", victim) == f"Trial {victim} of study steered is cancelled."
        assert history(desk, "steered").trials[victim].status is Status.STOPPED
        assert "has ended already" in steered(prefect, "cancel trial", victim, ends="Failed")

        until("another trial runs", lambda: set(history(desk, "steered").live) - {victim}, 60)
        until("its pod runs", lambda: runs(desk, 1), 60)
        (left,) = attempts(history(desk, "steered"))
        before = job_uids(desk)
        began = time.monotonic()
        assert served.terminate() == 0
        print(f"the server had let go of its study after {time.monotonic() - began:.1f} s")
        assert prefect.state(run).name == "AwaitingRetry"
        assert job_uids(desk) == before
    with serving(desk) as served:
        prefect.wait(run, "Running", 30)
        until("somebody has it", lambda: owned(desk, "steered"), 30)
        until("its attempt has ended", lambda: left in ended(desk, "steered"), 30)
        assert ended(desk, "steered")[left] is Outcome.OK, "it had run on"
        until("the next trial runs", lambda: runs(desk, 1), 60)
        cancelled(desk, prefect, run)

        run = prefect.begin("tune", fields)  # it goes on
        until("a trial runs again", lambda: runs(desk, 1), 60)
        served.kill()  # and is cancelled while nobody has it
        prefect.cancel(run)
    with serving(desk):
        until("no Job is left", lambda: not desk.cluster.list("jobs"), 45)
        prefect.wait(run, "Cancelled", 30)
    events = check_journal_of(desk, "steered")
    check_losses(events)
    assert not any(
        event.outcome.blame is Blame.TRAINING for event in events if isinstance(event, AttemptEnded)
    )


def refused(prefect: Office, fields: Json, why: str) -> None:
    began = time.monotonic()
    run = prefect.begin("tune", fields)
    prefect.wait(run, "Failed", 10)
    print(f"a mistake showed after {time.monotonic() - began:.1f} s: {prefect.state(run).message}")
    assert why in prefect.artifact(run, "mistakes")
    assert prefect.states(run) == ["Scheduled", "Failed"], "nothing was begun"
    assert time.monotonic() - began < 5


def steered(prefect: Office, action: str, number: int = 0, ends: str = "Completed") -> str:
    began = time.monotonic()
    run = prefect.begin("steer", {"study": "steered", "action": action, "number": number})
    state = prefect.wait(run, ends, 40)
    print(f"steered after {time.monotonic() - began:.1f} s: {state.message}")
    return state.message or ""


def cancelled(desk: Desk, prefect: Office, run: UUID) -> None:
    began = time.monotonic()
    prefect.cancel(run)
    until("no Job is left", lambda: not desk.cluster.list("jobs"), 30)
    print(f"no Job was left {time.monotonic() - began:.1f} s after the cancellation")
    prefect.wait(run, "Cancelled", 30)
    print(f"Cancelled after {time.monotonic() - began:.1f} s")


def attempts(history: History) -> list[tuple[int, int]]:
    return [(id, history.trials[id].attempt) for id in history.live]


def ended(desk: Desk, study: str) -> dict[tuple[int, int], Outcome]:
    events = (event for batch in Journal(store_of(desk), study).read() for event in batch.events)
    return {(one.trial, one.attempt): one.outcome for one in events if isinstance(one, AttemptEnded)}


def owned(desk: Desk, study: str) -> bool:
    return Lookout(store_of(desk), study).look(0.0).alive is True


def history(desk: Desk, name: str) -> History:
    store = store_of(desk)
    return replay(known(name, store, ""), store).engine.history


def check_journal_of(desk: Desk, name: str) -> list[Event]:
    store = store_of(desk)
    return check_journal(known(name, store, ""), store)
