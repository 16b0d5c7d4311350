"""Methods by name or by import, and their options from the signature of the factory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from flows.study.space import search_space
from flows.study.words import near, nearest, shown
from hpo_engine import rungs
from hpo_engine.methods import METHODS, Setting, make_method
from hpo_engine.types import MethodError, SpaceError

Found = Iterator[tuple[tuple[str | int, ...], str]]


def factory_of(name: str) -> Callable[..., Any]:
    """The factory behind `a-bohb` or `package.module:factory`. MethodError, in words for a user."""
    if name in METHODS:
        return METHODS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise MethodError(f"{name!r} is no method{nearest(name, METHODS)}")
    try:
        found = import_module(module)
    except Exception as error:  # importing runs the user's code: anything may come out of it
        raise MethodError(
            f"{module!r} cannot be imported ({error}); is it installed, or on PYTHONPATH?"
        ) from error
    make = getattr(found, attribute, None)
    if not callable(make):
        guess = near(attribute, [name for name, value in vars(found).items() if callable(value)])
        raise MethodError(
            f"{module} has no function {attribute!r}" + (f"; did you mean {guess!r}?" if guess else "")
        )
    return make  # type: ignore[no-any-return]


def options_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Its keyword-only parameters, with types where they can be known."""
    try:
        signature = inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation under TYPE_CHECKING
        signature = inspect.signature(factory)
    except ValueError:  # written in C
        return {}
    return {p.name: p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}


def with_defaults(name: str, options: Mapping[str, object]) -> dict[str, object]:
    """The options that are in force, the factory's defaults included."""
    known = options_of(factory_of(name)).values()
    return {**{p.name: p.default for p in known if p.default is not p.empty}, **options}


def method_problems(draft: Mapping[str, Any]) -> Found:
    method = draft.get("method")
    if method is None:
        return
    try:
        known = options_of(factory_of(method.name))
    except MethodError as error:
        yield ("method", "name"), str(error)
        return
    found = [*_option_problems(method.name, method.options, known)]
    yield from found
    if not found:
        yield from _making(draft)


def _option_problems(
    name: str, options: Mapping[str, object], known: Mapping[str, inspect.Parameter]
) -> Found:
    for key, value in options.items():
        if key not in known:
            hint = nearest(key, known) or "; it takes none"
            yield ("method", key), f"is no option of {name}{hint}"
        elif text := _type_problem(value, known[key].annotation):
            yield ("method", key), text
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in options:
            yield ("method", key), f"is missing; {name} needs it"


def _type_problem(value: object, annotation: Any) -> str:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return ""
    try:
        TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        return f"got {shown(value)}, expected {_TYPES.get(annotation, annotation)}"
    return ""


def _making(draft: Mapping[str, Any]) -> Found:
    """The factory has the last word, once all it needs is valid: `brackets: 9` with four rungs."""
    specs, given, method = draft.get("space"), draft.get("resource"), draft["method"]
    if not specs or not all(specs.values()) or not given or given.min >= given.max:
        return
    factory = method.name if method.name in METHODS else factory_of(method.name)
    try:
        setting = Setting(search_space(specs), rungs.levels(given.min, given.max, given.eta), given.eta)
        make_method(factory, setting, method.options)
    except SpaceError:
        return  # told where the space is checked
    except Exception as error:  # a factory may be the user's own code
        yield ("method",), str(error).removeprefix(f"method {factory}: ")


_TYPES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
