"""A small recorded benchmark that needs no file: a bowl in three hyper-parameters, one categorical."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flows.simulate.blackbox import Blackbox, load_blackbox, save_blackbox

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "layers": {"type": "int", "low": 1, "high": 6},
    "solver": {"type": "categorical", "values": ["sgd", "adam", "rmsprop"]},
}


def synthetic(path: Path, *, rows: int = 2000, length: int = 27, seed: int = 0) -> Blackbox:
    """Write `path` (.npz) and its description. Curves fall with the resource; at large rates they diverge."""
    rng = np.random.default_rng(seed)
    rate, layers, solver = 10 ** rng.uniform(-4, 0, rows), rng.integers(1, 7, rows), rng.integers(0, 3, rows)
    optimum = np.array([-1.0, -2.5, -2.2])[solver]  # of the learning rate, another for each solver
    off = (np.log10(rate) - optimum) ** 2 / 4 + (layers - 4) ** 2 / 30
    final = 0.02 + 0.3 * (1 - np.exp(-off)) + np.array([0.03, 0.0, 0.015])[solver]
    units = np.arange(1, length + 1)
    speed = 0.4 + 0.4 * rng.random(rows)
    losses = final[:, None] + 0.4 * units ** -speed[:, None] + 0.003 * rng.standard_normal((rows, length))
    diverges = (rate > 0.5) & (solver > 0)
    losses[diverges[:, None] & (units > 2)] = np.nan
    pace = layers * rng.uniform(0.8, 1.2, rows)  # seconds an epoch
    save_blackbox(path, SPACE, np.column_stack([rate, layers, solver]), losses, pace[:, None] * units)
    return load_blackbox(path)
