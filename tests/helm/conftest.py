from __future__ import annotations

import shutil

import pytest

from tests.helm.chart import Rendered, render


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("helm") is None:
        for item in items:
            if "tests/helm/" in item.nodeid and "readme" not in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="put helm on PATH"))


@pytest.fixture(scope="session")
def plain() -> Rendered:
    """The chart as it is, without a value set."""
    return render()
