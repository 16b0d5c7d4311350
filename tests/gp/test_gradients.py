"""Derivatives that are written by hand against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from autograd import grad
from autograd.test_util import check_grads
from scipy.optimize import approx_fprime

from hpo_engine.gp.acquisition import Acquisition, Limit, log_improvement
from hpo_engine.gp.kernels import covariance, differences, matern52_of
from hpo_engine.gp.likelihood import gaussian_nll, neg_log_posterior, weak_prior
from hpo_engine.gp.regression import condition

GROUPS = np.array([0, 1, 1, 2])
THETA = np.array([-0.5, 0.3, 0.1, 0.4, -3.0, 0.2])


def data(n=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 4))
    return x, np.sin(5 * x[:, 0]) + x[:, 3] + 0.1 * rng.standard_normal(n)


def test_matern():
    check_grads(matern52_of, modes=["rev"], order=1)(np.array([0.01, 0.5, 3.0, 40.0]))


def test_matern_has_its_slope_at_zero():
    assert grad(matern52_of)(0.0) == pytest.approx(-5 / 6)
    assert (matern52_of(1e-8) - matern52_of(0.0)) / 1e-8 == pytest.approx(-5 / 6, rel=1e-3)


def test_nll_in_the_covariance_and_in_the_data():
    x, y = data()
    cov = covariance(THETA, differences(x, GROUPS))
    direction = np.random.default_rng(1).standard_normal(cov.shape)
    direction += direction.T
    slope = (gaussian_nll(cov + 1e-5 * direction, y) - gaussian_nll(cov - 1e-5 * direction, y)) / 2e-5
    assert np.sum(grad(gaussian_nll, 0)(cov, y) * direction) == pytest.approx(slope, rel=1e-6)
    numeric = approx_fprime(y, lambda v: gaussian_nll(cov, v), 1e-6)
    np.testing.assert_allclose(grad(gaussian_nll, 1)(cov, y), numeric, rtol=1e-4, atol=1e-4)


def test_log_posterior_with_coincident_points():
    x, y = data()
    x[1] = x[0]
    parts, prior = differences(x, GROUPS), weak_prior(3)
    numeric = approx_fprime(THETA, lambda theta: neg_log_posterior(theta, parts, y, prior), 1e-6)
    np.testing.assert_allclose(grad(neg_log_posterior)(THETA, parts, y, prior), numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("t", [-1e5, -300.0, -50.0001, -49.9999, -8.0, -1.0001, -0.9999, 0.0, 3.0, 50.0])
def test_log_improvement(t):
    numeric = (log_improvement(t + 1e-5) - log_improvement(t - 1e-5)) / 2e-5
    assert grad(log_improvement)(t) == pytest.approx(numeric, rel=1e-3, abs=1e-9)


def test_acquisition_with_fantasies_and_limits():
    x, y = data()
    rng = np.random.default_rng(3)
    pending, normals = rng.random((2, 4)), rng.standard_normal((2, 5))
    loss, slack = (condition(THETA, GROUPS, x, values, pending, normals) for values in (y, -y))
    acquisition = Acquisition(loss, (Limit(slack, 0.3),), loss.white.min(0), 0.5)
    u = rng.random((3, 3))
    numeric = approx_fprime(u.ravel(), lambda v: acquisition(v.reshape(3, 3)).sum(), 1e-6)
    np.testing.assert_allclose(grad(lambda v: acquisition(v).sum())(u).ravel(), numeric, rtol=1e-4, atol=1e-4)
