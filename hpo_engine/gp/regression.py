"""Fitting theta, and the posterior given data and fantasies of what is still pending."""

# autograd has no types
# mypy: disable-error-code="import-untyped, no-any-return, untyped-decorator, no-untyped-def"
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import autograd.numpy as np
from autograd import value_and_grad
from numpy.linalg import LinAlgError
from scipy.linalg import lapack
from scipy.optimize import minimize

from hpo_engine.domains import Array
from hpo_engine.gp.kernels import cross, differences, named
from hpo_engine.gp.likelihood import Prior, cholesky, neg_log_posterior

LEAST_VARIANCE = 1e-12


def fit(x: Array, y: Array, groups: Array, prior: Prior, starts: Sequence[Array], steps: int = 60) -> Array:
    """The theta of highest posterior density that L-BFGS-B finds from `starts`. LinAlgError."""
    parts = differences(x, groups)
    slope = value_and_grad(neg_log_posterior)
    box = list(zip(prior.low, prior.high, strict=True))
    best, least = None, np.inf
    for start in starts:
        inside = np.clip(start, prior.low, prior.high)
        found = minimize(
            slope, inside, (parts, y, prior), method="L-BFGS-B", jac=True, bounds=box,
            options={"maxiter": steps, "ftol": 1e-6},
        )  # fmt: skip
        if np.isfinite(found.fun) and found.fun < least:
            best, least = found.x, found.fun
    if best is None:
        raise LinAlgError("no start led to a finite posterior density")
    return best


@dataclass(frozen=True, slots=True)
class Posterior:
    """Of the latent function, under each fantasy of what the pending evaluations will give.

    With L L' = covariance of data and pending values together, and y = mean + L e, the data fix the first n
    entries of e and leave the others standard normal: a fantasy is p normal numbers, which L makes a joint
    draw from the posterior, with all correlations and noise; conditioning on it costs nothing more.
    """

    theta: Array
    groups: Array
    x: Array  # (n + p, w) data, then pending
    whiten: Array  # (n + p, n + p) inverse of L
    white: Array  # (n + p, s) e, a column for each fantasy
    pending: Array  # (p, s) the fantasised values
    jitter: float

    def predict(self, z: Array) -> tuple[Array, Array]:  # (m, w) -> (m, s), (m, 1)
        """Mean under each fantasy and standard deviation, which is the same under all."""
        t = named(self.theta)
        k = cross(self.theta, self.groups, z, self.x) @ self.whiten.T
        variance = t.amplitude - (k * k).sum(1, keepdims=True)
        return t.mean + k @ self.white, np.sqrt(np.maximum(variance, LEAST_VARIANCE * t.amplitude))


def condition(theta: Array, groups: Array, x: Array, y: Array, pending: Array, normals: Array) -> Posterior:
    """On data x (n, w), y (n,) and s fantasies at `pending` (p, w) made of `normals` (p, s). LinAlgError."""
    if len(theta) != groups[-1] + 4:
        raise LinAlgError(f"{len(theta)} parameters do not fit {groups[-1] + 1} lengthscales")
    t, n = named(theta), len(y)
    points = np.concatenate([x, pending])
    cov = cross(theta, groups, points, points) + t.noise * np.eye(len(points))
    factor, jitter = cholesky(cov)
    whiten = np.tril(lapack.dtrtri(factor, lower=1)[0])
    known = whiten[:n, :n] @ (y - t.mean)
    white = np.concatenate([np.repeat(known[:, None], normals.shape[1], axis=1), normals])
    if not np.isfinite(white).all():
        raise LinAlgError("the posterior is not finite")
    return Posterior(theta, groups, points, whiten, white, t.mean + factor[n:] @ white, jitter)
