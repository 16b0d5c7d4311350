"""What `abohb check` shows: what a valid study would do, before it does anything."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.study.methods import with_defaults
from flows.study.model import Study
from hpo_engine.rungs import bracket_weights
from hpo_engine.types import Config


@dataclass(frozen=True, slots=True)
class Summary:
    """`dataclasses.asdict` of it is JSON."""

    name: str
    method: str
    options: dict[str, object]
    workers: int
    objective: str
    rungs: tuple[int, ...]
    unit: str
    brackets: tuple[tuple[int, float], ...]  # (first rung, share of the trials); empty: the method has none
    parameters: int
    configurations: int | None  # None: without end
    full_length: int | None  # units of all trials at full length; None: no budget of trials
    ends: tuple[str, ...]
    example: Config
    argv: tuple[str, ...]
    env: dict[str, str]
    workdir: str
    store: str


def check_summary(study: Study) -> Summary:
    space, budget = study.search_space(), study.budget
    options = with_defaults(study.method.name, study.method.options)
    example = study.initial[0] if study.initial else space.decode(np.full((1, space.width), 0.5))[0]
    argv, env = study.command_for(
        example, trial=0, attempt=1, until=study.resource.min, trial_dir="TRIAL_DIR"
    )
    return Summary(
        name=study.name,
        method=study.method.name,
        options=options,
        workers=study.workers,
        objective=f"{study.metrics[0].name} ({study.metrics[0].mode})",
        rungs=study.levels(),
        unit=study.resource.name,
        brackets=_brackets(study, options.get("brackets")),
        parameters=space.dimension,
        configurations=space.size,
        full_length=budget.trials * study.resource.max if budget.trials else None,
        ends=_ends(study),
        example=dict(example),
        argv=tuple(argv),
        env=env,
        workdir=_where(study),
        store=study.store if study.store.startswith("s3://") else str(study.store_path()),
    )


def render_summary(summary: Summary) -> str:
    """For a terminal: aligned lines."""
    s, unit = summary, summary.unit
    options = ", ".join(f"{key}={value}" for key, value in s.options.items())
    count = "no end of" if s.configurations is None else f"{s.configurations:,}"
    rows = {
        "study": s.name,
        "method": f"{s.method} ({options})" if options else s.method,
        "objective": s.objective,
        "rungs": f"{', '.join(map(str, s.rungs))} {unit}s",
        "brackets": _bracket_words(s),
        "space": f"{s.parameters} hyper-parameter{'s' * (s.parameters > 1)}, {count} configurations",
        "workers": str(s.workers),
        "ends": ", or ".join(s.ends),
        "at most": f"{s.full_length:,} {unit}s, if every trial ran to {s.rungs[-1]}" if s.full_length else "",
        "store": s.store,
        "would try": ", ".join(f"{name}={_short(value)}" for name, value in s.example.items()),
        "would run": shlex.join(s.argv) if s.argv else "the command of the image",
        "with": " ".join(f"{key}={shlex.quote(text)}" for key, text in s.env.items()),
        "in": s.workdir,
    }
    return "\n".join(f"{label:<10} {text}" for label, text in rows.items() if text)


def _where(study: Study) -> str:
    if study.image and study.for_a_cluster:
        return f"the image {study.image}"
    return str(Path(study.workdir).absolute())


def _brackets(study: Study, count: object) -> tuple[tuple[int, float], ...]:
    """By the option `brackets`, where 0 means all; none for a value that can be no such number."""
    levels = study.levels()
    if type(count) is not int or not 0 <= count <= len(levels):
        return ()
    weights = bracket_weights(len(levels), count or len(levels), study.resource.eta)
    return tuple(zip(levels, weights, strict=False))


def _bracket_words(summary: Summary) -> str:
    if not summary.brackets:
        return ""
    if len(summary.brackets) == 1:
        return f"1: every trial begins with the rung at {summary.brackets[0][0]}"
    shares = ", ".join(f"{first} ({share:.0%})" for first, share in summary.brackets)
    return f"{len(summary.brackets)}, with the first rung (for how many trials) at {shares}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ends(study: Study) -> tuple[str, ...]:
    budget, first = study.budget, study.metrics[0]
    bound = "at least" if first.mode == "max" else "at most"
    words = {
        f"after {budget.trials} trials": budget.trials,
        f"after {budget.hours or 0:g} hours": budget.hours,
        f"after {budget.resource} {study.resource.name}s": budget.resource,
        f"when {first.name} is {bound} {budget.target}": budget.target,
    }
    return tuple(text for text, given in words.items() if given is not None)
