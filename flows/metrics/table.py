"""Every number that Prometheus is told: its name, its labels, and where it comes from. Pure functions.

Counts of trials, failures, units and seconds come from the journal: a controller that takes a study over goes
on with the same numbers. Latencies and API calls are those of the controllers of one pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flows.views.effort import Timing
from flows.views.view import Slot, StudyView
from hpo_engine.types import Outcome

Labels: TypeAlias = tuple[str, ...]  # the values of a family's labels, without that of `study`
Samples: TypeAlias = Mapping[str, Mapping[Labels, float]]  # by the family's name
Timings: TypeAlias = Mapping[str, Timing]

NO_ANSWER = "none"  # the code of an API call that got no answer
FAILURES = [outcome for outcome in Outcome if outcome not in (Outcome.OK, Outcome.INTERRUPTED)]


@dataclass(frozen=True, slots=True)
class Family:
    """All metrics of one name. Each has the label `study` before these."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: Labels
    help: str


UP, INFO = "abohb_study_up", "abohb_study_info"
DECISION, RECONCILE = "abohb_decision_duration_seconds", "abohb_reconcile_duration_seconds"
API = "abohb_kube_requests_total"
FAMILIES = (
    Family(UP, "gauge", (), "1 while a process tunes the study, 0 when it has died before the study's end."),
    Family(INFO, "gauge", ("method", "metric", "mode", "unit"), "Always 1; the words of the study."),
    Family("abohb_trials", "gauge", ("state",), "Trials by state."),
    Family("abohb_trials_started_total", "counter", (), "Trials begun."),
    Family("abohb_attempt_failures_total", "counter", ("class",), "Attempts that failed, by class."),
    Family("abohb_rung_records", "gauge", ("level",), "Trials that have reported at a rung."),
    Family("abohb_rung_kept", "gauge", ("level",), "Of these, promoted from there or not stopped there."),
    Family("abohb_rung_running", "gauge", ("level",), "Trials on their way to a rung."),
    Family("abohb_best_metric", "gauge", ("metric",), "The best objective so far, as the code reported it."),
    Family("abohb_workers", "gauge", (), "Trials that may run at once."),
    Family("abohb_workers_busy", "gauge", (), "Attempts that exist, those that wait for a node included."),
    Family("abohb_workers_waiting", "gauge", (), "Of these, those that wait: for a node, an image."),
    Family("abohb_budget_used_ratio", "gauge", (), "The used share of the budget's part nearest to its end."),
    Family("abohb_resource_units_total", "counter", (), "Units of the resource run, repeats included."),
    Family("abohb_resource_saved_units", "gauge", (), "Units that stopping early has saved."),
    Family("abohb_trial_seconds_total", "counter", (), "Seconds that attempts ran."),
    Family("abohb_trial_saved_seconds", "gauge", (), "Seconds that stopping early has saved."),
    Family("abohb_gpu_seconds_total", "counter", (), "GPU-seconds that attempts used."),
    Family("abohb_gpu_saved_seconds", "gauge", (), "GPU-seconds that stopping early has saved."),
    Family(DECISION, "histogram", (), "The engine's answer for one free worker, model fits included."),
    Family(RECONCILE, "histogram", (), "One pass: look, decide, write the journal, act."),
    Family(API, "counter", ("verb", "code"), 'Calls of the Kubernetes API; code "none": no answer came.'),
    Family("abohb_last_pass_timestamp_seconds", "gauge", (), "When the last pass ended, since 1970."),
)  # fmt: skip


def samples(view: StudyView, at: float) -> dict[str, dict[Labels, float]]:
    """What a study's view says; histograms and API calls are kept apart, since they are added up."""
    counts, spent, best = view.counts, view.spent, view.best
    busy = [slot for slot in view.workers if slot.trial is not None]
    failed = {failures.outcome: failures.count for failures in view.failures}
    one: dict[str, float] = {
        "abohb_trials_started_total": counts.started,
        "abohb_workers": len(view.workers),
        "abohb_workers_busy": len(busy),
        "abohb_workers_waiting": sum(map(waiting, busy)),
        "abohb_budget_used_ratio": view.budget.fraction,
        "abohb_resource_units_total": view.units,
        "abohb_resource_saved_units": max(0, view.full_units - view.units),
        "abohb_trial_seconds_total": spent.seconds,
        "abohb_trial_saved_seconds": spent.seconds_saved,
        "abohb_gpu_seconds_total": spent.gpu_seconds,
        "abohb_gpu_saved_seconds": spent.gpu_seconds_saved,
        "abohb_last_pass_timestamp_seconds": at,
    }
    return {
        INFO: {(view.method, view.objective, view.mode, view.unit): 1.0},
        "abohb_trials": {
            ("running",): counts.running, ("paused",): counts.paused, ("completed",): counts.completed,
            ("stopped",): counts.stopped, ("failed",): counts.failed,
        },
        # Those that never happened too: Prometheus sees no increase in a series that was not there.
        "abohb_attempt_failures_total": {(kind.value,): failed.get(kind, 0) for kind in FAILURES},
        "abohb_rung_records": {(str(level.level),): level.recorded for level in view.levels},
        "abohb_rung_running": {(str(level.level),): level.running for level in view.levels},
        "abohb_rung_kept": {
            (str(level.level),): level.kept for level in view.levels if level.kept is not None
        },
        "abohb_best_metric": {(view.objective,): best.value} if best else {},
        **{name: {(): value} for name, value in one.items()},
    }  # fmt: skip


def waiting(slot: Slot) -> bool:
    return slot.status.startswith("waits")


def timings(view: StudyView) -> dict[str, Timing]:
    return {DECISION: view.effort.deciding, RECONCILE: view.effort.passing}


def api_calls(view: StudyView) -> dict[Labels, float]:
    return {
        (verb, str(code) if code else NO_ANSWER): count for (verb, code), count in view.effort.calls.items()
    }
