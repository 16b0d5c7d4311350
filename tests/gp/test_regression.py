"""The posterior and its fantasies against formulas written out the long way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.linalg import LinAlgError

from hpo_engine.gp.kernels import cross, named
from hpo_engine.gp.likelihood import cholesky, gaussian_nll, weak_prior
from hpo_engine.gp.regression import condition, fit

GROUPS = np.array([0, 1, 1])
THETA = np.array([-0.7, 0.2, 0.5, -4.0, 0.3])
NONE = np.zeros((0, 3)), np.zeros((0, 1))


def matern(a, b):  # one pair of points, by the book: Rasmussen & Williams eq. 4.17
    ell = np.exp(THETA[:2])[GROUPS]
    r = np.sqrt((((a - b) / ell) ** 2).sum())
    return np.exp(0.5) * (1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r)


def gram(a, b):
    return np.array([[matern(p, q) for q in b] for p in a])


def naive(x, y, z):
    inverse = np.linalg.inv(gram(x, x) + np.exp(-4.0) * np.eye(len(x)))
    k = gram(z, x)
    return 0.3 + k @ inverse @ (y - 0.3), gram(z, z) - k @ inverse @ k.T


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return rng.random((15, 3)), rng.standard_normal(15), rng.random((6, 3))


def test_posterior_is_the_dense_formula(problem):
    x, y, z = problem
    mean, sd = condition(THETA, GROUPS, x, y, *NONE).predict(z)
    expected, cov = naive(x, y, z)
    np.testing.assert_allclose(mean[:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(sd[:, 0] ** 2, np.diag(cov), rtol=1e-9)


def test_fantasies_are_joint_draws_of_noisy_values(problem):
    x, y, pending = problem
    pending[1] = pending[0] + 0.01  # two that must agree
    normals = np.random.default_rng(1).standard_normal((6, 40_000))
    drawn = condition(THETA, GROUPS, x, y, pending, normals).pending
    mean, cov = naive(x, y, pending)
    cov = cov + np.exp(-4.0) * np.eye(6)
    np.testing.assert_allclose(drawn.mean(1), mean, atol=4 * np.sqrt(cov.max() / 40_000))
    np.testing.assert_allclose(np.cov(drawn), cov, atol=0.02 * cov.max())
    assert np.corrcoef(drawn)[0, 1] == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), abs=0.01)
    assert abs(cov[0, 1]) > 0.1 * cov[0, 0]  # or the test would say nothing


def test_a_fantasy_is_data_like_any_other(problem):
    x, y, z = problem
    pending, z = z[:2], z[2:]
    q = condition(THETA, GROUPS, x, y, pending, np.random.default_rng(2).standard_normal((2, 3)))
    mean, sd = q.predict(z)
    for s in range(3):
        points, values = np.concatenate([x, pending]), np.concatenate([y, q.pending[:, s]])
        expected, spread = condition(THETA, GROUPS, points, values, *NONE).predict(z)
        np.testing.assert_allclose(mean[:, s], expected[:, 0], rtol=1e-9)
        np.testing.assert_allclose(sd, spread, rtol=1e-9)


def test_kernel_is_the_books(problem):
    x, _, z = problem
    np.testing.assert_allclose(cross(THETA, GROUPS, z, x), gram(z, x), rtol=1e-9)


def test_nll_is_the_density():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((5, 5)), rng.standard_normal(5)
    cov = a @ a.T + np.eye(5)
    assert gaussian_nll(cov, y) == pytest.approx(-multivariate_normal(np.zeros(5), cov).logpdf(y))


def test_fit_finds_what_the_data_depend_on():
    rng = np.random.default_rng(0)
    x = rng.random((60, 3))
    y = np.sin(6 * x[:, 0]) + 0.1 * rng.standard_normal(60)
    prior = weak_prior(3)
    theta = fit(x, (y - y.mean()) / y.std(), np.arange(3), prior, [prior.centre])
    t = named(theta)
    assert t.lengthscales[0] < 0.5 * min(t.lengthscales[1:])
    assert 0.05**2 < t.noise * y.var() < 0.2**2


def test_a_singular_matrix_gets_the_least_jitter_that_helps():
    assert cholesky(np.eye(3))[1] == 0.0
    assert 0.0 < cholesky(np.ones((4, 4)))[1] <= 1e-8


@pytest.mark.parametrize("cov", [-np.eye(3), np.full((3, 3), np.nan), np.array([[1.0, 5.0], [5.0, 1.0]])])
def test_no_covariance_is_an_error_of_its_own(cov):
    with pytest.raises(LinAlgError):
        cholesky(cov)
