"""Each field of a study by itself: the values that are valid, and words for those that are not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from flows.study.model import Study
from flows.study.parts import PLAIN, Metric
from flows.study.words import Path, near, nearest, shown


def read_fields(data: Mapping[Any, object]) -> tuple[dict[str, Any], list[tuple[Path, str]]]:
    """(the draft that `study_checks` takes, what is wrong in single fields)."""
    fields = Study.model_fields
    unknown = [key for key in data if key not in fields]
    meant = {near(key, fields.keys() - data.keys()) for key in unknown}
    draft: dict[str, Any] = {}
    found: list[tuple[Path, str]] = [
        ((_step(key),), f"is no field of a study{nearest(key, fields)}") for key in unknown
    ]
    for name, field in fields.items():
        if name in data:
            value, errors = _read(name, data[name])
            draft |= {name: value} if value is not None or not errors else {}
            found += _explained(Study, (name,), errors)
        elif name in meant:
            continue  # misspelt: unknown, not missing
        elif field.is_required():
            found.append(((name,), f"is missing. {field.description}"))
        else:
            draft[name] = _drafted(field.get_default(call_default_factory=True))
    _name_metrics(draft, data.get("metrics"))
    return draft, found


def mistakes_in(model: type[BaseModel], data: object) -> list[tuple[Path, str]]:
    """The same words for any other file that a person writes."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        return _explained(model, (), error.errors(include_url=False))
    return []


def _name_metrics(draft: dict[str, Any], given: Any) -> None:
    """A metric whose mode is wrong has a name all the same, which a constraint may be about."""
    for i, metric in draft.get("metrics", {}).items():
        if metric is None and isinstance(given[i], dict) and isinstance(given[i].get("name"), str):
            draft["metrics"][i] = Metric.model_construct(name=given[i]["name"])


def _read(name: str, value: object) -> tuple[Any, list[ErrorDetails]]:
    try:
        return _drafted(_adapter(name).validate_python(value)), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    bad = {str(error["loc"][0]) for error in errors if error["loc"]}
    kind = get_origin(Study.model_fields[name].annotation)
    if kind is list and isinstance(value, list):
        kept = [i for i in range(len(value)) if str(i) not in bad]
        good = dict(zip(kept, _bare(name).validate_python([value[i] for i in kept]), strict=True))
        return {i: good.get(i) for i in range(len(value))}, errors
    if kind is dict and isinstance(value, dict):
        good = _bare(name).validate_python({k: v for k, v in value.items() if str(k) not in bad})
        return {k: good.get(k) for k in value if isinstance(k, str)}, errors
    return None, errors


def _drafted(value: object) -> object:
    return dict(enumerate(value)) if isinstance(value, list) else value


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = Study.model_fields[name]
    return _typed(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)


@cache
def _bare(name: str) -> TypeAdapter[Any]:
    """Without the least number of entries: some were taken out."""
    return _typed(Study.model_fields[name].annotation)


def _typed(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation) if _is_model(annotation) else TypeAdapter(annotation, config=PLAIN)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error is: its path in the file, the model that the last step is a field of, and its type."""

    path: Path
    holder: type[BaseModel] | None
    annotation: Any

    @property
    def fields(self) -> dict[str, Any]:
        return dict(self.holder.model_fields) if self.holder else {}


def _explained(
    model: type[BaseModel], at: tuple[str, ...], errors: list[ErrorDetails]
) -> list[tuple[Path, str]]:
    walked = [(error, _walk(model, (*at, *error["loc"]))) for error in errors]
    misspelt = {
        (*at.path[:-1], near(at.path[-1], at.fields))
        for error, at in walked
        if error["type"] == "extra_forbidden"
    }
    return [
        _words(error, at) for error, at in walked if error["type"] != "missing" or at.path not in misspelt
    ]


def _walk(model: type[BaseModel], loc: tuple[str | int, ...]) -> _Place:
    """Pydantic's location has, besides the steps of the file, the tag of each union on the way."""
    annotation: Any = model
    holder = None
    path: list[str | int] = []
    for step in loc:
        members = _members(annotation)
        if step == "[key]":
            continue  # the key itself is wrong, and the step before it
        if len(members) > 1:
            annotation = next(m for m in members if step in get_args(m.model_fields["type"].annotation))
            continue
        path.append(step)
        holder = members[0] if _is_model(members[0]) else None
        annotation = _below(members[0], step)
    return _Place(tuple(path), holder, annotation)


def _below(annotation: Any, step: str | int) -> Any:
    if _is_model(annotation):
        field = annotation.model_fields.get(str(step))
        return field.annotation if field else None
    return (get_args(annotation) or (None,))[-1]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _members(annotation: Any) -> list[Any]:
    """The members of a union of models; else the one annotation, without Annotated and None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        members = [m for m in get_args(annotation) if m is not NoneType]
        models = [m for m in members if _is_model(m)]
        return models if len(models) > 1 else _members(members[0])
    return [annotation]


def _words(error: ErrorDetails, at: _Place) -> tuple[Path, str]:
    came, context, path = error["input"], error.get("ctx", {}), at.path
    match error["type"]:
        case "missing":
            return path, f"is missing. {at.fields[str(path[-1])].description}"
        case "extra_forbidden":
            return path, f"is not known here{nearest(path[-1], at.fields)}"
        case "value_error":
            return path, str(context["error"])
        case "literal_error":
            return path, _choice(came, context["expected"])
        case "union_tag_invalid":
            return (*path, "type"), _choice(context["tag"], context["expected_tags"])
        case "union_tag_not_found":
            guess = near("type", map(str, came)) if isinstance(came, dict) else None
            if guess:
                return (*path, guess), "is not known here; did you mean 'type'?"
            return (*path, "type"), "is missing; expected float, int, categorical or ordinal"
        case "too_short" | "string_too_short":
            return path, "is empty; give at least one" if isinstance(came, list | dict) else "is empty"
    return path, f"got {shown(came)}, expected {_expected(error['type'], came, context, at)}"


def _choice(came: object, expected: str) -> str:
    """`expected` is pydantic's list, in quotes: 'min' or 'max'."""
    known = re.findall(r"'([^']*)'", expected)
    guess = near(came, known)
    return f"got {shown(came)}, expected {' or '.join(known)}" + (
        f"; did you mean {guess!r}?" if guess else ""
    )


def _expected(kind: str, came: object, context: Mapping[str, Any], at: _Place) -> str:
    if kind in _BOUNDS:
        return f"{_BOUNDS[kind]} {next(iter(context.values())):g}"
    if kind in _KINDS:
        return _KINDS[kind] + _unquote(came)
    if kind == "string_type":
        return f"text{_quote(came)}"
    if kind == "list_type":
        return f"a list: [{', '.join(came.split())}]" if isinstance(came, str) else "a list"
    model = _members(at.annotation)[0]
    return f"keys and values: {', '.join(model.model_fields)}" if _is_model(model) else "keys and values"


def _unquote(came: object) -> str:
    try:
        return f"; write {float(came):g} without quotes" if isinstance(came, str) else ""
    except ValueError:
        return ""


def _quote(came: object) -> str:
    if isinstance(came, dict | list):
        return '; put text with { } or [ ] in quotes: "{lr}"'
    return f'; put it in quotes: "{shown(came)}"' if isinstance(came, int | float) else ""


def _step(key: object) -> str | int:
    return key if isinstance(key, int) else str(key)


_BOUNDS = {"greater_than_equal": "at least", "greater_than": "more than"}
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
}
