"""The Prefect flow `tune`: the study's loop in the foreground, Prefect looking on from behind.

The store holds the truth. Prefect is told what happens by one background thread, and is asked whether
somebody has cancelled the run; when it is slow or gone, tuning does not notice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from flows.controller.loop import Ending
from flows.controller.places import Place, place_for
from flows.controller.run import Show, tune_at
from flows.metrics.book import metered
from flows.study.model import Study
from flows.ui.server import outlive, prefect_api
from flows.ui.writer import PrefectWriter
from flows.views.report import result_text
from flows.views.view import StudyView


@flow(name="tune", log_prints=False)
def tune(study: Study, on: Literal["local", "kubernetes"] = "local") -> State[Any]:
    """Tune a study; the same study again goes on where it was.

    `local`: with processes of the machine that runs this flow; `kubernetes`: with Jobs of the cluster that
    its kube context names, or that it runs in.
    """
    return state_of(*tuned(place_for(study, on), ())[:2])


def tune_in_prefect(
    place: Place, shows: Sequence[Show], *, take_over: bool = False, say: Callable[[str], None] = print
) -> tuple[StudyView, Ending, str]:
    """Tune a study inside a run of the flow `tune`, with the configured Prefect or one of our own.

    Raises what `flows.controller.run.tune_at` does; for SIGTERM KeyboardInterrupt, or, where trials go on
    without us, TerminationSignal. Whatever becomes of Prefect, the study is tuned; the text says what it
    was not told.
    """
    results: list[tuple[StudyView, Ending, str]] = []

    def lasts(told: BaseException) -> bool:
        """By SIGTERM a pod or a machine is going; Ctrl-C is a person's."""
        return place.lasting and isinstance(told, TerminationSignal)

    def body(study: Study) -> State[Any]:
        results.append(tuned(place, shows, take_over=take_over, leave=lasts))
        return state_of(*results[-1][:2])

    watched: Flow[..., Any] = flow(name="tune", flow_run_name=place.study.name)(body)
    with prefect_api(say) as prefect:
        if prefect.note:
            say(prefect.note)
        try:
            outlive(watched, place.study, prefect, say)
        except TerminationSignal as error:
            if place.lasting:
                raise
            raise KeyboardInterrupt from error
    return results[-1]


def tuned(
    place: Place,
    shows: Sequence[Show],
    *,
    take_over: bool = False,
    leave: Callable[[BaseException], bool] = lambda told: False,
) -> tuple[StudyView, Ending, str]:
    """`tune_at`, shown on the flow run around us; the text says what Prefect was not told.

    `leave` is asked when we are told to end: whether the trials shall go on without a controller.
    """
    run = this_run()
    if run is None:  # Prefect could not be reached at all
        return *tune_at(place, shows, take_over=take_over, leave=leave), ""
    study = place.study
    writer = PrefectWriter(study.name, run.id, unit=study.resource.name)
    lost = ""

    def left(told: BaseException) -> bool:
        return not writer.cancelled.is_set() and leave(told)

    try:
        with metered(study.name) as meters:
            view, ending = tune_at(
                place,
                [*shows, writer, *meters],
                take_over=take_over,
                cancelled=writer.cancelled.is_set,
                leave=left,
            )
        writer.show(dataclasses.replace(view, messages=()))  # with the place of the best checkpoint
    finally:
        lost = writer.close()
    return view, ending, lost


def this_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return context.flow_run if context else None


def state_of(view: StudyView, ending: Ending) -> State[Any]:
    if not ending.final:
        return Cancelled(message=f"{ending.reason}; the same study again goes on where it was")
    return (Failed if ending.failed else Completed)(message=result_text(view))
