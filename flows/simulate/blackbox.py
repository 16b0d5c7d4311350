"""Recorded training curves as a stand-in for training: NAME.npz with NAME.json beside it.

    NAME.npz    names (d,), x (n, d), loss (n, R) lower is better, seconds (n, R) cumulative training time
    NAME.json   {"metric": ..., "resource": ..., "max_resource": R, "space": {name: as in a study file}}

The values in `x` are raw; of a categorical or an ordinal it is the place in `values`, from 0.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.study.parts import ParameterSpec
from flows.study.space import search_space
from hpo_engine.domains import Array, Categorical, Ordinal
from hpo_engine.simulate import Curve
from hpo_engine.space import SearchSpace
from hpo_engine.types import AbohbError, Config

ARRAYS = ("names", "x", "loss", "seconds")


class BlackboxError(AbohbError):
    """A recorded benchmark that cannot be read, in words for a user."""


class _Description(BaseModel):
    """NAME.json."""

    model_config = ConfigDict(frozen=True)
    metric: str = "loss"
    resource: str = "epoch"
    max_resource: int
    space: dict[str, ParameterSpec]


class Blackbox:
    """`curve(config)` is that of the nearest recorded configuration in the unit cube."""

    def __init__(
        self,
        space: SearchSpace,
        configs: list[Config],
        losses: Array,  # (n, R)
        seconds: Array,  # (n, R)
        *,
        metric: str = "loss",
        resource: str = "epoch",
    ) -> None:
        self.space, self.losses, self.seconds = space, losses, seconds
        self.metric, self.resource = metric, resource
        self.length = losses.shape[1]
        self.best = float(np.nanmin(np.where(np.isfinite(losses), losses, np.nan)))
        self.full_seconds = float(np.median(seconds[:, -1]))  # of one training run at full length
        self._u = space.encode(configs)
        self._half_norms = (self._u**2).sum(1) / 2

    def curve(self, config: Config) -> Curve:
        row = self.nearest(config)
        return Curve(self.losses[row].tolist(), self.seconds[row].tolist())

    def nearest(self, config: Config) -> int:
        """The first row among those that are nearest."""
        u = self.space.encode([config])[0]
        return int(np.argmin(self._half_norms - self._u @ u))


def load_blackbox(path: Path) -> Blackbox:
    """Read NAME.npz and NAME.json. BlackboxError says what is missing or does not fit."""
    if path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    arrays, description = _arrays(path), _description(path.with_suffix(".json"))
    space = search_space(description.space)
    names = [str(name) for name in arrays["names"]]
    x, losses, seconds = (np.asarray(arrays[name], float) for name in ARRAYS[1:])
    problems = []
    if set(names) != set(description.space):
        problems.append(f"names are {sorted(names)}, its space has {sorted(description.space)}")
    if x.shape != (len(x), len(names)):
        problems.append(f"x is {x.shape}, expected (n, {len(names)})")
    if losses.shape != (len(x), description.max_resource) or seconds.shape != losses.shape:
        expected = (len(x), description.max_resource)
        problems.append(f"loss is {losses.shape} and seconds is {seconds.shape}, expected {expected}")
    elif not (np.isfinite(seconds).all() and (np.diff(seconds, prepend=0.0) >= 0).all()):
        problems.append("seconds should be finite, and never fall along a row: they are cumulative")
    elif not np.isfinite(losses).any():
        problems.append("loss has no finite value")
    if problems:
        raise BlackboxError(f"{path}: {'; '.join(problems)}")
    configs = _configs(space, names, x)
    return Blackbox(space, configs, losses, seconds, metric=description.metric, resource=description.resource)


def save_blackbox(path: Path, space: dict[str, Any], x: Array, losses: Array, seconds: Array) -> None:
    """Write NAME.npz and NAME.json; the columns of `x` are in the order of `space`."""
    np.savez_compressed(path, names=np.array(list(space)), x=x, loss=losses, seconds=seconds)
    description = {"metric": "loss", "resource": "epoch", "max_resource": losses.shape[1], "space": space}
    path.with_suffix(".json").write_text(json.dumps(description, indent=1))


def _arrays(path: Path) -> dict[str, Array]:
    if not path.is_file():
        there = [p.name for p in sorted(path.parent.glob("*.npz"))] if path.parent.is_dir() else []
        near = get_close_matches(path.name, there, n=1, cutoff=0.5)
        guess = f"did you mean {near[0]!r}? " if near else ""
        known = f"There is {', '.join(there)}" if there else f"There is no .npz in {path.parent}"
        raise BlackboxError(f"{path} is no file; {guess}{known}")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file]
            arrays = {} if missing else {name: file[name] for name in ARRAYS}
    except (OSError, ValueError) as error:
        raise BlackboxError(f"{path} cannot be read as .npz: {error}") from error
    if missing:
        raise BlackboxError(f"{path} has no {', '.join(missing)}; expected {', '.join(ARRAYS)}")
    return arrays


def _description(path: Path) -> _Description:
    try:
        return _Description.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        raise BlackboxError(f"{path} is missing: it gives the space, metric and resource") from None
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BlackboxError(f"{path}: {what}") from error
    except ValueError as error:
        raise BlackboxError(f"{path} is no JSON: {error}") from error


def _configs(space: SearchSpace, names: list[str], x: Array) -> list[Config]:
    domains = {p.name: p.domain for p in space.parameters}
    columns = []
    for name, column in zip(names, x.T, strict=True):
        domain = domains[name]
        listed = isinstance(domain, Categorical | Ordinal)
        columns.append([domain.values[int(v)] for v in column] if listed else column.tolist())  # type: ignore[union-attr]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
