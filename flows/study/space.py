"""From the `space` section to a SearchSpace, and what can be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from flows.study.parts import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    OrdinalParameter,
    ParameterSpec,
)
from flows.study.templates import FACTS
from flows.study.words import nearest, shown
from hpo_engine.domains import Categorical, Domain, Float, Int, Ordinal
from hpo_engine.space import Condition, Parameter, SearchSpace
from hpo_engine.types import SpaceError

Specs = Mapping[str, ParameterSpec]
Found = Iterator[tuple[tuple[str | int, ...], str]]


def search_space(specs: Specs) -> SearchSpace:
    """Ordered by name: neither the file's order nor the journal's codec changes a decision. SpaceError."""
    return SearchSpace(
        [Parameter(name, domain(specs[name]), _condition(specs[name])) for name in sorted(specs)]
    )


def domain(spec: ParameterSpec) -> Domain:
    match spec:
        case FloatParameter():
            return Float(spec.low, spec.high, spec.log)
        case IntParameter():
            return Int(spec.low, spec.high, spec.log)
        case CategoricalParameter():
            return Categorical(tuple(spec.values))
        case OrdinalParameter():
            return Ordinal(tuple(spec.values))


def sound(specs: Mapping[str, ParameterSpec | None]) -> dict[str, ParameterSpec]:
    """Those that make a space, whatever is wrong with the others."""
    good: dict[str, ParameterSpec] = {}
    for name, spec in sorted(specs.items(), key=lambda item: bool(item[1] and item[1].when)):  # parents first
        if spec is not None:
            with suppress(SpaceError):
                search_space({**good, name: spec})
                good[name] = spec
    return good


def space_problems(draft: Mapping[str, Any]) -> Found:
    specs = draft.get("space") or {}
    found: list[tuple[tuple[str | int, ...], str]] = []
    for name, spec in specs.items():
        found += [(("space", name), text) for text in _name_problems(name)]
        if isinstance(spec, FloatParameter | IntParameter):
            found += [(("space", name, key), text) for key, text in _range_problems(spec)]
        elif spec is not None:
            found += [(("space", name, "values", *at), text) for at, text in _values_problems(spec)]
        if spec is not None and spec.when is not None:
            found += [
                (("space", name, "when", *at), text) for at, text in _when_problems(name, spec.when, specs)
            ]
    yield from found
    if specs and all(specs.values()) and not found:
        try:
            search_space(specs)
        except SpaceError as error:
            yield ("space",), str(error)


def _condition(spec: ParameterSpec) -> Condition | None:
    return next((Condition(parent, tuple(values)) for parent, values in (spec.when or {}).items()), None)


def _name_problems(name: str) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
        yield "a hyper-parameter's name is a letter or '_', then letters, digits, '_', '-' and '.'"
    if name in FACTS:
        yield f"this name is taken: {{{name}}} in a template is the {name.replace('_', ' ')}; choose another"


def _range_problems(spec: FloatParameter | IntParameter) -> Iterator[tuple[str, str]]:
    if spec.log and spec.low <= 0:
        example = "1" if isinstance(spec, IntParameter) else "1e-6"
        yield (
            "low",
            f"got {spec.low:g}, a log scale needs low > 0; raise low (say to {example}), or remove log",
        )
    if spec.low >= spec.high:
        yield "low", f"got {spec.low:g}, expected less than high, which is {spec.high:g}"


def _values_problems(spec: CategoricalParameter | OrdinalParameter) -> Iterator[tuple[tuple[int, ...], str]]:
    if len(spec.values) < 2:
        came = f"got {spec.values}" if spec.values else "got an empty list"
        yield (), f"{came}, expected at least two values; a value that never changes belongs in args or env"
    for i, value in enumerate(spec.values):
        if any(_same(value, other) for other in spec.values[:i]):
            yield (i,), f"{shown(value)} is listed twice"


def _when_problems(
    name: str, when: Mapping[str, list[Any]], specs: Mapping[str, ParameterSpec | None]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if len(when) != 1:
        yield (), f"names {len(when)} hyper-parameters, expected one, e.g. when: {{optimizer: sgd}}"
    for parent, values in when.items():
        if parent == name or parent not in specs:
            others = [other for other in specs if other != name]
            yield (parent,), f"is no other hyper-parameter{nearest(parent, others)}"
            continue
        spec = specs[parent]
        if spec is None:
            continue
        if spec.when is not None:
            yield (parent,), f"{parent} has a when itself; only one level is possible"
        if isinstance(spec, FloatParameter):
            yield (parent,), f"{parent} is a float; expected a categorical, an ordinal or an int"
            continue
        for value in values:
            if not _possible(value, spec):
                yield (parent,), f"{shown(value)} is no value of {parent}{_choices(value, spec)}"


def _possible(value: object, spec: IntParameter | CategoricalParameter | OrdinalParameter) -> bool:
    if isinstance(spec, IntParameter):
        return type(value) is int and spec.low <= value <= spec.high
    return any(_same(value, other) for other in spec.values)


def _choices(value: object, spec: IntParameter | CategoricalParameter | OrdinalParameter) -> str:
    if isinstance(spec, IntParameter):
        return f"; it goes from {spec.low} to {spec.high}"
    return nearest(value, map(str, spec.values))


def _same(value: object, other: object) -> bool:
    """As the search space sees it: 1 and 1.0 are one value, 1 and true are two."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
