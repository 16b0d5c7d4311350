"""The one table where a method's name becomes objects. A new method is a line here and a file elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from hpo_engine.engine import Method
from hpo_engine.schedulers.asha import Asha
from hpo_engine.schedulers.asha_stop import AshaStop
from hpo_engine.schedulers.brackets import Brackets
from hpo_engine.schedulers.fifo import Fifo
from hpo_engine.searchers.bayesopt import BayesOpt
from hpo_engine.searchers.random import Random
from hpo_engine.space import SearchSpace
from hpo_engine.types import MethodError


@dataclass(frozen=True, slots=True)
class Setting:
    """What every method is made for: the space, the rung levels and the reduction factor."""

    space: SearchSpace
    levels: tuple[int, ...]
    eta: int


def random(setting: Setting) -> Method:
    """Random search: every trial at full length."""
    return Method(Fifo(setting.levels), Random(setting.space))


def asha(setting: Setting, *, brackets: int = 1) -> Method:
    """Asynchronous successive halving with promotion (Li et al. 2020)."""
    return Method(Asha(_brackets(setting, brackets)), Random(setting.space))


def asha_stop(setting: Setting, *, brackets: int = 1) -> Method:
    """Asynchronous successive halving that stops trials instead of pausing them."""
    return Method(AshaStop(_brackets(setting, brackets)), Random(setting.space))


def hyperband(setting: Setting, *, brackets: int = 0) -> Method:
    """Asynchronous Hyperband: ASHA over all brackets (0: as many as there are rungs)."""
    return asha(setting, brackets=brackets or len(setting.levels))


def a_bohb(setting: Setting, *, brackets: int = 1, samples: int = 20, candidates: int = 500) -> Method:
    """Asynchronous BOHB with promotion (Klein et al. 2020): a joint GP proposes, ASHA promotes."""
    return Method(Asha(_brackets(setting, brackets)), _bayesopt(setting, samples, candidates))


def a_bohb_stop(setting: Setting, *, brackets: int = 1, samples: int = 20, candidates: int = 500) -> Method:
    """Asynchronous BOHB that stops trials instead of pausing them."""
    return Method(AshaStop(_brackets(setting, brackets)), _bayesopt(setting, samples, candidates))


def _brackets(setting: Setting, count: int) -> Brackets:
    return Brackets(setting.levels, setting.eta, count)


def _bayesopt(setting: Setting, samples: int, candidates: int) -> BayesOpt:
    return BayesOpt(setting.space, setting.levels, samples=samples, candidates=candidates)


METHODS: dict[str, Callable[..., Method]] = {
    "random": random,
    "asha": asha,
    "asha-stop": asha_stop,
    "hyperband": hyperband,
    "a-bohb": a_bohb,
    "a-bohb-stop": a_bohb_stop,
}


def make_method(
    factory: str | Callable[..., Method], setting: Setting, options: Mapping[str, object]
) -> Method:
    """A method by name, or by a factory of the user's own `(setting, *, option=...) -> Method`.

    MethodError: the name is unknown, or an option is, or its value cannot be.
    """
    make = METHODS.get(factory) if isinstance(factory, str) else factory
    if make is None:
        raise MethodError(f"method {factory!r} is unknown{_nearest(str(factory), METHODS)}")
    known = [p.name for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise MethodError(f"method {factory} takes no option {name!r}{_nearest(name, known)}")
    try:
        return make(setting, **options)
    except ValueError as error:
        raise MethodError(f"method {factory}: {error}") from error


def _nearest(word: str, known: Mapping[str, object] | list[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{guess}; there is {', '.join(known) or 'none'}"
