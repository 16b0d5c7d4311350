"""A study: the one model behind the YAML file, the flow's parameters and Python.

`model_dump(mode="json")` is what the journal keeps; it loads back to an equal Study.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from flows.study.checks import problems
from flows.study.kubernetes import Kubernetes
from flows.study.methods import with_defaults
from flows.study.parts import (
    PLAIN,
    Budget,
    Constraint,
    Image,
    Location,
    MethodSpec,
    Metric,
    Name,
    ParameterSpec,
    Point,
    Resource,
    Seconds,
    Text,
    Variable,
)
from flows.study.space import search_space
from flows.study.templates import active, render
from flows.study.words import dotted
from hpo_engine import objective, rungs
from hpo_engine.space import SearchSpace
from hpo_engine.types import Config

FIXED = ("name", "metrics", "constraints", "resource", "space", "initial", "method", "seed")


class Study(BaseModel):
    """What to train, what to search, how long, and where it is kept."""

    model_config = PLAIN
    name: Name = Field(title="Name", description="Names the study in the store; the same name resumes it.")
    command: list[Text] = Field(
        [], title="Command", description="The program to run and what always follows it, taken literally."
    )
    image: Image | None = Field(
        None, title="Image", description="Container image of the training code, used on Kubernetes."
    )
    args: list[Text] = Field(
        [],
        title="Arguments",
        description="Arguments after the command, with hyper-parameters as {learning_rate}.",
    )
    env: dict[Variable, Text] = Field(
        {}, title="Environment", description="Environment variables, with templates as in args."
    )
    workdir: str = Field(
        ".",
        title="Working directory",
        description="Where the command runs, relative to the study file.",
        min_length=1,
    )
    metrics: list[Metric] = Field(
        title="Metrics",
        description="What the training code reports; the first one is the objective.",
        min_length=1,
    )
    constraints: list[Constraint] = Field(
        [], title="Constraints", description="Bounds on metrics; who breaks one ranks behind all who do not."
    )
    resource: Resource = Field(
        title="Resource", description="What training is measured in, and the rungs between min and max."
    )
    space: dict[str, ParameterSpec] = Field(
        title="Search space", description="The hyper-parameters by name.", min_length=1
    )
    initial: list[Point] = Field([], title="Initial points", description="Configurations to try first.")
    method: MethodSpec = Field(
        MethodSpec(name="a-bohb"),
        title="Method",
        description="How configurations are chosen and stopped, with its options.",
    )
    workers: int = Field(4, title="Workers", description="How many trials run at once.", ge=1)
    budget: Budget = Field(
        title="Budget", description="When the study ends: at whichever of its entries comes first."
    )
    max_failures: int = Field(
        1,
        title="Failures of a trial",
        description="How many times a trial is tried again after its training code failed.",
        ge=0,
    )
    max_disruptions: int = Field(
        10,
        title="Disruptions of a trial",
        description="How many times a trial is tried again after it was killed from outside.",
        ge=0,
    )
    max_failed_trials: int = Field(
        5,
        title="Failed trials",
        description="The study fails when so many trials in a row were given up with no report in between.",
        ge=1,
    )
    stall_after: Seconds | None = Field(
        None,
        title="Stall after",
        description="An attempt without a report for so long (600, 10m, 1h30m) is killed.",
    )
    seed: int = Field(0, title="Seed", description="Seeds all random choices.", ge=0)
    store: Location = Field(
        "./abohb-runs",
        title="Store",
        description="Where the study is kept: file:///dir, a path relative to the study file, s3://bucket/dir.",
    )
    kubernetes: Kubernetes = Field(
        Kubernetes(), title="Kubernetes", description="What the pods of the trials ask for."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        found = [f"{dotted(path)}: {message}" for path, message in problems(self.draft())]
        if found:
            raise ValueError("\n".join(found))
        return self

    def draft(self) -> dict[str, Any]:
        """Its sections as the cross-checks take them: lists keyed by position."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return {k: dict(enumerate(v)) if isinstance(v, list) else v for k, v in sections.items()}

    def search_space(self) -> SearchSpace:
        """Ordered by name: the order in the file is of no consequence."""
        return search_space(self.space)

    @property
    def for_a_cluster(self) -> bool:
        """It could not run on this machine, and is not meant to."""
        return self.store.startswith("s3://") or bool(self.image and not self.command)

    def levels(self) -> tuple[int, ...]:
        return rungs.levels(self.resource.min, self.resource.max, self.resource.eta)

    def objective(self) -> objective.Objective:
        infinity = float("inf")
        return objective.Objective(
            tuple(objective.Metric(m.name, m.mode == "max") for m in self.metrics),
            tuple(
                objective.Constraint(
                    c.metric,
                    -infinity if c.min is None else c.min,
                    infinity if c.max is None else c.max,
                )
                for c in self.constraints
            ),
        )

    def store_path(self) -> Path:
        return Path(self.store).expanduser().absolute()

    def command_for(
        self, config: Config, *, trial: int, attempt: int, until: int, trial_dir: str
    ) -> tuple[list[str], dict[str, str]]:
        """(argv, environment) of one attempt; entries that name an inactive parameter are left out."""
        facts = {
            "trial": trial,
            "attempt": attempt,
            "study": self.name,
            "until": until,
            "trial_dir": trial_dir,
        }
        values: Mapping[str, object] = {**config, **facts}
        absent = self.space.keys() - config.keys()
        args = [render(arg, values) for arg in self.args if active(arg, absent)]
        env = {name: render(text, values) for name, text in self.env.items() if active(text, absent)}
        return [*self.command, *args], env

    def fixed(self) -> dict[str, Any]:
        """The part that may not change when the study is resumed; the method with all its options."""
        part = self.model_dump(mode="json", include=set(FIXED))
        return {
            **part,
            "method": {"name": self.method.name, **with_defaults(self.method.name, self.method.options)},
        }


def differences(before: Study, now: Study) -> list[str]:
    """What of the fixed part differs, one line for each entry, for a user; empty when it may be resumed."""
    old, new = _flat(before.fixed()), _flat(now.fixed())
    return [
        f"{path}: was {_shown(old, path)}, is {_shown(new, path)}"
        for path in sorted(old.keys() | new.keys())
        if _shown(old, path) != _shown(new, path)
    ]


def _flat(data: object, path: str = "") -> dict[str, object]:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if entries is None or not data:
        return {path: data}
    steps = {f"[{k}]" if isinstance(k, int) else f".{k}" if path else str(k): v for k, v in entries}
    return {p: value for step, below in steps.items() for p, value in _flat(below, path + step).items()}


def _shown(flat: Mapping[str, object], path: str) -> str:
    return "not given" if flat.get(path) in (None, [], {}) else repr(flat[path])
