"""The flow `tune` on a real Prefect server: what it shows there, and how it ends."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.states import State

from flows.controller.loop import Ending
from flows.controller.places import LocalPlace
from flows.controller.run import final_view
from flows.controller.session import replay
from flows.tune import state_of, tune, tune_in_prefect
from flows.views.view import LegStarted, StudyView
from operators.journal import Fenced
from tests.flows.invariants import check_journal
from tests.flows.real_study import trial_processes
from tests.flows.test_run import Recorder, quick_study, store_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

SHORT = {"min": 1, "max": 3, "eta": 3}


def found(url: str, kind: str, name: str) -> list[dict[str, Any]]:
    """The flow runs of a name, or the task runs of those."""
    wanted = {"flow_runs": {"name": {"any_": [name]}}}
    answer = httpx.post(f"{url}/{kind}_runs/filter", json=wanted)
    answer.raise_for_status()
    return list(answer.json())


def test_the_flow_ends_completed_with_one_task_run_for_each_leg(
    tmp_path: Path, prefect_settings: str
) -> None:
    study = quick_study(tmp_path, name="shown", budget={"trials": 3}, resource=SHORT)
    recorder, said = Recorder(), list[str]()
    view, ending, lost = tune_in_prefect(LocalPlace(study), [recorder], say=said.append)
    assert (ending, lost) == (Ending("the budget of 3 trials is used"), "")
    assert said == [f"Prefect shows this study at {prefect_settings.removesuffix('/api')}."]
    assert view == final_view(LocalPlace(study), replay(study, store_of(study)))
    check_journal(study, store_of(study))
    (run,) = found(prefect_settings, "flow", "shown")
    assert run["state_type"] == "COMPLETED"
    assert "study:shown" in run["tags"]
    assert "Best configuration" in run["state"]["message"]
    tasks = found(prefect_settings, "task", "shown")
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    trials = Counter(task["name"].partition(" ")[0] for task in tasks)
    assert trials == Counter(f"trial-{leg.trial}" for leg in recorder.legs if isinstance(leg, LegStarted))


def test_sigterm_ends_the_trials_and_leaves_the_study_resumable(
    tmp_path: Path, prefect_settings: str
) -> None:
    study = quick_study(tmp_path, name="ended-early")
    recorder = Recorder(at=4, then=lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        tune_in_prefect(LocalPlace(study), [recorder], say=lambda line: None)
    assert trial_processes(tmp_path) == []
    check_journal(study, store_of(study))
    state = tune(study, return_state=True)  # as a deployment calls it
    assert state.is_completed()
    assert len(found(prefect_settings, "flow", "ended-early")) == 2
    check_journal(study, store_of(study))


def test_being_fenced_is_raised_through_the_flow(tmp_path: Path, prefect_settings: str) -> None:
    study = quick_study(tmp_path, name="fenced", budget={"trials": 2}, resource=SHORT)

    def take() -> None:
        from flows.controller.run import tune_locally

        tune_locally(study, [], take_over=True)

    with pytest.raises(Fenced):
        tune_in_prefect(LocalPlace(study), [Recorder(at=2, then=take)], say=lambda line: None)
    (run,) = found(prefect_settings, "flow", "fenced")
    assert run["state_type"] == "FAILED"
    check_journal(study, store_of(study))


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (Ending("used"), "COMPLETED"),
        (Ending("3 trials failed", failed=True), "FAILED"),
        (Ending("interrupted", final=False), "CANCELLED"),
    ],
)
def test_how_an_ending_is_called_in_prefect(ending: Ending, kind: str) -> None:
    state: State[Any] = state_of(StudyView("digits", "asha"), ending)
    assert state.type.value == kind


def test_the_artifacts_at_the_end_name_the_checkpoint_of_the_best(
    tmp_path: Path, prefect_settings: str
) -> None:
    study = quick_study(tmp_path, name="drawn", budget={"trials": 2}, resource=SHORT)
    tune_in_prefect(LocalPlace(study), [], say=lambda line: None)
    answer = httpx.post(
        f"{prefect_settings}/artifacts/filter", json={"flow_runs": {"name": {"any_": ["drawn"]}}}
    )
    shown = {artifact["key"]: artifact["data"] for artifact in answer.raise_for_status().json()}
    assert {"drawn-progress", "drawn-summary", "drawn-rungs", "drawn-best", "drawn-curves"} <= shown.keys()
    assert shown["drawn-progress"] == 100
    assert f"Checkpoint: `{tmp_path}" in shown["drawn-best"]
    assert shown["drawn-curves"].count("data:image/svg+xml;base64,") == 2
