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
            raise ValueError(f"needs samples >= 1 and candidates >= 2, got {self.samples} and {self.candidates}")
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
        axes = Axes(self.space, self.levels)
        data = gather(history, axes, level, rows=self.rows, pending=self.pending)
        acquisition, promising = self._acquisition(data, axes, fitted, rng)
        height = axes.height(level)
        best = maximise(
            lambda u: acquisition(axes.at(u, height)), self.space, data.rivals[promising, :-1], rng, count=self.candidates
        )
        tried = self._random.tried(history)
        new = next((config for config in best if self.space.key(config) not in tried), None)
        return self._fallback(history, rng, "random: all candidates were tried") if new is None else Suggestion(new, origin)

    def _acquisition(
        self, data: Data, axes: Axes, fitted: Parameters, rng: np.random.Generator
    ) -> tuple[Acquisition, Array]:
        """The acquisition, and the rivals that are best under it."""
        default, p = weak_prior(self.space.dimension + 1).centre, len(data.outputs[0].pending)
        posteriors = []
        for output in data.outputs:
            theta = np.array(fitted.get(output.name, default))
            normals = rng.standard_normal((p, self.samples if p else 1))
            posteriors.append(condition(theta, axes.groups, output.x, output.y, output.pending, normals))
        loss, *rest = posteriors
        limits = tuple(Limit(q, output.limit) for q, output in zip(rest, data.outputs[1:], strict=True))
        kept = np.all([np.ones_like(loss.pending, bool), *(at.posterior.pending <= at.threshold for at in limits)], axis=0)
        feasible = np.concatenate([np.repeat(data.feasible[:, None], loss.white.shape[1], axis=1), kept])
        means, _ = loss.predict(data.rivals)
        promising = np.argsort(np.where(feasible, means, means.max()).mean(1), kind="stable")[:CENTRES]
        return Acquisition(loss, limits, incumbents(means, feasible)), promising


def acquisition_level(history: History, dimension: int) -> int | None:
    """The largest level with at least as many finite records as there are hyper-parameters; None: there is none."""
    return next((level for level in reversed(history.levels) if history.record_count(level) >= dimension), None)


def _fit(output: Output, axes: Axes, prior: Prior, last: Parameters) -> Array:
    starts = [prior.centre]
    if len(last.get(output.name, ())) == len(prior.centre):
        starts.insert(0, np.array(last[output.name]))
    return fit(output.x, output.y, axes.groups, prior, starts)
