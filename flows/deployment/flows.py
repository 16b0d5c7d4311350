"""The flows `tune` and `steer` as deployed: begun from Prefect's form, by `abohb submit`, or by its API.

A run may be begun again at any point, in another process: the study goes on where it was, with its Jobs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.settings import temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed
from prefect.types._datetime import now

from flows.controller.backend import AwayError
from flows.controller.places import Place, place_for
from flows.controller.run import ended_view
from flows.controller.session import ChangedError, ended, replay
from flows.deployment.flow_runs import TAKEN
from flows.deployment.form import Form, flat, shown
from flows.deployment.form_study import study_of
from flows.deployment.mistakes import mistakes_markdown, mistakes_message
from flows.deployment.whereabouts import store_of
from flows.outside.orders import Action, tell
from flows.policy.apply import most_workers
from flows.tune import state_of, this_run, tuned
from flows.ui.writer import PrefectWriter
from flows.views.report import result_text
from flows.views.view import Leg, StudyView
from hpo_engine.types import AbohbError
from operators.journal import Fenced, JournalError
from operators.stores import open_store

AWAY = 15.0  # seconds until a store or a cluster that does not answer is tried again
LEFT = "Its controller was told to end; its trials run on, and the next controller goes on with them"
MEND = "Once that is mended, run the deployment again: the study goes on where it was"


@flow(name="tune", flow_run_name="{study}")
@flat
def tune(form: Form) -> State[Any]:
    """Tune hyper-parameters by asynchronous BOHB: each trial is a Kubernetes Job of your image.

    A study of the same name goes on where it was. While it runs, the deployment `steer` pauses it, resumes
    it, changes its number of workers or cancels a trial. Cancelling this run ends its trials, and leaves the
    study resumable.
    """
    again = (run := this_run()) is not None and run.run_count > 1
    try:
        study = study_of(form)
        place = place_for(study, "kubernetes")
    except AbohbError as error:
        return refused(error, begun=again)
    work = _Work(again)
    try:
        return _tuned(place, work)
    except TerminationSignal:
        return _cancelled() or AwaitingRetry(message=LEFT)
    except (OSError, AwayError) as error:  # the store, or the cluster, is away
        when = now("UTC") + timedelta(seconds=AWAY)
        return AwaitingRetry(scheduled_time=when, message=f"{error}; tried again in {AWAY:.0f} s")
    except AbohbError as error:
        return _ended_by(error, work)


def _ended_by(error: AbohbError, work: _Work) -> State[Any]:
    match error:
        case ChangedError():
            return refused(error, begun=work.again)
        case Fenced():
            return Failed(name=TAKEN, message=f"{error}, and goes on there")
        case JournalError() if work.again or work.begun:
            return Failed(message=f"{error}. {MEND}")
    if work.again:  # it does not fail for what may pass
        return Crashed(message=str(error))
    return Failed(message=f"{error}. {MEND}") if work.begun else refused(error)


@dataclass
class _Work:
    """Looks on, to know whether it has begun: what fails from then on is no mistake in a form."""

    again: bool  # an earlier process of this run has begun
    begun: bool = False  # this one has

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        self.begun |= view.counts.started > 0


def _tuned(place: Place, work: _Work) -> State[Any]:
    replayed = replay(place.study, place.store)
    work.again = work.again and replayed.study is not None  # else it got no further than to find them away
    if ended(place.study, replayed):
        view = ended_view(place, replayed)
        if run := this_run():
            writer = PrefectWriter(place.study.name, run.id, unit=place.study.resource.name)
            writer.show(view)
            writer.close()
        return Completed(message=result_text(view))
    if not work.again:
        place.check()
    view, ending, _ = tuned(place, [work], leave=lambda told: _cancelled() is None)
    return state_of(view, ending)


def refused(error: AbohbError, *, begun: bool = False) -> State[Any]:
    """Nothing is begun now, or `begun` again: the run fails, and its artifact `mistakes` says why."""
    create_markdown_artifact(mistakes_markdown(error, begun=begun), key="mistakes")
    return Failed(message=mistakes_message(error, begun=begun))


def _cancelled() -> State[Any] | None:
    """The state of this run if somebody cancels it; None as well when Prefect does not answer."""
    run = this_run()
    if run is None:
        return None
    quick = {"client.max_retries": 0, "api.request_timeout": 3.0}
    try:
        with temporary_settings(updates=quick), get_client(sync_client=True) as client:
            state = client.read_flow_run(run.id).state
    except Exception:  # no time to ask again: a cancellation will be heard by the next controller
        return None
    if state is not None and (state.is_cancelling() or state.is_cancelled()):
        return Cancelled(message="Cancelled; the same study again goes on where it was")
    return None


Name = Annotated[str, shown("Study", "The name of a study that is being tuned.")]
Doing = Annotated[
    Action,
    shown(
        "Action",
        "pause: trials end after their next report, and none begins. stop: end its trials; it can be tuned on"
        " later. workers: at most so many trials at once. cancel trial: end that one for good.",
    ),
]
Number = Annotated[int, shown("Number", "For workers: how many. For cancel trial: which one.")]


@flow(name="steer", flow_run_name="{action} {study}")
def steer(study: Name, action: Doing = "pause", number: Number = 0) -> State[Any]:
    """Change a running study: pause, resume, stop, its number of workers, or cancel one of its trials."""
    try:
        where = store_of(study, os.environ)
        said = tell(open_store(where, os.environ), where, study, action, number, most_workers())
    except AbohbError as error:
        return refused(error)
    return Completed(message=said)
