"""Hyper-parameters in arguments and environment: `--lr={learning_rate:.6f}`; `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Any

from flows.study.parts import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    OrdinalParameter,
    ParameterSpec,
)
from flows.study.words import Path, near, nearest, shown

FACTS = (
    "trial",
    "attempt",
    "study",
    "until",
    "trial_dir",
)  # what a template may name besides hyper-parameters


def names_in(template: str) -> list[str]:
    """The names between braces. ValueError, in words for a user, when it is no template."""
    return [name for _, name, _, _ in _parts(template) if name is not None]


def render(template: str, values: Mapping[str, object]) -> str:
    """Like str.format, but a name is a key as it stands, and booleans are written as in YAML.

    KeyError when a name has no value; ValueError when a value does not take its format.
    """
    return "".join(
        text + ("" if name is None else _one(values[name], conversion, spec or ""))
        for text, name, spec, conversion in _parts(template)
    )


def active(template: str, absent: Iterable[str]) -> bool:
    """Whether it names nothing that is absent: an entry that does is left out as a whole."""
    return not set(names_in(template)) & set(absent)


def _parts(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"{template!r} is no template ({error}); a brace itself is written {{{{ or }}}}"
        ) from None
    for _, name, spec, _ in parts:
        if name is not None and not name.strip():
            raise ValueError(
                f"{template!r} has braces without a name; a brace itself is written {{{{ or }}}}"
            )
        if spec and re.search(r"\d{4}", spec):
            raise ValueError(f"{template!r} has a format of more than 999 characters")
        if spec and ("{" in spec or "}" in spec):
            raise ValueError(f"{template!r} has braces within a format; write the format out")
    return parts


def _one(value: object, conversion: str | None, spec: str) -> str:
    if conversion:
        value = Formatter().convert_field(value, conversion)
    if isinstance(value, bool) and not spec:
        return str(value).lower()
    try:
        return format(value, spec)
    except OverflowError as error:  # a character, or a float, of a number that is too large for one
        raise ValueError(str(error)) from error


def template_problems(draft: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What is wrong with `args` and `env`; see `flows.study.checks` for what a draft is."""
    specs, kubernetes = draft.get("space"), draft.get("kubernetes")
    texts: list[tuple[tuple[str, ...], Any]] = [
        ((section, key), text) for section in ("args", "env") for key, text in draft.get(section, {}).items()
    ]
    if kubernetes is not None:
        texts += [
            (("kubernetes", "node_selector", key), text) for key, text in kubernetes.node_selector.items()
        ]
    for path, text in texts:
        if text is not None:
            yield from ((path, found) for found in _template(text, specs))
    yield from _left_behind(draft.get("args", {}), specs or {})


def _template(text: str, specs: Mapping[str, ParameterSpec | None] | None) -> Iterator[str]:
    try:
        names = names_in(text)
    except ValueError as error:
        yield str(error)
        return
    if specs is None:
        return
    unknown = [name for name in dict.fromkeys(names) if name not in specs and name not in FACTS]
    for name in unknown:
        known = [*specs, *FACTS]
        literal = "" if near(name, known) else "; a brace itself is written {{ or }}"
        yield f"{{{name}}} is no hyper-parameter{nearest(name, known)}{literal}"
    if not unknown and all(specs.get(name, True) for name in names):
        yield from _formats(text, names, specs)


def _formats(text: str, names: list[str], specs: Mapping[str, ParameterSpec | None]) -> Iterator[str]:
    """Tries each value that a name can have: `{optimizer:.2f}` would fail only when it is rendered."""
    samples = {name: _examples(name, specs.get(name)) for name in names}
    first = {name: values[0] for name, values in samples.items()}
    for name, values in samples.items():
        for value in values:
            try:
                render(text, {**first, name: value})
            except ValueError as error:
                yield f"{shown(text)} cannot be written for {name} = {shown(value)}: {error}"
                return


def _examples(name: str, spec: ParameterSpec | None) -> list[Any]:
    match spec:
        case FloatParameter() | IntParameter():
            return [spec.low, spec.high]
        case CategoricalParameter() | OrdinalParameter():
            return list(spec.values) or [""]
    return ["text"] if name in ("study", "trial_dir") else [1]


def _left_behind(
    args: Mapping[int, str | None], specs: Mapping[str, ParameterSpec | None]
) -> Iterator[tuple[Path, str]]:
    for i, text in args.items():
        flag = args.get(i - 1)
        spec = specs.get((text or "")[1:-1])
        if text and spec and spec.when and text[0] == "{" and flag and flag[0] == "-" and "{" not in flag:
            joined = f"{flag}={text}"
            yield (
                ("args", i),
                f"{text} is left out where it does not exist, {flag!r} is not; write {joined!r} instead",
            )
