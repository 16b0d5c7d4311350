"""How well theta explains the data, and how likely it was beforehand."""

# autograd has no types
# mypy: disable-error-code="import-untyped, no-any-return, untyped-decorator, no-untyped-def"
from __future__ import annotations

from dataclasses import dataclass

import autograd.numpy as np
from autograd.extend import defvjp, primitive
from numpy.linalg import LinAlgError
from scipy.linalg import lapack

from hpo_engine.domains import Array
from hpo_engine.gp.kernels import covariance

JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)


def cholesky(cov: Array) -> tuple[Array, float]:  # (n, n) -> (n, n), jitter
    """Lower factor, with the least jitter, relative to the mean variance, that makes one. LinAlgError."""
    size = float(np.mean(np.diag(cov)))
    for jitter in JITTERS:
        factor, info = lapack.dpotrf(cov + jitter * size * np.eye(len(cov)), lower=1, clean=1)
        if info == 0 and np.isfinite(factor[-1, -1]):
            return factor, jitter
    raise LinAlgError("the covariance matrix has no Cholesky factor")


@primitive
def gaussian_nll(cov: Array, y: Array) -> float:  # (n, n), (n,) ->
    """-log N(y | 0, cov). Its gradient is written down: (cov^-1 - a a')/2 with a = cov^-1 y (R&W eq. 5.9)."""
    factor, _ = cholesky(cov)
    white = lapack.dtrtrs(factor, y, lower=1)[0]
    return 0.5 * white @ white + np.log(np.diag(factor)).sum() + 0.5 * len(y) * np.log(2 * np.pi)


def _nll_vjp_cov(_value: float, cov: Array, y: Array):
    lower = np.tril(lapack.dpotri(cholesky(cov)[0], lower=1)[0])
    inverse = lower + np.tril(lower, -1).T
    a = inverse @ y
    return lambda g: g * 0.5 * (inverse - a[:, None] * a[None, :])


def _nll_vjp_y(_value: float, cov: Array, y: Array):
    return lambda g: g * lapack.dpotrs(cholesky(cov)[0], y, lower=1)[0]


defvjp(gaussian_nll, _nll_vjp_cov, _nll_vjp_y)


@dataclass(frozen=True, slots=True)
class Prior:
    """Independent normals on the entries of theta, and the box that they may move in."""

    centre: Array
    spread: Array
    low: Array
    high: Array


def weak_prior(g: int) -> Prior:
    """For targets of mean 0 and variance 1 on the unit cube.

    Lengthscales grow with the square root of the dimension, as distances in the cube do
    (Hvarfner et al. 2024, "Vanilla Bayesian optimization performs great in high dimensions").
    """
    ell = 0.5 * np.log(g) + 0.2
    return Prior(
        centre=np.array([*[ell] * g, 0.0, np.log(1e-3), 0.0]),
        spread=np.array([*[1.2] * g, 1.0, 2.0, 1.0]),
        low=np.array([*[np.log(0.03)] * g, np.log(1e-2), np.log(1e-6), -3.0]),
        high=np.array([*[np.log(100.0)] * g, np.log(1e2), 0.0, 3.0]),
    )


def neg_log_posterior(theta: Array, parts: Array, y: Array, prior: Prior) -> float:
    surprise = (theta - prior.centre) / prior.spread
    return gaussian_nll(covariance(theta, parts), y - theta[-1]) + 0.5 * (surprise @ surprise)
