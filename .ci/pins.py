"""Prints `name==version` of the packages named, and of all that they need, as they are installed here.

The images then hold what the tests ran with; without names: what this project needs. `make pins` uses it.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(wanted: list[Requirement]) -> dict[str, str]:
    """Name to version, of what is wanted and of what that needs on this machine."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        for extra in {"", *one.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                wanted += needs(name, extra)
                pins[name] = distribution(name).version
    return pins


def needs(name: str, extra: str) -> list[Requirement]:
    texts = map(Requirement, distribution(name).requires or ())
    return [one for one in texts if one.marker is None or one.marker.evaluate({"extra": extra})]


def project() -> list[str]:
    file = Path(__file__).parents[1] / "pyproject.toml"
    return list(tomllib.loads(file.read_text())["project"]["dependencies"])


if __name__ == "__main__":
    names = sys.argv[1:] or project()
    for name, version in sorted(closure([Requirement(name) for name in names]).items()):
        print(f"{name}=={version}")
