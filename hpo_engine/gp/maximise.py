"""Where an acquisition is largest on a space with integers, categories and conditions."""

# autograd has no types
# mypy: disable-error-code="import-untyped, no-any-return, untyped-decorator, no-untyped-def"
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from autograd import value_and_grad
from scipy.optimize import minimize

from hpo_engine.domains import Array
from hpo_engine.space import Mask, SearchSpace
from hpo_engine.types import Config

Score = Callable[[Array], Array]  # (m, width of the space) -> (m,), larger is better


def maximise(
    score: Score, space: SearchSpace, centres: Array, rng: np.random.Generator, *, count: int, refine: int = 5
) -> list[Config]:
    """Configurations, best first: `count` candidates, and the best of them after gradient ascent.

    Half of the candidates are uniform in the space, half are neighbours of `centres`. All are scored as the
    valid points that they decode to.
    """
    if space.size is not None and space.size <= count:
        configs = list(space.points())
    else:
        wide = rng.random((count - count // 2, space.width))
        configs = space.decode(np.concatenate([wide, neighbours(space, centres, count // 2, rng)]))
    u = space.encode(configs)
    scores = score(u)
    best = np.argsort(-scores, kind="stable")[:refine]
    better = space.decode(ascend(score, u[best], space.numeric & space.mask([configs[i] for i in best])))
    scores = np.concatenate([scores, score(space.encode(better))])
    configs += better
    return [configs[i] for i in np.argsort(-scores, kind="stable")]


def neighbours(space: SearchSpace, centres: Array, count: int, rng: np.random.Generator) -> Array:
    """`count` points that differ from one of `centres` in some hyper-parameters, mostly a little."""
    base = centres[rng.integers(len(centres), size=count)]
    awake = space.mask(space.decode(base))
    base = np.where(awake, base, rng.random(base.shape))  # a changed parent may wake them
    share = rng.choice([0.2, 0.5, 1.0], size=(count, 1))
    chosen = rng.random((count, space.dimension)) < share
    chosen[np.arange(count), rng.integers(space.dimension, size=count)] = True
    moved = chosen[:, space.groups]
    step = rng.choice([0.01, 0.03, 0.1, 0.3], size=(count, 1)) * rng.standard_normal((count, space.width))
    near = np.where(space.numeric, np.clip(base + step, 0.0, 1.0), rng.random((count, space.width)))
    return np.where(moved, near, base)


def ascend(score: Score, u: Array, free: Mask, steps: int = 20) -> Array:  # (k, w), (k, w) bool -> (k, w)
    """Follow the gradient of `score` in the unit cube, in coordinates that are `free`; all points at once."""
    if not free.any():
        return u
    total = value_and_grad(lambda v: -score(v).sum())

    def slope(moving: Array) -> tuple[float, Array]:
        at = u.copy()
        at[free] = moving
        value, gradient = total(at)
        return value, gradient[free]

    box = [(0.0, 1.0)] * int(free.sum())
    found = minimize(slope, u[free], method="L-BFGS-B", jac=True, bounds=box, options={"maxiter": steps})
    reached = u.copy()
    if np.isfinite(found.x).all():
        reached[free] = np.clip(found.x, 0.0, 1.0)
    return reached
