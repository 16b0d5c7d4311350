"""Hyper-parameters in arguments and environment: `--lr={learning_rate:.6f}`; a brace itself is `{{` or `}}`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import Formatter

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
        if spec and ("{" in spec or "}" in spec):
            raise ValueError(f"{template!r} has braces within a format; write the format out")
    return parts


def _one(value: object, conversion: str | None, spec: str) -> str:
    if conversion:
        value = Formatter().convert_field(value, conversion)
    if isinstance(value, bool) and not spec:
        return str(value).lower()
    return format(value, spec)
