"""A user of the chart, who has a browser and nothing else. In this order: one story.

No call of an API starts, steers or cancels anything here; the cluster is only asked which Jobs there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.kit import image, until
from tests.cluster.release import Release

if TYPE_CHECKING:
    from tests.cluster.browser.ui import Ui

pytestmark = pytest.mark.cluster

STUDY, OTHER, WRONG = "digits", "digits-pytorch", "digits-wrong"
MISSPELT = """\
learning_rate: {type: flaot, low: 1.0e-4, high: 1.0}
momentum: {type: float, low: 0.99, high: 0.0}
"""


def jobs(release: Release) -> list[str]:
    """Of trials that have not ended."""
    found = release.cluster.list("jobs")
    return [
        one["metadata"]["name"]
        for one in found
        if one["status"].get("active") or "conditions" not in one["status"]
    ]


def none_is_left(release: Release) -> None:
    until("no Job remains", lambda: release.cluster.list("jobs") == [], within=30)


def test_a_study_is_started_from_the_form(ui: Ui, release: Release) -> None:
    ui.form("tune")
    ui.fill(study=STUDY, image=image("trial-digits"), workers="3", cpu="100m", memory="128Mi", trials="60")
    ui.choose("Method", "a-bohb")
    ui.picture("form", whole=True)
    ui.submit()
    ui.wait_state("Running", within=60)
    until("Jobs of the study", lambda: len(jobs(release)) == 3, within=60)


def test_a_promotion_is_seen(ui: Ui) -> None:
    ui.wait("a trial goes on to epoch 3", ui.legs("to epoch 3").first, within=120)
    ui.look_again()
    ui.wait("legs to epoch 1", ui.legs("trial-[0-9]+ to epoch 1").first, within=60)
    ui.picture("task-runs")


def test_the_artifacts_tell_how_it_goes(ui: Ui) -> None:
    ui.artifact(STUDY, f"{STUDY}-best", "val_error", "learning_rate")
    ui.artifact(STUDY, f"{STUDY}-rungs", "Rungs of", "epoch")
    ui.picture("rungs")
    ui.artifact(STUDY, f"{STUDY}-curves")
    curves = ui.page.locator("main img").first
    ui.wait("a picture of the learning curves", curves, within=20)
    assert curves.evaluate("one => one.naturalWidth") > 200  # it has been loaded
    ui.picture("curves", whole=True)


def test_fewer_workers_by_steer(ui: Ui, release: Release) -> None:
    ui.form("steer")
    ui.fill(study=STUDY, number="1")
    ui.choose("Action", "workers")
    ui.picture("steer")
    ui.submit()
    ui.wait_state("Completed", within=60)
    looks = 0

    def settled() -> bool:
        nonlocal looks
        looks = looks + 1 if len(jobs(release)) <= 1 else 0
        return looks == 5  # not only between two trials

    until("one worker is left", settled, within=90, every=1.0)


def test_cancelled_no_job_remains(ui: Ui, release: Release) -> None:
    ui.run(STUDY)
    ui.cancel()
    none_is_left(release)
    ui.wait_state("Cancelled", within=30)
    ui.look_again()
    ui.picture("cancelled")


def test_the_same_with_pytorch_by_another_tag(ui: Ui, release: Release) -> None:
    """The run's own form, filled in as it was; a study of another image has another name."""
    ui.run(STUDY)
    ui.menu("Copy to new run")
    ui.fill(study=OTHER, image=image("trial-pytorch"))
    ui.submit()
    ui.wait("trials", ui.legs("to epoch 1").first, within=60)
    ui.wait("one that has trained", ui.page.get_by_text("Completed", exact=True).first, within=180)
    ui.cancel()
    none_is_left(release)


def test_mistakes_are_told_and_nothing_begins(ui: Ui, release: Release) -> None:
    ui.form("tune")
    ui.fill(run_name=WRONG, study=WRONG, image=image("trial-digits"), search_space=MISSPELT)
    ui.submit()
    ui.wait_state("Failed", within=15)
    ui.artifact(WRONG, "mistakes", "learning_rate.type", "flaot", "momentum")  # all of them at once
    ui.picture("mistakes")
    assert release.cluster.list("jobs") == []
