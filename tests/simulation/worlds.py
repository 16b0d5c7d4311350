"""Tiny worlds to simulate in, and pictures of what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hpo_engine.engine import Engine, Limits
from hpo_engine.history import History
from hpo_engine.methods import Setting, make_method
from hpo_engine.objective import Metric, Objective
from hpo_engine.rungs import levels
from hpo_engine.simulate import Curve, Simulation, simulate
from hpo_engine.space import Float, Parameter, SearchSpace
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Config,
    Event,
    Failed,
    Finished,
    Fitted,
    Report,
    Resume,
    Start,
    Stop,
    Wait,
)

LINE = SearchSpace((Parameter("loss", Float(0.0, 100.0)),))


def flat(config: Config, length: int = 9, pace: float = 2.0) -> Curve:
    """Its one hyper-parameter is its loss at every unit, and a unit takes two seconds."""
    return Curve([float(config["loss"])] * length, [pace * (r + 1) for r in range(length)])


def listed(
    method: str,
    losses: Sequence[float],
    high: int,
    *,
    failures: int = 1,
    options: Mapping[str, int] | None = None,
) -> Engine:
    """An engine whose trials have these losses, and that starts no others."""
    rungs = levels(1, high, 3)
    made = make_method(method, Setting(LINE, rungs, 3), options or {})
    history = History(rungs, Objective((Metric("loss"),)))
    limits = Limits(trials=len(losses), failures=failures)
    return Engine(made, history, limits=limits, initial=[{"loss": loss} for loss in losses])


def picture(simulation: Simulation) -> list[str]:
    """One line a second: what the journal says of it, fits and bookkeeping left out."""
    lines: dict[float, list[str]] = {}
    for second, event in simulation.journal:
        if words := _WORDS.get(type(event)):
            lines.setdefault(second, []).append(words(event))
    return [f"{second:g}: {', '.join(words)}" for second, words in lines.items()]


_WORDS: dict[type, Callable[..., str]] = {
    Start: lambda e: f"start {e.trial} >{e.until}",
    Resume: lambda e: f"resume {e.trial} >{e.until}",
    Stop: lambda e: f"stop {e.trial}",
    Report: lambda e: f"{e.trial}@{e.resource}{'*' if e.checkpoint else ''}",
    AttemptEnded: lambda e: f"end {e.trial}.{e.attempt} {e.outcome} {e.units}u",
    Failed: lambda e: f"give up {e.trial}",
    Finished: lambda e: "finished",
}


def events(simulation: Simulation) -> list[Event]:
    return [event for _, event in simulation.journal]


def most_live(journal: Sequence[Event]) -> int:
    """Of all moments, the largest number of attempts that had begun and not ended."""
    live = most = 0
    for event in journal:
        live += isinstance(event, AttemptStarted)
        live -= isinstance(event, AttemptEnded)
        most = max(most, live)
    return most


class Forgetful:
    """An engine that is rebuilt from its journal before every `every`-th call, as if its process had died."""

    def __init__(self, build: Callable[[], Engine], every: int) -> None:
        self._build, self._every, self._calls = build, every, 0
        self._engine = build()
        self._journal: list[Event] = []
        self.limits = self._engine.limits

    @property
    def history(self) -> History:
        return self._engine.history

    def ask(self) -> Start | Resume | Fitted | Wait:
        self._perhaps_die()
        return self._engine.ask()

    def tell(self, event: Event) -> tuple[Event, ...]:
        self._perhaps_die()
        told = self._engine.tell(event)
        self._journal += told
        return told

    def _perhaps_die(self) -> None:
        self._calls += 1
        if self._calls % self._every == 0:
            self._engine = self._build()
            for event in self._journal:
                self._engine.history.apply(event)


def same(one: History, two: History) -> bool:
    """All that a decision may depend on."""
    return (
        (one.length, one.trials, one.reports, one.units) == (two.length, two.trials, two.reports, two.units)
        and (list(one.running), list(one.live)) == (list(two.running), list(two.live))
        and one.observations() == two.observations()
        and (one.incumbent, one.fitted, one.counts) == (two.incumbent, two.fitted, two.counts)
        and all(one.rungs[level].entries == two.rungs[level].entries for level in one.levels)
        and all(one.rungs[level].candidate == two.rungs[level].candidate for level in one.levels)
    )


__all__ = ["Forgetful", "events", "flat", "listed", "most_live", "picture", "same", "simulate"]
