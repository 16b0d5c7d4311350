"""The chart's README is made of its values."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "helm/readme.py"
specification = importlib.util.spec_from_file_location("readme", SCRIPT)
assert specification is not None
assert specification.loader is not None
readme = importlib.util.module_from_spec(specification)
sys.modules["readme"] = readme
specification.loader.exec_module(readme)


def test_the_readme_is_current() -> None:
    assert readme.main(["--check"]) == 0


def test_a_value_has_its_path_its_default_and_its_comment() -> None:
    text = "# -- Part\npart:\n  # What it is,\n  # at length.\n  one: [a,\n    b]\n# Other.\ntwo: {}\n"
    assert list(readme.values(text)) == [
        readme.Value("part.one", "[a, b]", "What it is, at length."),
        readme.Value("two", "{}", "Other."),
    ]


def test_a_value_without_a_comment_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"part\.two has no comment above it"):
        list(readme.values("part:\n  # What it is.\n  one: 1\n  two: 2\n"))
