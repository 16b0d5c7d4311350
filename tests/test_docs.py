"""What the documents say can be run, runs; what they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.S)


def test_the_engine_page_runs_as_it_stands() -> None:
    (code,) = blocks(ROOT / "docs" / "engine.md", "python")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "the budget of 30 trials is used" in ran.stdout


def test_the_readme_study_is_valid(tmp_path: Path) -> None:
    from flows.study.file import load_study

    study, on_kubernetes = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "study.yaml").write_text(study)
    assert load_study(tmp_path / "study.yaml").method.name == "a-bohb"
    (tmp_path / "study.yaml").write_text(study + on_kubernetes)
    assert load_study(tmp_path / "study.yaml").kubernetes.gpus.count == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_are_named_exist(page: Path) -> None:
    for module in set(re.findall(r"python -m ([\w.]+)", page.read_text())) - {"pip"}:
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
