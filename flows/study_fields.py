"""Each field of a study by itself: the values that are valid, and words for those that are not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from flows.study import Study
from flows.study_parts import PLAIN
from flows.study_words import Path, near, nearest, shown


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
            found += _explained(name, errors)
        elif name in meant:
            continue  # misspelt: unknown, not missing
        elif field.is_required():
            found.append(((name,), f"is missing. {field.description}"))
        else:
            draft[name] = _drafted(field.get_default(call_default_factory=True))
    return draft, found


def _read(name: str, value: object) -> tuple[Any, list[ErrorDetails]]:
    try:
        return _drafted(_adapter(name).validate_python(value)), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    if not isinstance(value, list | dict) or get_origin(Study.model_fields[name].annotation) not in (
        list,
        dict,
    ):
        return None, errors
    bad = {error["loc"][0] for error in errors if error["loc"]}
    if isinstance(value, list):
        kept = [i for i in range(len(value)) if i not in bad]
        good = dict(zip(kept, _bare(name).validate_python([value[i] for i in kept]), strict=True))
        return {i: good.get(i) for i in range(len(value))}, errors
    good = _bare(name).validate_python({k: v for k, v in value.items() if k not in bad})
    return {k: good.get(k) for k in value if isinstance(k, str)}, errors


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
    own = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return TypeAdapter(annotation) if own else TypeAdapter(annotation, config=PLAIN)


def _explained(name: str, errors: list[ErrorDetails]) -> list[tuple[Path, str]]:
    walked = [(error, *_walk((name, *error["loc"]))) for error in errors]
    meant = {
        (path[:-1], near(path[-1], holder.model_fields))
        for error, path, holder in walked
        if error["type"] == "extra_forbidden" and holder
    }
    return [
        (path, _words(error, path, holder))
        for error, path, holder in walked
        if error["type"] != "missing" or (path[:-1], path[-1]) not in meant
    ]


def _walk(loc: tuple[str | int, ...]) -> tuple[Path, type[BaseModel] | None]:
    """(the path in the file, the model that its last step is a field of): pydantic's has the tags of unions."""
    annotation: Any = Study
    path: list[str | int] = []
    holder = None
    for step in loc:
        members = _members(annotation)
        if len(members) > 1:
            annotation = next(m for m in members if step in get_args(m.model_fields["type"].annotation))
            continue
        if step == "[key]":
            break
        path.append(step)
        annotation = members[0] if members else None
        holder = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
        known = holder.model_fields.get(str(step)) if holder else None
        annotation = (
            known.annotation if known else (get_args(annotation) or (None,))[-1] if not holder else None
        )
    return tuple(path), holder


def _members(annotation: Any) -> list[Any]:
    """The members of a union of models; else the one annotation, without Annotated and None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        members = [m for m in get_args(annotation) if m is not NoneType]
        models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
        return models if len(models) > 1 else _members(members[0])
    return [annotation]


def _words(error: ErrorDetails, path: Path, holder: type[BaseModel] | None) -> str:
    came, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"is missing. {holder.model_fields[str(path[-1])].description}" if holder else "is missing"
        case "extra_forbidden":
            return f"is not known here{nearest(path[-1], holder.model_fields if holder else ())}"
        case "value_error":
            return str(context["error"])
        case "literal_error" | "union_tag_invalid":
            known = [
                part.strip("' ")
                for part in context.get("expected_tags", context.get("expected", ""))
                .replace(" or ", ",")
                .split(",")
            ]
            came = context.get("tag", came)
            return f"got {shown(came)}, expected {' or '.join(known)}{_guess(came, known)}"
        case "union_tag_not_found":
            return "type is missing; expected float, int, categorical or ordinal"
        case "too_short" | "string_too_short":
            return "is empty; give at least one"
    return f"got {shown(came)}, expected {_expected(error['type'], came, context, path)}"


def _guess(came: object, known: list[str]) -> str:
    guess = near(came, known)
    return f"; did you mean {guess!r}?" if guess else ""


def _expected(kind: str, came: object, context: Mapping[str, Any], path: Path) -> str:
    quoted = isinstance(came, str) and came.strip().lstrip("+-").replace(".", "", 1).isdigit()
    if kind in _BOUNDS:
        return f"{_BOUNDS[kind]} {next(iter(context.values())):g}"
    if kind in _KINDS:
        return _KINDS[kind] + (" (remove the quotes)" if quoted else "")
    if kind == "string_type":
        return f"text{_quote(came)}"
    if kind == "list_type":
        return "a list" + (
            f": {came.split()}".replace("'", "")
            if isinstance(came, str) and came
            else ", each entry on its own line after '- '"
        )
    return "keys and values"


def _quote(came: object) -> str:
    if isinstance(came, dict):
        return '; put text with { } in quotes: "{lr}"'
    return f'; put it in quotes: "{shown(came)}"' if isinstance(came, int | float) else ""


def _step(key: object) -> str | int:
    return key if isinstance(key, int) else str(key)


_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
    "less_than": "less than",
}
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
}
