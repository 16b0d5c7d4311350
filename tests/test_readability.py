"""Budgets of size and depth, so that a person can read the whole of it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from hpo_engine.engine import Engine
from hpo_engine.history import History
from hpo_engine.methods import Setting, make_method
from hpo_engine.objective import Metric, Objective
from hpo_engine.space import Float, Int, Parameter, SearchSpace
from hpo_engine.types import AttemptEnded, AttemptStarted, Fitted, Outcome, Report, Start, Wait

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path.relative_to(ROOT)
    for name in ("hpo_engine", "operators", "flows", "images")
    for path in (ROOT / name).rglob("*.py")
)
FILE, FUNCTION = 250, 40  # lines
FILES, FUNCTIONS, DEPTH = 16, 90, 16  # of one model-based `ask`: one thought is one file, of 75 lines or so

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def functions(module: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(module) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from `def` to the last one, without the docstring's."""
    first, lines = function.body[0], (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return lines
    return lines - ((first.end_lineno or 0) - first.lineno + 1)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_and_functions_are_short(path: Path) -> None:
    lines = (ROOT / path).read_text().count("\n")
    assert lines <= FILE
    long = {f"{f.name}, line {f.lineno}": length(f) for f in functions(tree(path)) if length(f) > FUNCTION}
    assert long == {}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parts[0] != "images"], ids=str)
def test_options_have_names(path: Path) -> None:
    """No **kwargs. In a trial they are the user's metrics; a wrapper hands all arguments on as they are."""
    taken = [
        f"{f.name}, line {f.lineno}" for f in functions(tree(path)) if f.args.kwarg and not is_wrapper(f)
    ]
    assert taken == []


def is_wrapper(function: Function) -> bool:
    return any("wraps(" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_our_classes_inherit_from_none_of_ours_but_errors() -> None:
    bases = {
        node.name: [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    assert len(bases) > 50

    def is_error(name: str) -> bool:
        return name == "Exception" or any(map(is_error, bases.get(name, ())))

    heirs = {
        name: base for name, found in bases.items() for base in found if base in bases and not is_error(name)
    }
    assert heirs == {}


def test_the_error_tree_is_small() -> None:
    """One root that a user may catch; the others are caught inside."""
    names = [node for path in SOURCES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    roots = {node.name for node in names if [ast.unparse(base) for base in node.bases] == ["Exception"]}
    assert {name for name in roots if not name.startswith("_")} == {"AbohbError"}


# -- one model-based decision ---------------------------------------------------------------------------


class Footprint:
    """Our own frames under a call: their files, their functions, and how deep they nest."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.files: set[str] = set()
        self.functions: set[tuple[str, int, str]] = set()
        self.depth = self._now = 0
        sys.setprofile(self._saw)
        try:
            self.result = call()
        finally:
            sys.setprofile(None)

    def _saw(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(str(ROOT / "hpo_engine")):
            return
        if event == "call":
            self._now += 1
            self.depth = max(self.depth, self._now)
            self.files.add(code.co_filename)
            if not code.co_name.startswith(
                "<"
            ):  # a comprehension is read where it stands; newer Pythons inline it
                self.functions.add((code.co_filename, code.co_firstlineno, code.co_name))
        elif event == "return":
            self._now -= 1

    def __str__(self) -> str:
        names = ", ".join(sorted(Path(file).name for file in self.files))
        return f"{len(self.files)} files, {len(self.functions)} functions, depth {self.depth}: {names}"


def engine_with(trials: int) -> Engine:
    """A study with some trials that ended and four that run."""
    space = SearchSpace(
        [Parameter("lr", Float(1e-4, 1.0, log=True)), Parameter("units", Int(8, 256, log=True))]
    )
    method = make_method("a-bohb", Setting(space, (1, 3, 9), 3), {})
    engine = Engine(method, History((1, 3, 9), Objective((Metric("v"),))), seed=3)
    rng = np.random.default_rng(7)
    for config in space.sample(trials, rng):
        trial = len(engine.history.trials)
        engine.tell(Start(trial, config, 1))
        engine.tell(AttemptStarted(trial, 1))
        if trial < trials - 4:
            engine.tell(Report(trial, 1, 1, {"v": float(rng.random())}))
            engine.tell(AttemptEnded(trial, 1, Outcome.OK, 1))
    return engine


@pytest.fixture(scope="module")
def footprints() -> tuple[Footprint, Footprint]:
    """Of the fit that is due, and of the decision after it."""
    engine = engine_with(6)  # two records: as many as there are hyper-parameters, and too few for a promotion
    fit = Footprint(engine.ask)
    assert isinstance(fit.result, Fitted)
    engine.tell(fit.result)
    ask = Footprint(engine.ask)
    assert isinstance(ask.result, Start)
    assert ask.result.origin == "model"
    print(f"\none model-based ask, the fit: {fit}\none model-based ask, the decision: {ask}")
    return fit, ask


def test_one_decision_of_the_model_can_be_followed(footprints: tuple[Footprint, Footprint]) -> None:
    for found in footprints:
        assert len(found.functions) <= FUNCTIONS
        assert found.depth <= DEPTH


def test_one_decision_of_the_model_is_in_few_files(footprints: tuple[Footprint, Footprint]) -> None:
    assert max(len(found.files) for found in footprints) <= FILES


def test_the_footprint_sees_what_is_there() -> None:
    engine = engine_with(4)
    found = Footprint(engine.ask)
    assert not isinstance(found.result, Wait)
    assert {Path(file).name for file in found.files} >= {"engine.py", "asha.py", "random.py", "space.py"}
    assert found.depth > 2
