from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.linalg import LinAlgError

from hpo_engine.domains import Array
from hpo_engine.gp.acquisition import Acquisition, Limit, incumbents
from hpo_engine.gp.likelihood import Prior, weak_prior
from hpo_engine.gp.maximise import maximise
from hpo_engine.gp.regression import condition, fit
from hpo_engine.history import History
from hpo_engine.searchers import Suggestion
from hpo_engine.searchers.outputs import Axes, Data, Output, gather
from hpo_engine.searchers.random import Random
from hpo_engine.space import SearchSpace
from hpo_engine.types import Fitted

Parameters: TypeAlias = Mapping[str, tuple[float, ...]]  # output name -> theta

CENTRES = 10  # of the best configurations so far, whose neighbours are candidates
NUMERICAL = (LinAlgError, FloatingPointError, OverflowError, ValueError)


@dataclass(frozen=True)
class BayesOpt:
    """Expected improvement of a joint GP over (configuration, resource), given what is still pending.

    Klein et al. 2020, "Model-based asynchronous hyperparameter and neural architecture search" (A-BOHB),
    sections 3 and 4. Random while no level has as many records as there are hyper-parameters.
    """

    space: SearchSpace
    levels: tuple[int, ...]
    samples: int = 20  # fantasies of the pending evaluations
    candidates: int = 500
    growth: float = 0.1  # of the number of records, before the model is fitted again
    rows: int = 400  # a model has at most so many, whatever the study's size
    pending: int = 200  # and fantasises at most so many, the newest
    _random: Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.samples < 1 or self.candidates < 2:
            raise ValueError(f"needs samples >= 1, candidates >= 2; got {self.samples}, {self.candidates}")
        object.__setattr__(self, "_random", Random(self.space))

    def fit(self, history: History, rng: np.random.Generator) -> Fitted | None:
        level = acquisition_level(history, self.space.dimension)
        if level is None or not self._due(history):
            return None
        axes, prior = Axes(self.space, self.levels), weak_prior(self.space.dimension + 1)
        last = history.fitted.parameters if history.fitted else {}
        parameters, notes = {}, []
        for output in gather(history, axes, level, rows=self.rows, pending=0).outputs:
            try:
                theta = _fit(output, axes, prior, last)
            except NUMERICAL as error:
                theta = prior.centre
                notes.append(f"{output.name}: default parameters, {error}")
            parameters[output.name] = tuple(theta.tolist())
        return Fitted(history.length, "joint gp", parameters, "; ".join(notes))

    def suggest(self, history: History, rng: np.random.Generator, level: int) -> Suggestion | None:
        at = acquisition_level(history, self.space.dimension)
        if at is None or history.fitted is None:
            return self._fallback(history, rng, "random")
        try:
            return self._model(history, rng, at, history.fitted.parameters, "model")
        except NUMERICAL as error:
            reason = f"{type(error).__name__}: {error}"
        try:
            return self._model(history, rng, at, {}, f"model with default parameters: {reason}")
        except NUMERICAL:
            return self._fallback(history, rng, f"random: {reason}")

    def _due(self, history: History) -> bool:
        new = len(history.observations()) - history.fitted_records
        return history.fitted is None or new >= max(1.0, self.growth * history.fitted_records)

    def _fallback(self, history: History, rng: np.random.Generator, origin: str) -> Suggestion | None:
        config = self._random.draw(history, rng)
        return None if config is None else Suggestion(config, origin)

    def _model(
        self, history: History, rng: np.random.Generator, level: int, fitted: Parameters, origin: str
    ) -> Suggestion | None:
        data = gather(history, Axes(self.space, self.levels), level, rows=self.rows, pending=self.pending)
        acquisition, promising = self._acquisition(data, level, fitted, rng)
        best = maximise(acquisition, self.space, promising, rng, count=self.candidates)
        tried = self._random.tried(history)
        for config in best:
            if self.space.key(config) not in tried:
                return Suggestion(config, origin)
        return self._fallback(history, rng, "random: all candidates were tried before")

    def _acquisition(
        self, data: Data, level: int, fitted: Parameters, rng: np.random.Generator
    ) -> tuple[Acquisition, Array]:
        """What to maximise, and the points (k, w - 1) that look best so far."""
        axes, default = Axes(self.space, self.levels), weak_prior(self.space.dimension + 1).centre
        pending = len(data.outputs[0].pending)
        posteriors = []
        for output in data.outputs:
            theta = np.array(fitted.get(output.name, default))
            normals = rng.standard_normal((pending, self.samples if pending else 1))
            posteriors.append(condition(theta, axes.groups, output.x, output.y, output.pending, normals))
        loss, *others = posteriors
        limits = tuple(Limit(p, output.limit) for p, output in zip(others, data.outputs[1:], strict=True))
        means, _ = loss.predict(data.rivals)
        feasible = np.repeat(data.feasible[:, None], means.shape[1], axis=1)
        for limit in limits:
            feasible[-pending or len(feasible) :] &= limit.posterior.pending <= limit.threshold
        order = np.argsort(np.where(feasible, means, means.max()).mean(1), kind="stable")
        acquisition = Acquisition(loss, limits, incumbents(means, feasible), axes.height(level))
        return acquisition, data.rivals[order[:CENTRES], :-1]


def acquisition_level(history: History, dimension: int) -> int | None:
    """The largest level with at least as many finite records as there are hyper-parameters, if any."""
    return next((at for at in reversed(history.levels) if history.record_count(at) >= dimension), None)


def _fit(output: Output, axes: Axes, prior: Prior, last: Parameters) -> Array:
    starts = [prior.centre]
    if len(last.get(output.name, ())) == len(prior.centre):
        starts.insert(0, np.array(last[output.name]))
    return fit(output.x, output.y, axes.groups, prior, starts)
