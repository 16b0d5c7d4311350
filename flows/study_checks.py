"""What the sections of a study must have in common. Each check reads a draft: what is valid so far.

A draft holds the fields of a study by name. A field that is not valid is absent; lists are mappings from
position to entry; an entry that is not valid is None, so that its name is known all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from flows.study_methods import method_problems
from flows.study_parts import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    OrdinalParameter,
    ParameterSpec,
)
from flows.study_space import search_space, space_problems
from flows.study_templates import FACTS, names_in, render
from flows.study_words import nearest, shown
from hpo_engine.types import SpaceError

Path: TypeAlias = tuple[str | int, ...]
Problems: TypeAlias = Iterator[tuple[Path, str]]
Draft: TypeAlias = Mapping[str, Any]


def problems(draft: Draft) -> list[tuple[Path, str]]:
    """All that contradicts, each with its path; fields that are absent are taken as unknown, not as wrong."""
    return [found for check in CHECKS for found in check(draft)]


def program(draft: Draft) -> Problems:
    if draft.get("command") == {} and draft.get("image", "") is None:
        yield (
            ("command",),
            "missing, and so is image; give command: [python, train.py], or image: with --on kubernetes",
        )
    for i, text in draft.get("command", {}).items():
        for name in draft.get("space") or ():
            if text and "{" + name in text:
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
    """Points are in the space, and differ. When the space itself is not valid, only their names are checked."""
    specs = draft.get("space") or {}
    points = {i: point for i, point in draft.get("initial", {}).items() if point is not None}
    try:
        space = search_space(specs) if specs and all(specs.values()) else None
    except SpaceError:
        space = None
    seen: dict[object, int] = {}
    for i, point in points.items():
        for name in point if specs else ():
            if name not in specs:
                yield ("initial", i, name), f"is no hyper-parameter{nearest(name, specs)}"
        found = [text for text in space.problems(point)] if space else []
        for name, _, text in (line.partition(": ") for line in found):
            if name in specs:
                yield ("initial", i, name), text
        if space and not found and seen.setdefault(space.key(point), i) != i:
            yield (
                ("initial", i),
                f"is the same point as initial[{seen[space.key(point)]}]; leave one of them out",
            )


def templates(draft: Draft) -> Problems:
    specs = draft.get("space")
    if specs is None:
        specs = {}
    entries = [("args", draft.get("args", {})), ("env", draft.get("env", {}))]
    for section, texts in entries:
        for key, text in texts.items():
            if text is not None:
                yield from (((section, key), found) for found in _template(text, specs, "space" in draft))
    yield from _left_behind(draft.get("args", {}), specs)


def _template(text: str, specs: Mapping[str, ParameterSpec | None], known: bool) -> Iterator[str]:
    try:
        names = names_in(text)
    except ValueError as error:
        yield str(error)
        return
    unknown = [name for name in names if name not in specs and name not in FACTS]
    for name in dict.fromkeys(unknown if known else ()):
        hint = nearest(name, [*specs, *FACTS])
        yield (
            f"{{{name}}} is no hyper-parameter{hint} A brace itself is written {{{{"
            if hint.endswith("?")
            else (f"{{{name}}} is no hyper-parameter{hint}; a brace itself is written {{{{")
        )
    if not unknown and all(specs.get(name, True) for name in names):
        yield from _formats(text, names, specs)


def _formats(text: str, names: list[str], specs: Mapping[str, ParameterSpec | None]) -> Iterator[str]:
    """Tries each value that a name can have: `{optimizer:.2f}` fails on text only when it is rendered."""
    samples: dict[str, list[object]] = {name: _examples(name, specs.get(name)) for name in names}
    first = {name: values[0] for name, values in samples.items()}
    for name, values in samples.items():
        for value in values:
            try:
                render(text, {**first, name: value})
            except ValueError as error:
                yield f"{shown(text)} cannot be written with {name} = {value!r}: {error}"
                return


def _examples(name: str, spec: ParameterSpec | None) -> list[object]:
    match spec:
        case FloatParameter() | IntParameter():
            return [spec.low]
        case CategoricalParameter() | OrdinalParameter():
            return list(spec.values) or [""]
    return ["text"] if name in ("study", "trial_dir") else [1]


def _left_behind(args: Mapping[int, str | None], specs: Mapping[str, ParameterSpec | None]) -> Problems:
    for i, text in args.items():
        flag = args.get(i - 1)
        name = (text or "").removeprefix("{").removesuffix("}")
        spec = specs.get(name)
        if spec and spec.when and text == f"{{{name}}}" and flag and flag.startswith("-") and "{" not in flag:
            yield (
                ("args", i),
                (
                    f"{name} does not always exist, and {flag!r} would stay without it; write '{flag}={text}' as one argument"
                ),
            )


CHECKS: tuple[Callable[[Draft], Problems], ...] = (
    program, metrics, constraints, resource, space_problems, initial, method_problems, budget, templates,
)  # fmt: skip
