from __future__ import annotations

import pytest

import flows  # noqa: F401  loads BLAS with one thread, as the product does, before a test imports numpy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `pytest -n`: a file stays in one process, and so do all that need the one Prefect server."""
    served = {item.path for item in items if "prefect_database" in getattr(item, "fixturenames", ())}
    for item in items:
        group = "prefect" if item.path in served else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
