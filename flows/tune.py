"""The Prefect flow `tune`: the study's loop in the foreground, Prefect looking on from behind.

The store holds the truth. Prefect is told what happens by one background thread, and is asked whether
somebody has cancelled the run; when it is slow or gone, tuning does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from prefect import Flow, flow
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed, State

from flows.loop import Ending
from flows.places import Place, place_for
from flows.prefect_server import outlive, prefect_api
from flows.prefect_writer import PrefectWriter
from flows.report import result_text
from flows.run import Show, tune_at
from flows.study import Study
from flows.view import StudyView


@flow(name="tune", log_prints=False)
def tune(study: Study, on: Literal["local", "kubernetes"] = "local") -> State[Any]:
    """Tune a study; the same study again goes on where it was.

    `local`: with processes of the machine that runs this flow; `kubernetes`: with Jobs of the cluster that
    its kube context names, or that it runs in.
    """
    return _state(*_tuned(place_for(study, on), ())[:2])


def tune_in_prefect(
    place: Place, shows: Sequence[Show], *, take_over: bool = False, say: Callable[[str], None] = print
) -> tuple[StudyView, Ending, str]:
    """Tune a study inside a run of the flow `tune`, with the configured Prefect or one of our own.

    Raises what `flows.run.tune_at` does, KeyboardInterrupt for SIGTERM too. Whatever becomes of Prefect,
    the study is tuned; the text says what of it Prefect was not told.
    """
    results: list[tuple[StudyView, Ending, str]] = []

    def body(study: Study) -> State[Any]:
        results.append(_tuned(place, shows, take_over=take_over))
        return _state(*results[-1][:2])

    watched: Flow[..., Any] = flow(name="tune", flow_run_name=place.study.name)(body)
    with prefect_api(say) as prefect:
        if prefect.note:
            say(prefect.note)
        try:
            outlive(watched, place.study, prefect, say)
        except TerminationSignal as error:
            raise KeyboardInterrupt from error
    return results[-1]


def _tuned(place: Place, shows: Sequence[Show], *, take_over: bool = False) -> tuple[StudyView, Ending, str]:
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:  # Prefect could not be reached at all
        return *tune_at(place, shows, take_over=take_over), ""
    # A runner delivers a cancellation itself, as SIGTERM, and only to runs of a deployment.
    study = place.study
    writer = PrefectWriter(study.name, run.id, unit=study.resource.name, watch=run.deployment_id is None)
    lost = ""
    try:
        view, ending = tune_at(
            place, [*shows, writer], take_over=take_over, cancelled=writer.cancelled.is_set
        )
    finally:
        lost = writer.close()
    return view, ending, lost


def _state(view: StudyView, ending: Ending) -> State[Any]:
    if not ending.final:
        return Cancelled(message=f"{ending.reason}; the same study again goes on where it was")
    return (Failed if ending.failed else Completed)(message=result_text(view))
