"""From a form to a study, or to all that is wrong with it at once."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flows.deployment.form import Form
from flows.policy.apply import filled, read_policy
from flows.policy.checks import policy_problems
from flows.policy.model import Policy
from flows.study.checks import problems
from flows.study.fields import read_fields
from flows.study.file import Problem, StudyError, with_store
from flows.study.kubernetes import Kubernetes, cluster_problems
from flows.study.model import Study
from flows.study.words import Path, dotted, shown
from flows.study.yaml import Document, line_of, read_yaml
from hpo_engine.methods import METHODS

# Where in a study each field of the form stands.
PLACES: Final[Mapping[str, Path]] = {
    "study": ("name",),
    "image": ("image",),
    "command": ("command",),
    "arguments": ("args",),
    "metric": ("metrics", 0, "name"),
    "goal": ("metrics", 0, "mode"),
    "search_space": ("space",),
    "resource": ("resource", "name"),
    "resource_min": ("resource", "min"),
    "resource_max": ("resource", "max"),
    "eta": ("resource", "eta"),
    "method": ("method", "name"),
    "workers": ("workers",),
    "gpus": ("kubernetes", "gpus", "count"),
    "cpu": ("kubernetes", "requests", "cpu"),
    "memory": ("kubernetes", "requests", "memory"),
    "trials": ("budget", "trials"),
    "hours": ("budget", "hours"),
    "seed": ("seed",),
}
WORDS, OPTIONAL = ("command", "arguments"), ("gpus", "cpu", "memory", "trials", "hours")
ENDS = "say when the study ends: trials, hours, or in advanced budget: {target: 0.05}"
ORDER: Final = (*PLACES, "advanced")


def study_of(form: Form, env: Mapping[str, str] = os.environ) -> Study:
    """The study as it may run here. StudyError: all mistakes, by the form's names. PolicyError: no policy."""
    policy = read_policy(env)
    draft = _Draft.of(form, policy.defaults if policy else Kubernetes.model_validate({}))
    found = [*draft.problems, *_checked(draft, policy, env)]
    if found:
        raise StudyError(sorted(found, key=_order))
    study = Study.model_validate(with_store(draft.data))
    section = filled(study.kubernetes, policy.defaults) if policy else study.kubernetes
    return study.model_copy(update={"kubernetes": section})


def _checked(draft: _Draft, policy: Policy | None, env: Mapping[str, str]) -> Iterator[Problem]:
    sections, wrong = read_fields(with_store(draft.data))
    section = sections.get("kubernetes")
    if section is not None and policy is not None:
        sections["kubernetes"] = filled(section, policy.defaults)
    told = {problem.path for problem in draft.problems}
    places: list[tuple[Path, str]] = [*wrong, *problems(sections)]
    places += [(tuple(path.split(".")), text) for path, text in cluster_problems(sections)]
    if policy is not None:
        places += policy_problems(sections, policy, env)
    for path, text in places:
        name = draft.where(path)
        if name not in told and not (path == ("space",) and draft.broken):
            text = ENDS if path == ("budget",) else text.replace("it to args", "it to arguments")
            yield Problem(name, None, text)


