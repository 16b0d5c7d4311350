"""What the sections of a study must have in common. Each check reads a draft: what is valid so far.

A draft holds the fields of a study by name. A field that is not valid is absent; lists are mappings from
position to entry; an entry that is not valid is None, so that its name is known all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from flows.study.kubernetes import kubernetes_problems
from flows.study.methods import method_problems
from flows.study.space import search_space, sound, space_problems
from flows.study.templates import template_problems
from flows.study.words import Path, near, nearest, shown
from hpo_engine.domains import Int
from hpo_engine.space import SearchSpace

Problems: TypeAlias = Iterator[tuple[Path, str]]
Draft: TypeAlias = Mapping[str, Any]


def problems(draft: Draft) -> list[tuple[Path, str]]:
    """All that contradicts, each with its path; fields that are absent are taken as unknown, not as wrong."""
    return [found for check in CHECKS for found in check(draft)]


def program(draft: Draft) -> Problems:
    if draft.get("command") == {} and draft.get("image", "") is None:
        yield (
            ("command",),
            "is missing, and so is image; give command: [python, train.py], or image: with --on kubernetes",
        )
    names = "|".join(map(re.escape, draft.get("space") or ()))
    for i, text in draft.get("command", {}).items():
        if text and names and re.search(rf"(?<!\$)\{{({names})[}}:!]", text):  # ${lr} belongs to a shell
            yield ("command", i), f"got {shown(text)}, but command is taken literally; move it to args"


def metrics(draft: Draft) -> Problems:
    seen: dict[str, int] = {}
    for i, metric in draft.get("metrics", {}).items():
        if metric and seen.setdefault(metric.name, i) != i:
            yield (
                ("metrics", i, "name"),
                f"{metric.name!r} is listed twice, first as metrics[{seen[metric.name]}]",
            )


def constraints(draft: Draft) -> Problems:
    listed = draft.get("metrics", {}).values()
    names = [m.name for m in listed if m]
    for i, bound in draft.get("constraints", {}).items():
        if bound is None:
            continue
        if listed and all(listed) and bound.metric not in names:
            hint = nearest(bound.metric, names)
            yield ("constraints", i, "metric"), f"{bound.metric!r} is not among the metrics{hint}"
        if bound.min is None and bound.max is None:
            yield ("constraints", i), "has no bound; give min, max or both"
        elif bound.min is not None and bound.max is not None and bound.min > bound.max:
            yield (
                ("constraints", i, "min"),
                f"got {bound.min:g}, above max {bound.max:g}; nothing could keep it",
            )


def resource(draft: Draft) -> Problems:
    given = draft.get("resource")
    if given and given.min >= given.max:
        yield ("resource", "min"), f"got {given.min}, expected less than max, which is {given.max}"


def budget(draft: Draft) -> Problems:
    given = draft.get("budget")
    if given and not given.model_dump(exclude_none=True):
        yield ("budget",), f"has no entry; give at least one of {', '.join(type(given).model_fields)}"


def initial(draft: Draft) -> Problems:
    """Points are in the space, and differ; checked against what of the space is valid."""
    specs = draft.get("space") or {}
    points = {i: point for i, point in draft.get("initial", {}).items() if point is not None}
    for i, point in points.items() if specs else ():
        for name in point:
            if name not in specs:
                yield ("initial", i, name), f"is no hyper-parameter{nearest(name, specs)}"
    if good := sound(specs):
        yield from _placed(points, search_space(good), len(good) == len(specs))


def _placed(points: Mapping[int, Mapping[str, Any]], space: SearchSpace, whole: bool) -> Problems:
    seen: dict[object, int] = {}
    domains = {p.name: p.domain for p in space.parameters}
    for i, point in points.items():
        misspelt = {near(name, domains.keys() - point.keys()) for name in point.keys() - domains.keys()}
        known = {name: value for name, value in point.items() if name in domains}
        told = {name: text for name, _, text in (line.partition(": ") for line in space.problems(known))}
        for name, value in known.items():
            if isinstance(domains[name], Int) and isinstance(value, float):
                told.setdefault(name, f"got {value}, expected a whole number")  # it would be written 8.0
        yield from ((("initial", i, name), text) for name, text in told.items() if name not in misspelt)
        if whole and not told and seen.setdefault(space.key(known), i) != i:
            yield ("initial", i), f"is the same point as initial[{seen[space.key(known)]}]; leave one out"


CHECKS: tuple[Callable[[Draft], Problems], ...] = (
    program, metrics, constraints, resource, space_problems, initial, method_problems, budget,
    template_problems, kubernetes_problems,
)  # fmt: skip
