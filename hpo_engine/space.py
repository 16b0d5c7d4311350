"""Search spaces: hyper-parameters as the user names them, and as points of the unit cube, as models see them.

A hyper-parameter that is inactive under its condition sits at a constant: 0.5, or 0 when one-hot.
Shapes: n configurations, w coordinates (`width`), d hyper-parameters (`dimension`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpo_engine.domains import Array, Categorical, Domain, Float, Int, Ordinal, place
from hpo_engine.types import Config, SpaceError, Value

__all__ = ["Array", "Categorical", "Condition", "Float", "Int", "Mask", "Ordinal", "Parameter", "SearchSpace"]

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Condition:
    """True for configurations whose `parent` has one of `values`."""

    parent: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named hyper-parameter; it exists only where `when` holds."""

    name: str
    domain: Domain
    when: Condition | None = None


class SearchSpace:
    """An ordered set of hyper-parameters; `encode` and `decode` are inverse on its configurations.

    Raises SpaceError when names repeat or a condition does not fit its parent.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self._named = {p.name: p for p in self.parameters}
        self._check()
        widths = [p.domain.width for p in self.parameters]
        ends = np.cumsum([0, *widths])
        self._slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self._roots_first = sorted(self.parameters, key=lambda p: p.when is not None)
        self.dimension = len(self.parameters)
        self.width = int(ends[-1])
        self.groups = np.repeat(np.arange(self.dimension), widths)  # (w,) coordinate -> its hyper-parameter
        movable = [p.domain.count != 1 and not isinstance(p.domain, Categorical) for p in self.parameters]
        self.numeric: Mask = np.repeat(movable, widths)  # (w,) may be moved by gradients

    def encode(self, configs: Sequence[Config]) -> Array:  # -> (n, w)
        u = np.empty((len(configs), self.width))
        for p, at in zip(self.parameters, self._slices, strict=True):
            u[:, at] = 0.0 if isinstance(p.domain, Categorical) else 0.5
            rows = [i for i, config in enumerate(configs) if p.name in config]
            if rows:
                u[rows, at] = p.domain.encode([configs[i][p.name] for i in rows])
        return u

    def mask(self, configs: Sequence[Config]) -> Mask:  # -> (n, w)
        """Whether each coordinate belongs to a hyper-parameter that is active."""
        active = [[p.name in config for p in self.parameters] for config in configs]
        return np.array(active, bool).reshape(len(configs), self.dimension)[:, self.groups]

    def decode(self, u: Array) -> list[Config]:  # (n, w) ->
        axes = zip(self.parameters, self._slices, strict=True)
        columns = {p.name: p.domain.decode(u[:, at]) for p, at in axes}
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        return [{name: row[name] for name in row if self._active(self._named[name], row)} for row in rows]

    def sample(self, n: int, rng: np.random.Generator) -> list[Config]:
        """Uniform in the unit cube, so uniform on each axis as it is searched."""
        return self.decode(rng.random((n, self.width)))

    def key(self, config: Config) -> Hashable:
        """What makes two configurations the same."""
        given = ((p.domain, config.get(p.name)) for p in self.parameters)
        return tuple(None if value is None else domain.canonical(value) for domain, value in given)

    @cached_property
    def size(self) -> int | None:
        """How many configurations there are; None: without end."""
        sizes = [self._branches(p) for p in self.parameters if p.when is None]
        return None if any(s is None for s in sizes) else prod(s for s in sizes if s is not None)

    def points(self) -> Iterator[Config]:
        """All configurations of a finite space."""
        if self.size is None:
            raise SpaceError("a space with a continuous hyper-parameter has no list of its points")
        yield from self._expand({}, 0)

    def problems(self, config: Config) -> list[str]:
        """Why `config` is not in this space, one sentence each; empty when it is."""
        found = [self._unknown(name) for name in config if name not in self._named]
        for p in self.parameters:
            active = self._active(p, config)
            if p.name in config and not active:
                found.append(f"{p.name}: exists only when {p.when and _words(p.when)}; leave it out")
            elif p.name in config and p.domain.canonical(config[p.name]) is None:
                found.append(f"{p.name}: got {config[p.name]!r}, expected {p.domain}")
            elif active and p.name not in config:
                found.append(f"{p.name}: missing, expected {p.domain}")
        return found

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, self._named, n=1)
        return f"{name}: no such hyper-parameter" + (f", did you mean {near[0]!r}?" if near else "")

    def _active(self, p: Parameter, config: Config) -> bool:
        if p.when is None:
            return True
        return p.when.parent in config and place(p.when.values, config[p.when.parent]) is not None

    def _branches(self, p: Parameter) -> int | None:
        children = [c for c in self.parameters if c.when is not None and c.when.parent == p.name]
        named = {p.domain.canonical(v): v for c in children if c.when for v in c.when.values}.values()
        counts = [p.domain.count, *(c.domain.count for c in children)]
        if any(count is None for count in counts):
            return None
        below = [prod(c.domain.count or 1 for c in children if self._active(c, {p.name: v})) for v in named]
        return (p.domain.count or 1) - len(named) + sum(below)

    def _expand(self, config: Config, depth: int) -> Iterator[Config]:
        if depth == self.dimension:
            yield {p.name: config[p.name] for p in self.parameters if p.name in config}
        elif not self._active(p := self._roots_first[depth], config):
            yield from self._expand(config, depth + 1)
        else:
            for value in p.domain.points():
                yield from self._expand({**config, p.name: value}, depth + 1)

    def _check(self) -> None:
        if len(self._named) != len(self.parameters):
            names = [p.name for p in self.parameters]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise SpaceError(f"hyper-parameters named more than once: {twice}")
        for p in self.parameters:
            if p.when is not None:
                _check_condition(p, self._named)


def _check_condition(p: Parameter, named: dict[str, Parameter]) -> None:
    assert p.when is not None
    parent = named.get(p.when.parent)
    if parent is None or parent is p:
        near = get_close_matches(p.when.parent, named.keys() - {p.name}, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f"; there are {sorted(named)}"
        raise SpaceError(f"{p.name}: its condition names {p.when.parent!r}, no other hyper-parameter{hint}")
    if parent.when is not None:
        raise SpaceError(f"{p.name}: its parent {parent.name} has a condition itself; one level is possible")
    if isinstance(parent.domain, Float):
        raise SpaceError(f"{p.name}: its parent {parent.name} is a float; use another kind of parent")
    odd = [v for v in p.when.values if parent.domain.canonical(v) is None]
    if odd or not p.when.values:
        raise SpaceError(f"{p.name}: its condition has values {odd}; {parent.name} is {parent.domain}")


def _words(when: Condition) -> str:
    return f"{when.parent} is {' or '.join(map(str, when.values))}"
