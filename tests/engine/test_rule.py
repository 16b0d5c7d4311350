"""The halving rule against a reference written out from its wording, on random event streams.

A trial is kept or promoted when its rank among all records of the rung, itself included, is at most
floor(n/eta); with n < eta a stopping trial goes on and nobody is promoted; ties by trial id; the highest rung
is scanned first; a diverged trial counts as the worst record of the rung it was heading for.
"""

from __future__ import annotations

import math
import random

import pytest

from hpo_engine.engine import Engine, Method
from hpo_engine.history import History
from hpo_engine.methods import Brackets
from hpo_engine.objective import Metric, Objective
from hpo_engine.rungs import levels
from hpo_engine.schedulers import Place
from hpo_engine.schedulers.asha import Asha
from hpo_engine.schedulers.asha_stop import AshaStop
from hpo_engine.types import AttemptEnded, AttemptStarted, Outcome, Report, Resume, Start, Stop

LOSSES = [0.1, 0.2, 0.2, 0.3, 0.5, 0.5, 0.9, math.nan, math.inf]  # ties and divergence are frequent


class Reference:
    """Plain lists, recomputed from nothing at each question."""

    def __init__(self, steps: tuple[int, ...], eta: int) -> None:
        self.steps, self.eta = steps, eta
        self.records: list[tuple[int, int, float]] = []  # trial, level, loss
        self.first: dict[int, int] = {}
        self.at: dict[int, int] = {}  # where a paused trial waits
        self.over: set[int] = set()

    def report(self, trial: int, resource: int, loss: float) -> None:
        diverged = not math.isfinite(loss)
        allowed = [step for step in self.steps if step >= resource and step >= self.first[trial]]
        if diverged:
            self.records.append((trial, allowed[0], math.inf))
            self.over.add(trial)
        elif allowed and allowed[0] == resource:
            self.records.append((trial, resource, loss))

    def place(self, trial: int, level: int) -> tuple[int, int]:
        mine = next(loss for who, where, loss in self.records if (who, where) == (trial, level))
        rung = [(loss, who) for who, where, loss in self.records if where == level]
        return 1 + sum(other < (mine, trial) for other in rung), len(rung)

    def stops(self, trial: int, resource: int) -> bool:
        if trial in self.over:
            return True
        if resource == self.steps[-1] or not any((w, r) == (trial, resource) for w, r, _ in self.records):
            return False
        rank, count = self.place(trial, resource)
        return count >= self.eta and rank > math.floor(count / self.eta)

    def promotes(self) -> tuple[int, int] | None:
        for low, high in reversed(list(zip(self.steps, self.steps[1:], strict=False))):
            waiting = [trial for trial, level in self.at.items() if level == low and trial not in self.over]
            ranked = sorted((self.place(trial, low), trial) for trial in waiting)
            for (rank, count), trial in ranked:
                if rank <= math.floor(count / self.eta):
                    return trial, high
        return None


def engine_of(scheduler: Asha | AshaStop, steps: tuple[int, ...]) -> Engine:
    return Engine(Method(scheduler, searcher=None), History(steps, Objective((Metric("loss"),))))  # type: ignore[arg-type]


def draw(seed: int) -> tuple[random.Random, tuple[int, ...], int, int]:
    chance = random.Random(seed)
    eta = chance.choice([2, 3, 4])
    steps = levels(chance.choice([1, 2]), chance.choice([9, 10, 27, 30]), eta)
    return chance, steps, eta, chance.randint(1, len(steps))


@pytest.mark.parametrize("block", range(10))
def test_promotion_follows_the_wording(block: int) -> None:
    promotions = 0
    for seed in range(50 * block, 50 * block + 50):
        chance, steps, eta, count = draw(seed)
        scheduler = Asha(Brackets(steps, eta, count))
        engine, reference = engine_of(scheduler, steps), Reference(steps, eta)
        for _ in range(60):
            answer = scheduler.next(engine.history, chance_rng(chance))
            expected = reference.promotes()
            if expected is not None:
                assert answer == Resume(*expected), f"seed {seed}"
                promotions += 1
                del reference.at[expected[0]]
                engine.tell(answer)
            else:
                assert isinstance(answer, Place), f"seed {seed}"
                trial = len(engine.history.trials)
                engine.tell(Start(trial, {}, answer.until, answer.bracket))
                reference.first[trial] = steps[answer.bracket]
            if chance.random() < 0.6 and engine.history.running:
                advance(engine, reference, chance, seed)
    assert promotions > 100  # the streams do reach the rule


def chance_rng(chance: random.Random):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.random.default_rng(chance.randrange(2**32))


def advance(engine: Engine, reference: Reference, chance: random.Random, seed: int) -> None:
    """One trial runs to where it was ordered, or diverges on its way."""
    trial = engine.history.trials[chance.choice(list(engine.history.running))]
    engine.tell(AttemptStarted(trial.id, trial.attempt + 1))
    for resource in range(trial.resource + 1, trial.until + 1):
        bad = chance.random() < 0.02
        loss = math.nan if bad else chance.choice(LOSSES) if resource == trial.until else 0.4
        told = engine.tell(Report(trial.id, trial.attempt + 1, resource, {"loss": loss}))
        reference.report(trial.id, resource, loss)
        assert (Stop in map(type, told)) == (trial.id in reference.over), f"seed {seed}"
        if trial.id in reference.over:
            break
    else:
        if trial.until != reference.steps[-1]:
            reference.at[trial.id] = trial.until
    engine.tell(AttemptEnded(trial.id, trial.attempt + 1, Outcome.OK))


@pytest.mark.parametrize("block", range(10))
def test_stopping_follows_the_wording(block: int) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(50 * block, 50 * block + 50):
        chance, steps, eta, count = draw(seed)
        scheduler = AshaStop(Brackets(steps, eta, count))
        engine, reference = engine_of(scheduler, steps), Reference(steps, eta)
        for _ in range(120):
            running = list(engine.history.running)
            if len(running) < 4:
                trial = len(engine.history.trials)
                answer = scheduler.next(engine.history, chance_rng(chance))
                assert answer.until == steps[-1]
                engine.tell(Start(trial, {}, answer.until, answer.bracket))
                engine.tell(AttemptStarted(trial, 1))
                reference.first[trial] = steps[answer.bracket]
                continue
            trial, loss = (
                chance.choice(running),
                chance.choice(LOSSES[:7]) if chance.random() < 0.97 else math.nan,
            )
            resource = engine.history.trials[trial].resource + 1
            told = engine.tell(Report(trial, 1, resource, {"loss": loss}))
            reference.report(trial, resource, loss)
            stopped = Stop in map(type, told)
            assert stopped == reference.stops(trial, resource), f"seed {seed}: {told}"
            verdicts[stopped] += 1
    assert min(verdicts.values()) > 100
