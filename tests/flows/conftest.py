"""One real Prefect server for the whole run of the tests, on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from prefect.settings import temporary_settings

from flows.prefect_server import Server, patience


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of its API. For code in this process use `prefect_settings`; a child process takes PREFECT_API_URL."""
    database = tmp_path_factory.mktemp("prefect") / "prefect.db"
    with database_at(database):
        server = Server(within=120)
    yield server.url
    server.stop()


@pytest.fixture
def prefect_settings(prefect_server: str) -> Iterator[str]:
    with patience(prefect_server):
        yield prefect_server


def database_at(path: Path) -> AbstractContextManager[object]:
    return temporary_settings(
        updates={"server.database.connection_url": f"sqlite+aiosqlite:///{path}"},
        restore_defaults={"api.url"},  # a profile of whoever runs the tests
    )
