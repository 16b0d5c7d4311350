"""Asynchronous BOHB as a pure decision engine: events in, decisions out; no I/O, no clock.

Names are imported when they are first used: an agent beside a trial reads the types and needs no numpy.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "engine": ("Engine", "Limits", "Method"),
    "history": ("History",),
    "methods": ("METHODS", "Setting", "make_method"),
    "objective": ("Constraint", "Metric", "Objective", "Score"),
    "rung": ("Incumbent", "Observation"),
    "rungs": ("bracket_weights", "levels"),
    "space": ("Categorical", "Condition", "Float", "Int", "Ordinal", "Parameter", "SearchSpace"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'hpo_engine' has no attribute {name!r}")
    return getattr(import_module(f"hpo_engine.{_HOME[name]}"), name)
