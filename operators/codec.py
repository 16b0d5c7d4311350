"""Events to JSON and back. A field that has its default is left out; nan and inf are written as words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args

from hpo_engine.types import AbohbError, AttemptEnded, Event, Fitted, Outcome, Report

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
    kind = _KINDS.get(str(document.get("event")))
    if kind is None:
        raise CodecError(f"{document.get('event')!r} is no event that this version knows; there is {', '.join(_KINDS)}")
    values = {name: value for name, value in document.items() if name != "event"}
    try:
        for name, decode in _DECODERS.get(kind, {}).items():
            if name in values:
                values[name] = decode(values[name])
        event: Event = kind(**values)
    except (TypeError, ValueError, AttributeError) as error:
        raise CodecError(f"{kind.__name__} cannot be read: {error}") from error
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


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _vectors(values: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(map(float, vector)) for name, vector in values.items()}


_KINDS: dict[str, Callable[..., Any]] = {kind.__name__: kind for kind in get_args(Event)}
_FIELDS: dict[Any, dict[str, Any]] = {
    kind: {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(kind)
    }
    for kind in get_args(Event)
}  # fmt: skip
_DECODERS: dict[Any, dict[str, Callable[[Any], Any]]] = {
    Report: {"metrics": _floats, "seconds": float},
    AttemptEnded: {"outcome": Outcome, "seconds": float},
    Fitted: {"parameters": _vectors},
}
