"""What the models learn from: a history as rows of numbers, one table for each output.

output         rows                                 target
loss           rung records with a finite loss      `compressed`, then standardised
constraint k   the same                             asinh of it in units of its median size
failure        trials, once one diverged or failed  1 if it did, -1 if it reported and did not
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log

import numpy as np

from hpo_engine.domains import Array
from hpo_engine.history import History
from hpo_engine.rung import Observation
from hpo_engine.space import Mask, SearchSpace
from hpo_engine.types import Blame, Config, Status, Trial

WORST = 100.0  # in units of the typical: what is worse is as bad
BEST = 1e12  # what is better by more cannot be told apart
LARGEST = 1e290  # so that sums, differences and multiples stay finite


@dataclass(frozen=True, slots=True)
class Output:
    """One table: mean of y 0, variance 1."""

    name: str
    x: Array  # (n, w)
    y: Array  # (n,)
    pending: Array  # (p, w) where values are under way
    limit: float = np.inf  # the output must stay at or below it


@dataclass(frozen=True, slots=True)
class Data:
    """All tables, and all configurations that the next one has to improve on."""

    outputs: tuple[Output, ...]
    rivals: Array  # (q + p, w) evaluated, then pending, at the level of the acquisition
    feasible: Mask  # (q + p,) False for those evaluated that broke a constraint or failed


@dataclass(frozen=True, slots=True)
class Axes:
    """Configurations and resources as coordinates: those of the space, then log resource from 0 to 1."""

    space: SearchSpace
    levels: tuple[int, ...]

    @property
    def groups(self) -> Array:  # (w,)
        return np.append(self.space.groups, self.space.dimension)

    def points(self, configs: Sequence[Config], levels: Sequence[int]) -> Array:  # -> (n, w)
        return np.column_stack([self.space.encode(configs), [self.height(level) for level in levels]])

    def height(self, level: int) -> float:
        low, high = self.levels[0], self.levels[-1]
        return log(level / low) / log(high / low) if high > low else 1.0


def gather(history: History, axes: Axes, level: int, *, rows: int, pending: int) -> Data:
    """What a history says, for an acquisition at `level`, by at most so many rows and pending evaluations."""
    trials = history.trials
    kept = chosen(history.observations(), history.levels, rows)
    x = axes.points([trials[o.trial].config for o in kept], [o.level for o in kept])
    under_way = history.pending()
    under_way = under_way[max(0, len(under_way) - pending) :]
    waiting = axes.points([trials[id].config for id, _ in under_way], [to for _, to in under_way])
    found = [_output("loss", x, compressed(np.array([o.loss for o in kept], float)), waiting)]
    for k in range(len(kept[-1].constraints)):
        slacks = np.array([o.constraints[k] for o in kept], float)
        found.append(_output(f"constraint {k}", x, signed(slacks), waiting, 0.0))
    # A trial fails or it does not, at whatever resource: all its labels lie where the search will ask.
    here = axes.points([trials[id].config for id, _ in under_way], [level] * len(under_way))
    labelled = [trial for trial in trials if is_bad(trial) or trial.resource > 0][-rows:]
    bad = [is_bad(trial) for trial in labelled]
    if any(bad):
        there = axes.points([trial.config for trial in labelled], [level] * len(labelled))
        found.append(_output("failure", there, np.where(bad, 1.0, -1.0), here, 0.0))
    last = {o.trial: o for o in kept}.values()
    evaluated = axes.points([trials[o.trial].config for o in last], [level] * len(last))
    feasible = [max(o.constraints, default=0.0) <= 0.0 and not is_bad(trials[o.trial]) for o in last]
    return Data(tuple(found), np.concatenate([evaluated, here]), np.array(feasible + [True] * len(here)))


def _output(name: str, x: Array, y: Array, pending: Array, limit: float = np.inf) -> Output:
    centre, spread = float(y.mean()), float(y.std())
    if not spread > 1e-9:  # all alike: nothing to learn but the level
        spread = max(abs(centre), 1.0)
    return Output(name, x, (y - centre) / spread, pending, (limit - centre) / spread)


def is_bad(trial: Trial) -> bool:
    """It diverged, or its training code failed; what disruptions ended is not its configuration's fault."""
    return trial.diverged or (trial.status is Status.FAILED and trial.blame is Blame.TRAINING)


def chosen(observations: Sequence[Observation], levels: Sequence[int], most: int) -> list[Observation]:
    """At most `most` finite records, in order: an equal share of each level, what one leaves to those below.

    Of a level that has too many, half its share are its best records, half its most recent others.
    """
    finite = [o for o in observations if isfinite(o.loss)]
    width = len(finite[-1].constraints) if finite else 0
    finite = [o for o in finite if len(o.constraints) == width]  # a resumed study may have gained constraints
    if len(finite) <= most:
        return finite
    kept: set[int] = set()
    for left, level in zip(range(len(levels), 0, -1), reversed(levels), strict=True):
        share = (most - len(kept)) // left
        at = [i for i, o in enumerate(finite) if o.level == level]
        best = set(sorted(at, key=lambda i: finite[i].loss)[: share // 2])
        kept |= best | set([i for i in at if i not in best][-(share - share // 2) :])
    return [finite[i] for i in sorted(kept)]


def signed(slacks: Array) -> Array:
    """Constraint values with short tails on both sides, and 0 where it was: in units of their median size."""
    y = np.clip(slacks, -LARGEST, LARGEST)
    size = np.median(np.abs(y)) or 1.0
    scaled: Array = np.clip(y, -WORST * size, WORST * size) / size
    return np.arcsinh(scaled)


def compressed(losses: Array) -> Array:
    """Losses with short tails: asinh of their distance from the median, in units of the better half's spread.

    A few that are off by magnitudes would otherwise set the scale, and all others would look the same. Order
    is kept, up to `WORST` units above the median, and so is smoothness: ranks turn a valley into a cusp.
    """
    y = np.clip(losses, -LARGEST, LARGEST)
    middle, good = np.quantile(y, [0.5, 0.1])
    spread = middle - good or np.max(np.abs(y - middle)) or 1.0
    scaled: Array = np.clip(y - middle, -BEST * spread, WORST * spread) / spread
    return np.arcsinh(scaled)
