"""Expected improvement among feasible points, averaged over fantasies; all in logarithms.

In logarithms it has a slope where improvement is all but impossible, so gradients lead out of flat regions
(Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian optimization", section 4.1).
"""

# autograd has no types
# mypy: disable-error-code="import-untyped, no-any-return, untyped-decorator, no-untyped-def"
from __future__ import annotations

from dataclasses import dataclass

import autograd.numpy as np
from autograd.extend import defvjp, primitive
from autograd.scipy.special import logsumexp
from autograd.scipy.stats import norm
from scipy.special import erfcx, log_ndtr, ndtr

from hpo_engine.domains import Array
from hpo_engine.gp.regression import Posterior
from hpo_engine.space import Mask

LOG_2PI = np.log(2 * np.pi)


@primitive
def log_improvement(t: Array) -> Array:
    """log(t Phi(t) + phi(t)): the log of EI in units of the standard deviation, for t down to -1e150."""
    high, low = np.maximum(t, -1.0), np.minimum(t, -1.0)
    near = np.maximum(low, -50.0)
    mills = np.sqrt(np.pi / 2) * erfcx(-near / np.sqrt(2))  # Phi(t) / phi(t)
    far = low**-2.0
    tail = np.where(low < -50.0, np.log(far) + np.log1p(far * (15 * far - 3)), np.log1p(near * mills))
    above = np.log(high * ndtr(high) + np.exp(-0.5 * high * high - 0.5 * LOG_2PI))
    return np.where(t > -1.0, above, tail - 0.5 * low * low - 0.5 * LOG_2PI)


defvjp(log_improvement, lambda value, t: lambda g: g * np.exp(log_ndtr(t) - value))


@dataclass(frozen=True, slots=True)
class Limit:
    """An output that must stay at or below `threshold`."""

    posterior: Posterior
    threshold: float


@dataclass(frozen=True, slots=True)
class Acquisition:
    """log mean_s [EI_s prod_k P_s(output k <= its threshold)]; each fantasy has its own incumbent."""

    objective: Posterior
    limits: tuple[Limit, ...]
    incumbents: Array  # (s,)
    height: float  # the resource's coordinate at which all this is meant

    def __call__(self, u: Array) -> Array:  # configurations (m, w - 1) -> (m,)
        z = np.hstack([u, np.full((len(u), 1), self.height)])
        mean, sd = self.objective.predict(z)
        value = np.log(sd) + log_improvement((self.incumbents - mean) / sd)
        for limit in self.limits:
            mean, sd = limit.posterior.predict(z)
            value = value + norm.logcdf((limit.threshold - mean) / sd)
        return logsumexp(value, axis=1) - np.log(value.shape[1])


def incumbents(means: Array, feasible: Mask) -> Array:  # (m, s), (m, s) bool -> (s,)
    """The least mean of a feasible point under each fantasy.

    A mean, as the best of noisy values is too good to be true (Vazquez et al. 2008, "Global optimization
    based on noisy evaluations"). Where nothing is feasible yet, the worst: all that is feasible is better.
    """
    least = np.where(feasible, means, np.inf).min(0)
    return np.where(np.isfinite(least), least, means.max(0))