@dataclass(slots=True)
class _Draft:
    """The mapping that a study file would hold, and where each part of it comes from."""

    data: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    space: Document = field(default_factory=Document)
    advanced: Document = field(default_factory=Document)
    given: dict[Path, str] = field(default_factory=dict)  # by place: the field of the form that says it

    @classmethod
    def of(cls, form: Form, defaults: Kubernetes) -> _Draft:
        draft = cls(space=read_yaml(form.search_space), advanced=read_yaml(form.advanced))
        for name, place in PLACES.items():
            value = draft._value(name, getattr(form, name))
            if value is not None:
                draft.given[place] = name
                _put(draft.data, place, value)
        draft._yaml()
        if isinstance(draft.data.get("metrics"), dict):
            draft.data["metrics"] = list(draft.data["metrics"].values())
        draft._join()
        if form.cpu or form.memory:  # the one that is not said is as if neither were
            asked = draft.data["kubernetes"]["requests"]
            draft.data["kubernetes"]["requests"] = {**defaults.requests, **asked}
        return draft

    @property
    def broken(self) -> bool:
        return bool(self.space.problems)

    def _value(self, name: str, value: Any) -> Any:
        """None where the form says nothing."""
        if name == "search_space":
            return None if self.broken else self.space.data
        if name == "method" and value not in METHODS:
            self.problems.append(Problem(name, None, f"got {shown(value)}, expected {', '.join(METHODS)}"))
            return None
        if name in OPTIONAL and (value in ("", 0)):
            return None
        if name not in WORDS:
            return value.strip() if isinstance(value, str) else value
        try:
            return shlex.split(value) or None
        except ValueError as error:
            self.problems.append(Problem(name, None, f"{str(error).lower()}; close it, or write \\' or \\\""))
        return None

    def _yaml(self) -> None:
        for name, document in (("search_space", self.space), ("advanced", self.advanced)):
            for path, line, text in document.problems:
                self.problems.append(Problem(_at(name, line, path), None, text))
        if self.advanced.data is not None and not isinstance(self.advanced.data, Mapping):
            message = f"got {shown(self.advanced.data)}, expected keys and values, such as stall_after: 10m"
            self.problems.append(Problem("advanced", None, message))

    def _join(self) -> None:
        more = self.advanced.data
        if not isinstance(more, Mapping):
            return
        for path in _join(self.data, more, ()):
            by = self.given.get(path) or ", ".join(n for p, n in self.given.items() if p[: len(path)] == path)
            where = _at("advanced", line_of(self.advanced.lines, path), path)
            self.problems.append(Problem(where, None, f"is set above, by {by}; leave it out here"))

    def where(self, path: Path) -> str:
        """The field of the form in which a place of the study stands."""
        if path[:1] == ("metrics",) and len(path) > 1 and isinstance(path[1], int) and path[1] > 0:
            own = ("metrics", path[1] - 1, *path[2:])
            return _at("advanced", line_of(self.advanced.lines, own), own)
        for place, name in self.given.items():
            if path[: len(place)] == place:
                rest = path[len(place) :]
                if name in WORDS and rest:
                    return f"{name}, word {int(rest[0]) + 1}"
                line = line_of(self.space.lines, rest) if name == "search_space" and rest else None
                return _at(name, line, rest)
        lines = self.advanced.lines
        inside = [name for place, name in self.given.items() if place[: len(path)] == path]
        beside = len(path) > 1 and path[:-1] in lines
        if path in lines or (beside and not inside):
            return _at("advanced", line_of(lines, path), path)
        if inside or path == ("budget",):
            return inside[0] if inside else "trials"
        missing = [name for name, place in PLACES.items() if place[: len(path)] == path]
        line = line_of(lines, path)
        if line is None:
            return missing[0] if missing else dotted(path)
        return _at("advanced", line, path)


def _at(name: str, line: int | None, path: Path = ()) -> str:
    """search_space, line 2, lr.low"""
    return ", ".join(part for part in (name, f"line {line}" if line else "", dotted(path)) if part)


def _put(data: dict[Any, Any], place: Path, value: Any) -> None:
    for step in place[:-1]:
        data = data.setdefault(step, {})
    data[place[-1]] = value


def _join(mine: dict[str, Any], more: Mapping[Any, Any], at: Path) -> Iterator[Path]:
    """Adds what is not there yet; tells the places that both of them set."""
    for key, value in more.items():
        here = (*at, key)
        if key not in mine:
            mine[key] = value
        elif isinstance(mine[key], dict) and isinstance(value, Mapping) and here != ("space",):
            yield from _join(mine[key], value, here)
        elif here == ("metrics",) and isinstance(value, list):
            mine[key] = [*mine[key], *value]
        else:
            yield here


def _order(problem: Problem) -> tuple[int, int]:
    name, _, rest = problem.path.partition(", ")
    line = re.match(r"line (\d+)", rest)
    return ORDER.index(name) if name in ORDER else len(ORDER), int(line[1]) if line else 0
