"""Domains: the values that one hyper-parameter may take, and where they lie on its axes of the unit cube.

domain        coordinates   how a value is encoded
Float         1             linear in the value, or in its logarithm
Int, Ordinal  1             the same; each value owns the half unit on both its sides
Categorical   one a value   one-hot times sqrt(1/2): two different categories lie at distance 1
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt
from sys import float_info
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpo_engine.types import SpaceError, Value

Array: TypeAlias = NDArray[np.float64]

LARGEST_INT = 2**40  # beyond it a double on a log axis no longer tells neighbours apart
ONE = sqrt(0.5)


@dataclass(frozen=True, slots=True)
class Float:
    """Real numbers in [low, high], on a log axis if `log`."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range("Float", self.low, self.high, self.log)

    width = 1

    @property
    def count(self) -> int | None:
        return 1 if self.low == self.high else None

    def points(self) -> Iterator[Value]:
        yield self.low

    def encode(self, values: Sequence[Value]) -> Array:  # -> (n, 1)
        return _to_unit(np.clip(np.array(values, float), self.low, self.high), self.low, self.high, self.log)

    def decode(self, u: Array) -> list[Value]:  # (n, 1) ->
        v = _from_unit(u, self.low, self.high, self.log)
        found: list[Value] = np.clip(v, self.low, self.high).tolist()  # exp(log(high)) may exceed it
        return found

    def canonical(self, value: object) -> Hashable:
        """The value as identity sees it; None when it is not in the domain."""
        inside = _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]
        return float(value) if inside else None  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"a number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Int:
    """Whole numbers from low to high, both included, on a log axis if `log`."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if type(self.low) is not int or type(self.high) is not int:
            raise SpaceError(f"Int: got low={self.low!r}, high={self.high!r}. Use whole numbers, or Float.")
        _check_range("Int", self.low, self.high, self.log)
        if max(abs(self.low), abs(self.high)) > LARGEST_INT:
            raise SpaceError(f"Int: bounds go up to 2**40, got {self.low} to {self.high}. Use Float.")

    width = 1

    @property
    def count(self) -> int | None:
        return self.high - self.low + 1

    def points(self) -> Iterator[Value]:
        yield from range(self.low, self.high + 1)

    def encode(self, values: Sequence[Value]) -> Array:  # -> (n, 1)
        v = np.clip(np.array(values, float), self.low, self.high)
        return _to_unit(v, self.low - 0.5, self.high + 0.5, self.log)

    def decode(self, u: Array) -> list[Value]:  # (n, 1) ->
        nearest = np.floor(_from_unit(u, self.low - 0.5, self.high + 0.5, self.log) + 0.5)
        found: list[Value] = np.clip(nearest, self.low, self.high).astype(np.int64).tolist()
        return found

    def canonical(self, value: object) -> Hashable:
        """The value as identity sees it; None when it is not in the domain."""
        inside = _is_number(value) and self.low <= value <= self.high and value % 1 == 0  # type: ignore[operator]
        return int(value) if inside else None  # type: ignore[call-overload]

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Ordinal:
    """Values in an order that means something."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked_values("Ordinal", self.values))

    width = 1

    @property
    def count(self) -> int | None:
        return len(self.values)

    def points(self) -> Iterator[Value]:
        yield from self.values

    def encode(self, values: Sequence[Value]) -> Array:  # -> (n, 1)
        return ((np.array([place(self.values, v) for v in values], float) + 0.5) / len(self.values))[:, None]

    def decode(self, u: Array) -> list[Value]:  # (n, 1) ->
        places = np.clip(np.floor(u[:, 0] * len(self.values)), 0, len(self.values) - 1)
        return [self.values[i] for i in places.astype(int)]

    def canonical(self, value: object) -> Hashable:
        """The value's place, its identity; None when it is not in the domain."""
        return place(self.values, value)

    def __str__(self) -> str:
        return f"one of {list(self.values)}"


@dataclass(frozen=True, slots=True)
class Categorical:
    """Values without an order."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked_values("Categorical", self.values))

    @property
    def width(self) -> int:
        return len(self.values)

    @property
    def count(self) -> int | None:
        return len(self.values)

    def points(self) -> Iterator[Value]:
        yield from self.values

    def encode(self, values: Sequence[Value]) -> Array:  # -> (n, number of values)
        places = np.array([place(self.values, v) for v in values])
        return np.where(places[:, None] == np.arange(len(self.values)), ONE, 0.0)

    def decode(self, u: Array) -> list[Value]:  # (n, number of values) ->
        return [self.values[i] for i in np.argmax(u, axis=1)]

    def canonical(self, value: object) -> Hashable:
        """The value's place, its identity; None when it is not in the domain."""
        return place(self.values, value)

    def __str__(self) -> str:
        return f"one of {list(self.values)}"


Domain: TypeAlias = Float | Int | Ordinal | Categorical


def _check_range(kind: str, low: float, high: float, log: bool) -> None:
    if not (_is_number(low) and _is_number(high) and max(abs(low), abs(high)) <= float_info.max):
        raise SpaceError(f"{kind}: bounds must be finite numbers, got low={low!r}, high={high!r}")
    if low > high:
        raise SpaceError(f"{kind}: low must not be above high, got low={low}, high={high}")
    if high - low > float_info.max:
        raise SpaceError(f"{kind}: the range {low} to {high} is too wide for a double. Narrow it.")
    if log and low <= 0:
        raise SpaceError(f"{kind}: a log scale needs low > 0, got low={low}. Raise low, or leave log out.")


def _checked_values(kind: str, values: Sequence[Value]) -> tuple[Value, ...]:
    if isinstance(values, str) or not values:
        raise SpaceError(f"{kind}: needs a list of at least one value, got {values!r}")
    for i, v in enumerate(values):
        if not isinstance(v, bool | int | float | str) or (isinstance(v, float) and not isfinite(v)):
            raise SpaceError(f"{kind}: values are numbers, strings or true/false, got {v!r}")
        if place(values[:i], v) is not None:
            raise SpaceError(f"{kind}: {v!r} is listed twice")
    return tuple(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def place(values: Sequence[Value], value: object) -> int | None:
    """Where `value` stands; True and 1 are different values, 1 and 1.0 are not."""
    for i, v in enumerate(values):
        if v == value and isinstance(v, bool) == isinstance(value, bool):
            return i
    return None


def _to_unit(v: Array, low: float, high: float, logarithmic: bool) -> Array:  # (n,) -> (n, 1)
    if low == high:
        return np.full((len(v), 1), 0.5)
    if logarithmic:
        v, low, high = np.log(v), log(low), log(high)
    return ((v - low) / (high - low))[:, None]


def _from_unit(u: Array, low: float, high: float, logarithmic: bool) -> Array:  # (n, 1) -> (n,)
    if logarithmic:
        return np.exp(_from_unit(u, log(low), log(high), False))
    return low + np.clip(u[:, 0], 0.0, 1.0) * (high - low)
