"""Words for what is wrong with an input: what came, what may come, and the nearest known name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]  # where something is in a study: ("space", "lr", "low"), ("args", 2)


def near(word: object, known: Iterable[str]) -> str | None:
    """The known name that `word` was probably meant to be."""
    folded = {_fold(name): name for name in sorted(known, reverse=True)}
    found = get_close_matches(_fold(str(word)), folded, n=1)
    return folded[found[0]] if found else None


def nearest(word: object, known: Iterable[str]) -> str:
    """What was probably meant, else what there is."""
    names = [name for name in dict.fromkeys(known) if name]
    guess = near(word, names)
    if guess is not None:
        return f"; did you mean {guess!r}?"
    return f"; there is {', '.join(names)}" if names else ""


def shown(value: object) -> str:
    """A value as it came, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "keys and values" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(path: Iterable[str | int]) -> str:
    """space.learning_rate.low, args[2]"""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")
