"""Rung levels, brackets and the halving rule: integers only."""

from __future__ import annotations

from functools import lru_cache


def levels(low: int, high: int, eta: int) -> tuple[int, ...]:
    """low·eta^k below `high`, then `high` itself: (1, 3, 9, 27, 50) for 1, 50, 3.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", section 3, whatever `high` is.
    """
    if not (0 < low <= high and eta >= 2):
        raise ValueError(f"rungs need 0 < min <= max and eta >= 2, got min={low}, max={high}, eta={eta}")
    below = []
    while low < high:
        below.append(low)
        low *= eta
    return (*below, high)


def quota(count: int, eta: int) -> int:
    """How many of a rung's `count` records are kept or promoted."""
    return count // eta


@lru_cache
def bracket_weights(rungs: int, brackets: int, eta: int) -> tuple[float, ...]:
    """P(s) for brackets s = 0 .. brackets-1 of a system of `rungs` levels (K = rungs - 1).

    (K+1)/(K-s+1)·eta^(K-s), normalised: Klein et al. 2020 (A-BOHB), section 4. With fewer brackets than
    K+1 the distribution is cut off and normalised again.
    """
    top = rungs - 1
    if not 1 <= brackets <= rungs:
        raise ValueError(f"brackets is {brackets}; with {rungs} rungs it may be 1 to {rungs}")
    weights = [rungs / (top - s + 1) * eta ** (top - s) for s in range(brackets)]
    return tuple(weight / sum(weights) for weight in weights)
