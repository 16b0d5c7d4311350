"""Artifacts on a real server: one of each key, in place, over processes, and no events full of pictures."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import httpx
import prefect.events.utilities
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.ui.gallery import Gallery
from flows.ui.writer import Pace, PrefectWriter
from flows.views.artifacts import Artifact, artifacts, pictures
from tests.flows.test_report_artifacts import FAILED, MEASURED

QUICK = Pace(artifacts=0.1, pictures=0.1, request=2.0)
PARTS = ["best", "curves", "failures", "progress", "rungs", "summary"]


def kept(url: str, run: UUID, kind: str = "artifacts") -> dict[str, str]:
    """By key; `artifacts/latest` is what the list of all artifacts shows."""
    asked = {"artifacts": {"flow_run_id": {"any_": [str(run)]}}}
    found = httpx.post(f"{url}/{kind}/filter", json=asked).raise_for_status().json()
    assert len({each["key"] for each in found}) == len(found), "one of each"
    return {each["key"]: str(each["data"]) for each in found}


def test_a_run_that_is_picked_up_again_goes_on_with_its_artifacts(
    prefect_settings: str, client: SyncPrefectClient, run: UUID
) -> None:
    view = replace(MEASURED, failed=(FAILED,))
    for units in (100, 200):  # each writer is what another process would have
        writer = PrefectWriter("digits", run, pace=QUICK)
        writer.show(replace(view, units=units))
        assert writer.close() == ""
    for kind in ("artifacts", "artifacts/latest"):
        shown = kept(prefect_settings, run, kind)
        assert sorted(shown) == [f"digits-{part}" for part in PARTS]
        assert "200, instead of 1620" in shown["digits-summary"]
        assert shown["digits-curves"].count("data:image/svg+xml;base64,") == 2
        assert "ValueError: a | b <c>" in shown["digits-failures"]


def test_only_what_has_changed_is_told(run: UUID) -> None:
    gallery = Gallery(run)
    assert len(gallery.changed([*artifacts(MEASURED), *pictures(MEASURED)])) == 6
    assert gallery.changed([*artifacts(MEASURED), *pictures(MEASURED)]) == []
    (summary,) = gallery.changed(artifacts(replace(MEASURED, elapsed=999.0)))
    assert summary.key == "digits-summary"


def test_a_new_version_makes_no_event(
    client: SyncPrefectClient, run: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's own update emits one with all of the data in it; they are kept for a week."""
    emitted = list[str]()
    monkeypatch.setattr(prefect.events.utilities, "emit_event", lambda event, **rest: emitted.append(event))
    gallery = Gallery(run)
    for text in ("one", "two", "three"):
        gallery.draw(client, Artifact("digits-best", "markdown", text))
    assert emitted == ["prefect.artifact.created"]


def test_an_artifact_of_the_largest_size_is_taken(
    prefect_settings: str, client: SyncPrefectClient, run: UUID
) -> None:
    from flows.views.artifacts import LIMIT

    gallery = Gallery(run)
    for letter in "ab":
        gallery.draw(client, Artifact("digits-curves", "markdown", letter * LIMIT))
    assert kept(prefect_settings, run)["digits-curves"] == "b" * LIMIT


def test_an_artifact_that_somebody_deleted_comes_back(
    prefect_settings: str, client: SyncPrefectClient, run: UUID
) -> None:
    gallery = Gallery(run)
    gallery.draw(client, Artifact("digits-best", "markdown", "one"))
    (drawn,) = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    )
    client.delete_artifact(drawn.id)
    for text in ("two", "three"):
        gallery.draw(client, Artifact("digits-best", "markdown", text))
        assert kept(prefect_settings, run) == {"digits-best": text}
