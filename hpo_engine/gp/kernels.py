"""Matern-5/2 with a lengthscale for each group of coordinates."""

# autograd has no types
# mypy: disable-error-code="import-untyped, no-any-return, untyped-decorator, no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import autograd.numpy as np
from autograd.extend import defvjp, primitive

from hpo_engine.domains import Array


@primitive
def matern52_of(d2: Array) -> Array:
    """Matern-5/2 as a function of the squared distance: so written, its gradient at 0 is finite and exact."""
    s = np.sqrt(5.0 * d2)
    return (1.0 + s + s * s / 3.0) * np.exp(-s)


def _matern52_vjp(_value: Array, d2: Array):
    s = np.sqrt(5.0 * d2)
    return lambda g: g * (-5.0 / 6.0) * (1.0 + s) * np.exp(-s)


defvjp(matern52_of, _matern52_vjp)


class Named(NamedTuple):
    """What the entries of theta are."""

    lengthscales: Array  # (g,)
    amplitude: float
    noise: float
    mean: float


def named(theta: Array) -> Named:
    return Named(np.exp(theta[:-3]), np.exp(theta[-3]), np.exp(theta[-2]), theta[-1])


def differences(x: Array, groups: Array) -> Array:  # (n, w), (w,) -> (g, n * n)
    """Squared differences within each group: all that the covariance of `x` needs, whatever theta is."""
    parts = np.zeros((groups[-1] + 1, len(x), len(x)))
    for g, u in zip(groups, x.T, strict=True):  # one at a time: a categorical may have hundreds
        parts[g] += np.square(u[:, None] - u[None, :])
    return parts.reshape(len(parts), -1)


def covariance(theta: Array, parts: Array) -> Array:  # (g + 3,), (g, n * n) -> (n, n)
    """Of noisy values at the points whose `differences` are `parts`."""
    t = named(theta)
    n = round(parts.shape[1] ** 0.5)
    return t.amplitude * matern52_of((t.lengthscales**-2.0) @ parts).reshape(n, n) + t.noise * np.eye(n)


def cross(theta: Array, groups: Array, z: Array, x: Array) -> Array:  # (m, w), (n, w) -> (m, n)
    """Covariance of the latent function between two sets of points."""
    t = named(theta)
    scale = t.lengthscales[groups]
    z, x = z / scale, x / scale
    # Cancellation costs some 1e-12 of d2, and Matern-5/2 is linear in d2 near 0: no digit that matters.
    d2 = (z * z).sum(1)[:, None] + (x * x).sum(1)[None, :] - 2.0 * z @ x.T
    return t.amplitude * matern52_of(np.maximum(d2, 0.0))
