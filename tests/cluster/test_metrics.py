"""The metrics of a study on a real cluster, as Prometheus gets them while it runs and after its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.metrics import book as metrics
from flows.metrics.table import DECISION, RECONCILE, UP
from hpo_engine.types import AttemptEnded, Start
from tests.cluster.desk import Desk
from tests.cluster.kit import until
from tests.cluster.sleeper import sleeper
from tests.flows.test_metrics import scrape, value

pytestmark = pytest.mark.cluster


def test_a_study_is_counted_while_it_runs_and_after_its_end(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path / "metrics"))
    metrics.prepare()
    path, study = sleeper(desk, {"name": "counted", "budget": {"trials": 4}, "kubernetes": {"gpus": 1}})
    run = desk.tune(path, "--json")
    until("it is up", lambda: value(scrape(), UP, study="counted") == 1, within=120)
    assert value(scrape(), "abohb_studies") == 1
    until("one runs", lambda: (value(scrape(), "abohb_workers_busy", study="counted") or 0) > 0)
    assert run.wait(within=240) == 0, run.text()

    events, counted = desk.events(study), scrape()
    ended = [event for event in events if isinstance(event, AttemptEnded)]
    assert value(counted, "abohb_trials_started_total", study="counted") == 4
    assert sum(isinstance(event, Start) for event in events) == 4
    used = value(counted, "abohb_gpu_seconds_total", study="counted") or 0
    assert used >= sum(event.seconds for event in ended) - 0.01 > 4, "each has one GPU"
    saved = value(counted, "abohb_gpu_saved_seconds", study="counted") or 0
    assert 0 < saved <= 8 * used, "each ran one of nine epochs at least"
    created = value(counted, "abohb_kube_requests_total", study="counted", verb="create", code="201") or 0
    assert created >= len(ended)
    assert (value(counted, "abohb_kube_requests_total", study="counted", verb="watch", code="200") or 0) >= 2
    assert (value(counted, f"{DECISION}_count", study="counted") or 0) >= 4
    assert (value(counted, f"{RECONCILE}_count", study="counted") or 0) >= len(ended)
    assert value(counted, UP, study="counted") is None
    best = value(counted, "abohb_best_metric", study="counted", metric="loss")
    assert best == pytest.approx(run.result()["best"]["value"])
