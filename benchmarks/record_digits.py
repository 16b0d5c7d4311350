"""Record the digits example as a table of curves: `python -m benchmarks.record_digits FILE.npz --rows 300`.

Beside what every recorded benchmark has, it holds `test` (n, R): the test error that goes with each loss.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np

from flows.simulate.blackbox import save_blackbox
from flows.study.file import load_study
from hpo_engine.domains import Categorical, Ordinal
from hpo_engine.types import Config

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"


def example() -> ModuleType:
    """The training code of the example, as a module."""
    spec = importlib.util.spec_from_file_location("digits_train", EXAMPLE / "train.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def curve(train: ModuleType, config: Config, epochs: int) -> tuple[list[float], list[float], list[float]]:
    """Validation error, test error and cumulative seconds after each epoch."""
    (images, labels), validation, test = train.thirds()
    model = train.build(config)
    losses, tests, seconds, began = [], [], [], time.process_time()
    for _ in range(epochs):
        seen = train.distorted(images, config["noise"], model.random_state)
        model.partial_fit(seen, np.tile(labels, train.COPIES), classes=np.arange(10))
        losses.append(float(train.error(model, *validation)))
        tests.append(float(train.error(model, *test)))
        seconds.append(time.process_time() - began)
    return losses, tests, seconds


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--rows", type=int, default=300)
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    study, train = load_study(EXAMPLE / "study.yaml"), example()
    space = study.search_space()
    configs = space.sample(given.rows, np.random.default_rng(0))
    curves = []
    for number, config in enumerate(configs):
        curves.append(curve(train, config, study.resource.max))
        print(f"{number + 1}/{given.rows} {curves[-1][0][-1]:.4f}", flush=True)
    names = [parameter.name for parameter in space.parameters]
    domains = {p.name: p.domain for p in space.parameters}
    x = np.array([[_raw(domains[name], config[name]) for name in names] for config in configs])
    losses, tests, seconds = (np.array(rows) for rows in zip(*curves, strict=True))
    written = study.model_dump(mode="json", include={"space"})["space"]
    save_blackbox(given.file, {name: written[name] for name in names}, x, losses, seconds)
    with np.load(given.file) as saved:
        arrays = {name: saved[name] for name in saved}
    np.savez_compressed(given.file, **arrays, test=tests)
    return 0


def _raw(domain: object, value: object) -> float:
    """As the files have it: of a categorical or an ordinal, its place among the values."""
    if isinstance(domain, Categorical | Ordinal):
        return float(list(domain.values).index(value))  # type: ignore[arg-type]
    return float(value)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
