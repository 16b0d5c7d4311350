"""What the tests themselves ask of Prefect: on SQLite, a busy server says 503."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from prefect.settings import temporary_settings


def several_tries() -> AbstractContextManager[Any]:
    """Calls of Prefect's client are made again, unlike those of the code under test (`prefect_settings`)."""
    return temporary_settings(updates={"client.max_retries": 5})
