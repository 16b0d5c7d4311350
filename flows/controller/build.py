"""From a study to the objects that tune it."""

from __future__ import annotations

from pathlib import Path

from flows.study.methods import factory_of
from flows.study.model import Study
from hpo_engine.engine import Engine, Limits
from hpo_engine.history import History
from hpo_engine.methods import METHODS, Setting, make_method
from hpo_engine.types import Trial
from operators.attempt import AttemptSpec


def build_engine(study: Study) -> Engine:
    """An engine with an empty history. MethodError: the method is unknown, or its options cannot be."""
    space, levels, name = study.search_space(), study.levels(), study.method.name
    method = make_method(
        name if name in METHODS else factory_of(name),
        Setting(space, levels, study.resource.eta),
        study.method.options,
    )
    return Engine(
        method,
        History(levels, study.objective()),
        seed=study.seed,
        limits=Limits(study.budget.trials, study.max_failures, study.max_disruptions),
        initial=study.initial,
    )


def attempt_spec(study: Study, trial: Trial) -> AttemptSpec:
    """What the agent of a trial's present attempt is told."""
    command, env = study.command_for(
        trial.config, trial=trial.id, attempt=trial.attempt, until=trial.until, trial_dir="$(ABOHB_TRIAL_DIR)"
    )
    return AttemptSpec(
        study=study.name,
        trial=trial.id,
        attempt=trial.attempt,
        config=trial.config,
        resource=study.resource.name,
        until=trial.until,
        command=tuple(command),
        metrics=tuple(metric.name for metric in study.metrics),
        maximise=study.metrics[0].mode == "max",
        bounds=_bounds(study),
        resumable=study.resource.resumable,
        reported=trial.resource,
        stall_after=study.stall_after,
        env=env,
        workdir=str(Path(study.workdir).absolute()),
    )


def _bounds(study: Study) -> dict[str, tuple[float | None, float | None]]:
    """By metric: the narrowest, for there may be several constraints on one."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for bound in study.constraints:
        low, high = found.get(bound.metric, (None, None))
        lows = [one for one in (low, bound.min) if one is not None]
        highs = [one for one in (high, bound.max) if one is not None]
        found[bound.metric] = max(lows, default=None), min(highs, default=None)
    return found
