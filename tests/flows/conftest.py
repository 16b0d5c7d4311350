"""One real Prefect server for the whole run of the tests, on a database of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import temporary_settings
from prefect.states import Running

from flows.ui.child import Server
from flows.ui.server import patience
from tests.flows.tries import several_tries


@pytest.fixture(scope="session")
def prefect_database() -> Iterator[dict[str, str]]:
    """Environment for a process that starts a server: not the database of whoever runs the tests.

    In memory, where it can be: SQLite waits for its disk, and a server that waits for long answers 503.
    """
    memory = "/dev/shm"
    room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    with TemporaryDirectory(dir=memory if room else None) as folder:
        yield {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db"}


@pytest.fixture(scope="session")
def prefect_server(prefect_database: dict[str, str]) -> Iterator[str]:
    """Its API's URL. Code in this process needs `prefect_settings`; a child process takes PREFECT_API_URL."""
    (url,) = prefect_database.values()
    with temporary_settings(updates={"server.database.connection_url": url}, restore_defaults={"api.url"}):
        server = Server(within=120)
    yield server.url
    server.stop()


@pytest.fixture
def prefect_settings(prefect_server: str) -> Iterator[str]:
    with patience(prefect_server):
        yield prefect_server


@pytest.fixture
def client(prefect_settings: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def run(client: SyncPrefectClient) -> UUID:
    """A flow run of `tune`, at work."""
    with several_tries():
        return client.create_flow_run(Flow(fn=lambda: None, name="tune"), state=Running()).id
