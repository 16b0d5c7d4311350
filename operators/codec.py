"""Events to JSON and back. A field that has its default is left out; nan and inf are written as words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args

from hpo_engine.types import AbohbError, Event, Outcome

SCHEMA = 1


class CodecError(AbohbError):
    """Bytes that are no event of a schema that this version knows."""


def encode_event(event: Event) -> dict[str, Any]:
    """A JSON object; strict JSON, so that any language can read a journal."""
    kind = type(event)
    document: dict[str, Any] = {"event": kind.__name__}
    for name, default in _FIELDS[kind].items():
        value = getattr(event, name)
        if default is MISSING or value != default:
            document[name] = _plain(value)
    return document


def decode_event(document: Mapping[str, Any]) -> Event:
    """CodecError: the event is of no known kind, or its fields are not that kind's."""
    if not isinstance(document, Mapping):
        raise CodecError(f"{document!r} is no event, it is no object")
    word = document.get("event")
    kind = _KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise CodecError(f"{word!r} is no event that this version knows; there is {', '.join(_KINDS)}")
    readers = _READERS[kind]
    values, at = {}, ""
    try:
        for at, value in document.items():
            if at != "event":
                values[at] = readers[at](value)
        at = ""
        event: Event = kind(**values)
    except KeyError:
        raise CodecError(f"{word} has no field {at!r}; it has {', '.join(readers)}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"{word}{at and '.'}{at} cannot be read: {error}") from error
    return event


def dumps(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


# -- how a field is read, by its type: a wrong one is refused here, not met in the middle of a fold ------


def _exactly(*types: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) not in types:  # not isinstance: True is no number
            raise TypeError(f"{value!r} is no {' or '.join(kind.__name__ for kind in types)}")
        return value

    return read


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _mapping(read: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    def each(values: Any) -> dict[str, Any]:
        if not isinstance(values, Mapping):
            raise TypeError(f"{values!r} is no object")
        return {name: read(value) for name, value in values.items()}

    return each


def _vector(values: Any) -> tuple[float, ...]:
    return tuple(map(_float, _exactly(list)(values)))


_BY_TYPE: dict[Any, Callable[[Any], Any]] = {
    "int": _exactly(int),
    "str": _exactly(str),
    "bool": _exactly(bool),
    "float": _float,
    "Outcome": Outcome,
    "Config": _mapping(_exactly(float, int, str, bool)),
    "Mapping[str, str]": _mapping(_exactly(str)),
    "Mapping[str, float]": _mapping(_float),
    "Mapping[str, object]": _mapping(lambda value: value),
    "Mapping[str, tuple[float, ...]]": _mapping(_vector),
}
_KINDS: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}
_READERS: dict[Any, dict[str, Callable[[Any], Any]]] = {
    kind: {f.name: _BY_TYPE[f.type] for f in fields(kind)} for kind in get_args(Event)
}
_FIELDS: dict[Any, dict[str, Any]] = {
    kind: {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(kind)
    }
    for kind in get_args(Event)
}  # fmt: skip
