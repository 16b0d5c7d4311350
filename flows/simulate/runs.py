"""Simulated studies side by side: one process for each core, one BLAS thread in each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import inf
from multiprocessing import get_context
from pathlib import Path

from flows.simulate.blackbox import Blackbox, load_blackbox
from flows.study.methods import factory_of
from hpo_engine.engine import Engine, Limits, Method
from hpo_engine.history import History
from hpo_engine.methods import METHODS, Setting, make_method
from hpo_engine.objective import Metric, Objective
from hpo_engine.rungs import levels
from hpo_engine.simulate import Budget, Costs, Faults, Simulation, simulate
from hpo_engine.types import AbohbError, MethodError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True)
class Plan:
    """What all studies of a comparison have in common. Budgets that are None do not count."""

    workers: int = 8
    eta: int = 3
    low: int = 1  # the lowest rung
    seconds: float | None = None
    trials: int | None = None
    units: int | None = None
    costs: Costs = field(default_factory=Costs)
    faults: Faults = field(default_factory=Faults)

    def with_seconds(self, seconds: float) -> Plan:
        return replace(self, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Run:
    """One study that was simulated."""

    seed: int
    incumbents: list[tuple[float, float]]  # (virtual second, loss)
    seconds: float  # virtual
    trials: int
    units: int
    events: int
    wall: float  # seconds that it took us


def study(
    blackbox: Blackbox, name: str, seed: int, plan: Plan, *, method: Method | None = None
) -> tuple[Engine, Simulation]:
    """Simulate one study; `method` instead of the one by that name, for who measures or tests it."""
    rungs = levels(plan.low, blackbox.length, plan.eta)
    made = method or _method(blackbox, name, plan)
    history = History(rungs, Objective((Metric(blackbox.metric),)))
    engine = Engine(made, history, seed=seed, limits=Limits(trials=plan.trials))
    facts = {"name": f"{name}-{seed}", "method": name, "seed": seed, "workers": plan.workers}
    budget = Budget(plan.seconds or inf, plan.units or inf)
    return engine, simulate(
        engine,
        blackbox.curve,
        workers=plan.workers,
        costs=plan.costs,
        faults=plan.faults,
        budget=budget,
        seed=seed,
        study=facts,
    )


def check(blackbox: Blackbox, methods: list[str], plan: Plan) -> None:
    """AbohbError for what would fail in every study."""
    if not 0 < plan.low <= blackbox.length:
        raise AbohbError(f"the lowest rung is {plan.low}; the curves have 1 to {blackbox.length} units")
    if plan.seconds is not None and not 0 < plan.seconds < inf:
        raise AbohbError(f"a budget of {plan.seconds} seconds; it should be above 0 and finite")
    for name in methods:
        _method(blackbox, name, plan)


def _method(blackbox: Blackbox, name: str, plan: Plan) -> Method:
    setting = Setting(blackbox.space, levels(plan.low, blackbox.length, plan.eta), plan.eta)
    user_made = ":" in name and name not in METHODS
    try:
        return make_method(factory_of(name) if user_made else name, setting, {})
    except TypeError as error:
        raise MethodError(f"method {name}: {error}") from error


def run_all(
    path: Path, methods: list[str], seeds: int, plan: Plan, processes: int | None = None
) -> dict[str, list[Run]]:
    """Every method with the seeds 0, 1, ...; the answer does not depend on the number of processes."""
    tasks = [(name, seed) for seed in range(seeds) for name in methods]
    names, numbers = [name for name, _ in tasks], [seed for _, seed in tasks]
    count = min(processes or os.cpu_count() or 1, len(tasks))
    if count == 1:
        runs = [_run(path, name, seed, plan) for name, seed in tasks]
    else:
        # Spawned, not forked: BLAS reads its number of threads when it is loaded.
        with _one_thread(), ProcessPoolExecutor(count, get_context("spawn")) as pool:
            try:
                runs = list(pool.map(_run, [path] * len(tasks), names, numbers, [plan] * len(tasks)))
            except BaseException:  # Ctrl-C: what runs now would take minutes
                for process in pool._processes.values():
                    process.terminate()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return {name: [run for run, of in zip(runs, names, strict=True) if of == name] for name in methods}


def _run(path: Path, name: str, seed: int, plan: Plan) -> Run:
    began = time.perf_counter()
    engine, simulation = study(_loaded(path), name, seed, plan)
    history, end = engine.history, simulation.journal[-1][0]
    events, wall = len(simulation.journal), time.perf_counter() - began
    return Run(seed, simulation.incumbents, end, len(history.trials), history.units, events, wall)


_loaded = lru_cache(maxsize=4)(load_blackbox)


@contextmanager
def _one_thread() -> Iterator[None]:
    """In the environment that child processes inherit."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
