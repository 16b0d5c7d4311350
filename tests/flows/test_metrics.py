"""Numbers for Prometheus: from a view to a scrape, over processes that end, die and come again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.controller.places import LocalPlace
from flows.controller.run import tune_at
from flows.metrics import book as metrics
from flows.metrics.book import EVERY, KEPT, LINGER, StudyMetrics, families, metered, prepare, render
from flows.metrics.file import Snapshot, birth, file_of, read, snapshots, write
from flows.metrics.table import DECISION, FAMILIES, RECONCILE, UP, api_calls, samples
from flows.views.effort import BOUNDS, Effort, Timing
from flows.views.spent import Spent
from flows.views.view import Best, Failures, Slot, StudyView
from hpo_engine.types import Outcome
from tests.flows.test_report import VIEW
from tests.flows.test_run import quick_study

Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]
ROOT = Path(__file__).parent.parent.parent

STUDY = replace(
    VIEW,
    workers=(Slot(1, 1, "running"), Slot(2, 1, "waits: unschedulable"), Slot()),
    spent=Spent(100.0, 300.0, 200.0, 600.0),
    effort=Effort(Timing().add(0.002), Timing().add(0.2).add(7.0), {("get", 200): 5, ("list", 0): 1}),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path / "metrics"))
    return prepare()


def scrape() -> Scraped:
    body, content_type = render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(scraped: Scraped, name: str, **labels: str) -> float | None:
    return scraped.get((name, frozenset(labels.items())))


def names(scraped: Scraped) -> set[str]:
    return {name for name, _ in scraped}


# -- what a view says --------------------------------------------------------------------------------


def test_every_family_gets_its_numbers_with_its_labels() -> None:
    said = samples(STUDY, 12.0)
    assert {family.name for family in FAMILIES} - said.keys() == {
        UP, DECISION, RECONCILE, "abohb_kube_requests_total",
    }  # fmt: skip
    for family in FAMILIES:
        for labels in said.get(family.name, {}):
            assert len(labels) == len(family.labels), family
    assert said["abohb_trials"][("paused",)] == 54
    assert said["abohb_rung_kept"] == {("1",): 20, ("3",): 6}
    assert said["abohb_best_metric"] == {("val_error",): 0.0123}
    assert said["abohb_resource_saved_units"] == {(): 1308}
    assert (said["abohb_workers_busy"], said["abohb_workers_waiting"]) == ({(): 2}, {(): 1})
    assert samples(StudyView("s", "m"), 0.0)["abohb_best_metric"] == {}


def test_failures_that_never_happened_are_told_as_zero() -> None:
    view = replace(VIEW, failures=(Failures(Outcome.OUT_OF_MEMORY, 2, 0, 1),))
    failed = samples(view, 0.0)["abohb_attempt_failures_total"]
    assert {labels for labels, count in failed.items() if count} == {("out of memory",)}
    assert ("image",) in failed
    assert not {("ok",), ("interrupted",)} & failed.keys()


def test_a_call_without_an_answer_has_a_code_of_its_own() -> None:
    assert api_calls(STUDY) == {("get", "200"): 5, ("list", "none"): 1}


def test_names_are_as_prometheus_wants_them() -> None:
    units = ("_seconds", "_units", "_ratio", "_info", "_total", "_seconds_total", "_units_total")
    for family in FAMILIES:
        assert family.name.startswith("abohb_")
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.help.endswith(".")
        if any(word in family.name for word in ("seconds", "units", "ratio")):
            assert family.name.endswith(units), family.name
        assert "study" not in family.labels, "all have it"


# -- files -------------------------------------------------------------------------------------------


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    snapshot = Snapshot(
        "digits", 5.0, samples(STUDY, 5.0), {DECISION: Timing().add(1.0)}, api_calls(STUDY), 7, "9", True
    )
    write(tmp_path, snapshot)
    assert read(file_of(tmp_path, "digits")) == snapshot
    assert [path.name for path in tmp_path.iterdir()] == ["digits.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"samples": {"a": [1]}, "timings": {}, "calls": []}'])
def test_a_file_that_is_not_one_of_ours_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert snapshots(tmp_path, 9) == []


def test_old_studies_are_forgotten_but_not_those_that_run(tmp_path: Path) -> None:
    for at in range(6):
        write(tmp_path, Snapshot(f"s{at}", float(at), {}, closed=True))
    write(tmp_path, Snapshot("now", -1.0, {}, pid=os.getpid(), born=birth(os.getpid())))
    assert [snapshot.study for snapshot in snapshots(tmp_path, 3)] == ["now", "s5", "s4"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["now", "s4", "s5"]


def test_another_process_with_the_same_number_is_another() -> None:
    assert birth(os.getpid()) == birth(os.getpid()) != ""
    assert Snapshot("s", 0.0, {}, pid=os.getpid(), born=birth(os.getpid())).alive
    assert not Snapshot("s", 0.0, {}, pid=os.getpid(), born="1").alive
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert birth(child.pid) == "", "one that has ended and waits for its parent is dead"
    child.wait()
    assert birth(child.pid) == ""


# -- a scrape ----------------------------------------------------------------------------------------


def test_a_study_that_is_tuned_is_served(folder: Path) -> None:
    StudyMetrics("digits", folder).show(STUDY)
    scraped = scrape()
    assert value(scraped, "abohb_studies") == 1
    assert value(scraped, UP, study="digits") == 1
    assert value(scraped, "abohb_trials", study="digits", state="completed") == 5
    assert value(scraped, "abohb_gpu_seconds_total", study="digits") == 200
    assert value(scraped, "abohb_gpu_saved_seconds", study="digits") == 600
    assert value(scraped, "abohb_kube_requests_total", study="digits", verb="list", code="none") == 1
    assert value(scraped, f"{RECONCILE}_count", study="digits") == 2
    assert value(scraped, f"{RECONCILE}_sum", study="digits") == pytest.approx(7.2)
    assert value(scraped, f"{RECONCILE}_bucket", study="digits", le="0.25") == 1
    assert value(scraped, f"{RECONCILE}_bucket", study="digits", le="+Inf") == 2
    assert value(scraped, "abohb_study_info", study="digits", method="a-bohb", metric="val_error",
                 mode="min", unit="epoch") == 1  # fmt: skip


def test_series_of_one_study_are_bounded(folder: Path) -> None:
    StudyMetrics("digits", folder).show(STUDY)
    assert len(scrape()) < 100 + 2 * (len(BOUNDS) + 3)


def test_every_format_that_prometheus_asks_for(folder: Path) -> None:
    StudyMetrics("digits", folder).show(STUDY)
    body, content_type = render("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_study_that_ended_leaves_its_counters_and_for_a_while_its_gauges(folder: Path) -> None:
    with metered("digits") as (meters,):
        meters.show(STUDY)
    scraped = scrape()
    assert value(scraped, "abohb_studies") == 0
    assert value(scraped, UP, study="digits") is None
    assert value(scraped, "abohb_best_metric", study="digits", metric="val_error") == 0.0123
    snapshot = read(file_of(folder, "digits"))
    assert snapshot is not None
    later = {metric.name: len(metric.samples) for metric in families([snapshot], snapshot.time + LINGER + 1)}
    gauges = {family.name for family in FAMILIES if family.kind == "gauge"}
    assert sum(later[name] for name in gauges) == 0
    assert later["abohb_gpu_seconds"] == 1
    assert later[RECONCILE] == len(BOUNDS) + 3


def test_the_last_numbers_are_written_however_soon_the_end_comes(folder: Path) -> None:
    with metered("digits") as (meters,):
        meters.show(STUDY)
        meters.show(replace(STUDY, units=999))
    assert value(scrape(), "abohb_resource_units_total", study="digits") == 999


def test_a_study_whose_process_was_killed_is_down_until_it_is_picked_up(folder: Path) -> None:
    code = (
        "import os, signal\n"
        "from flows.metrics.book import *\nfrom flows.views.view import *\n"
        "from flows.views.effort import *\n"
        "effort = Effort(Timing().add(0.1), Timing(), {('get', 200): 5})\n"
        "with metered('digits') as (meters,):\n"
        "    meters.show(StudyView('digits', 'asha', spent=Spent(gpu_seconds=200.0), effort=effort))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    scraped = scrape()
    assert value(scraped, UP, study="digits") == 0
    assert "abohb_trials" not in names(scraped), "nobody knows how many run now"
    assert value(scraped, "abohb_gpu_seconds_total", study="digits") == 200
    StudyMetrics("digits", folder).show(replace(STUDY, spent=Spent(gpu_seconds=250.0)))
    scraped = scrape()
    assert value(scraped, UP, study="digits") == 1
    assert value(scraped, "abohb_gpu_seconds_total", study="digits") == 250, "the journal's, not added up"
    assert value(scraped, "abohb_kube_requests_total", study="digits", verb="get", code="200") == 10
    assert value(scraped, f"{DECISION}_count", study="digits") == 2


def test_it_writes_at_most_every_other_second_and_a_full_disk_stops_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[Snapshot]()

    def full(folder: Path, snapshot: Snapshot) -> None:
        written.append(snapshot)
        raise OSError("no space left on device")

    monkeypatch.setattr(metrics, "write", full)
    with metered("digits") as (meters,):
        for _ in range(50):
            meters.show(STUDY)
    assert len(written) == 2
    assert EVERY >= 1


def test_nobody_writes_where_none_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics.FOLDER, raising=False)
    with metered("digits") as meters:
        assert meters == ()
    assert names(scrape()) == {"abohb_studies"}


def test_many_studies_are_served_quickly(folder: Path) -> None:
    for at in range(KEPT + 20):
        write(folder, Snapshot(f"s{at}", float(at), samples(STUDY, 0.0), closed=True))
    scraped = scrape()
    assert len({dict(labels)["study"] for _, labels in scraped if labels}) == KEPT
    assert len(list(folder.iterdir())) == KEPT


# -- a real study ------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="trials are found in /proc")
def test_a_real_study_is_counted_by_its_journal(tmp_path: Path, folder: Path) -> None:
    study = quick_study(
        tmp_path, name="counted", budget={"trials": 3}, resource={"min": 1, "max": 3, "eta": 3}
    )
    with metered(study.name) as shows:
        view, _ = tune_at(LocalPlace(study), shows)
    scraped = scrape()
    assert value(scraped, "abohb_trials_started_total", study="counted") == view.counts.started == 3
    assert value(scraped, "abohb_resource_units_total", study="counted") == view.units
    assert value(scraped, "abohb_trial_seconds_total", study="counted") == pytest.approx(view.spent.seconds)
    assert view.spent.seconds > 0
    assert isinstance(view.best, Best)
    assert value(scraped, "abohb_best_metric", study="counted", metric=view.objective) == view.best.value
    decisions = value(scraped, f"{DECISION}_count", study="counted")
    assert decisions is not None
    assert decisions >= 3
    assert (value(scraped, f"{RECONCILE}_sum", study="counted") or 0) > 0
    json.loads(file_of(folder, "counted").read_text())
