"""Arrows point one way: flows -> operators -> hpo_engine.types; the engine has no clock, no I/O, no luck."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("hpo_engine", "operators", "flows")
ALLOWED = {
    "hpo_engine": {"numpy", "scipy", "autograd", "hpo_engine"},
    "operators": {"yaml", "kubernetes", "minio", "urllib3", "operators", "hpo_engine.types"},
    "flows": {
        "hpo_engine", "operators", "flows",
        "matplotlib", "numpy", "scipy", "prefect", "pydantic", "rich", "yaml",
        "httpx", "uvicorn", "pydantic_core", "prometheus_client",  # what Prefect and pydantic are made of
    },
    "images": set[str](),
}  # fmt: skip
HEAVY = {
    "numpy",
    "scipy",
    "autograd",
    "prefect",
    "pydantic",
    "fastapi",
    "matplotlib",
    "rich",
    "sklearn",
    "flows",
}
WORLD = {
    "asyncio", "datetime", "fcntl", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib",
    "pickle", "random", "secrets", "shelve", "shutil", "signal", "socket", "sqlite3", "subprocess",
    "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
RANDOM = {
    "Generator",
    "SeedSequence",
    "default_rng",
}  # of numpy.random: what is an argument, and how it is made


def sources(*folders: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def imported(path: Path) -> Iterator[str]:
    """Full names of modules, those that are imported inside functions and for the type checker included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports by full name"
            for alias in node.names:
                inner = ROOT.joinpath(*(node.module or "").split("."), alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


def training(path: Path) -> bool:
    """Code of a training image, which has its own libraries; images/trial is what users copy into theirs."""
    return path.parts[0] == "images" and path.parts[1] != "trial"


def allowed(name: str, names: set[str]) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in names)


@pytest.mark.parametrize("path", [path for path in sources(*ALLOWED) if not training(path)], ids=str)
def test_imports_point_one_way(path: Path) -> None:
    outside = {name for name in imported(path) if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in outside if not allowed(name, ALLOWED[path.parts[0]])} == set()


def module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def circles(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left of a graph when all that points to nothing of it is taken away, again and again."""
    left = dict(arrows)
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    return left


def arrows() -> dict[str, set[str]]:
    """From each module of ours to those of ours that it imports."""
    return {
        module(path): {name for name in imported(path) if name.startswith(OURS)} for path in sources(*OURS)
    }


def test_modules_import_each_other_in_one_direction() -> None:
    assert len(arrows()) > 30
    assert circles(arrows()) == {}, "these import each other in a circle"


def test_packages_import_each_other_in_one_direction() -> None:
    def package(name: str) -> str:
        return ".".join(name.split(".")[:2])

    found: dict[str, set[str]] = {}
    for name, targets in arrows().items():
        found.setdefault(package(name), set()).update(map(package, targets))
    assert circles({name: targets - {name} for name, targets in found.items()}) == {}


def test_where_to_look_and_how_long_know_nothing_of_each_other() -> None:
    for one, other in (("searchers", "schedulers"), ("schedulers", "searchers"), ("gp", "searchers")):
        for path in sources(f"hpo_engine/{one}"):
            assert not [name for name in imported(path) if name.startswith(f"hpo_engine.{other}")], path


@pytest.mark.parametrize("name", ["hpo_engine", "hpo_engine.types", "operators.agent", "operators.worker"])
def test_what_runs_beside_a_trial_loads_no_libraries(name: str) -> None:
    code = f"import sys, {name}; print(*{{module.split('.')[0] for module in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "hpo_engine" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("path", sources("hpo_engine"), ids=str)
def test_the_engine_has_no_clock_and_no_files(path: Path) -> None:
    assert {name for name in imported(path) if name.split(".")[0] in WORLD} == set()
    assert not [node for node in ast.walk(tree(path)) if isinstance(node, ast.Name) and node.id == "sys"]
    calls = {
        node.func.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert calls & {"open", "input", "print", "exec", "eval", "__import__"} == set()


@pytest.mark.parametrize("path", sources("hpo_engine"), ids=str)
def test_the_engine_has_no_luck_of_its_own(path: Path) -> None:
    assert list(lucky(tree(path))) == []


def lucky(tree: ast.Module) -> Iterator[str]:
    """Uses of a generator that nobody seeded: np.random.normal(), default_rng(), dist.rvs() ..."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
            "np.random",
            "numpy.random",
            "npr",
        ):
            if node.attr not in RANDOM:
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").endswith("numpy.random"):
            yield from (alias.name for alias in node.names if alias.name not in RANDOM)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if (name.endswith("default_rng") and not node.args) or name.endswith(".rvs"):
                yield ast.unparse(node)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("np.random.seed(3)", ["np.random.seed"]),
        ("x = np.random.normal(size=3)", ["np.random.normal"]),
        ("rng = np.random.default_rng()", ["np.random.default_rng()"]),
        ("from numpy.random import rand", ["rand"]),
        ("norm.rvs(3)", ["norm.rvs(3)"]),
        ("def f(rng: np.random.Generator): return np.random.default_rng([1, 2]).normal(), rng.normal()", []),
    ],
)
def test_luck_would_be_found(code: str, found: list[str]) -> None:
    assert list(lucky(ast.parse(code))) == found
