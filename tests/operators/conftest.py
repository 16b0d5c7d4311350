from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators.s3 import open_s3
from operators.store import Store
from tests.operators.stores import BUCKET, RUNNING, STORES, Minio, make_bucket, minio_program


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Object storage for `s3_store`: the one that the environment names, or a MinIO server of our own."""
    server, prefix = None, f"abohb-test-{secrets.token_hex(4)}"
    if endpoint := os.environ.get("ABOHB_TEST_S3_ENDPOINT"):
        keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        env = {**keys, "ABOHB_S3_ENDPOINT": endpoint}
    else:
        server = Minio(minio_program(), tmp_path_factory.mktemp("minio"))
        server.start()
        env = server.env
    try:
        make_bucket(env)
        os.environ[RUNNING] = json.dumps({**env, "prefix": prefix})
        yield
    finally:
        os.environ.pop(RUNNING, None)
        if server is not None:
            server.stop()
        else:
            store = open_s3(BUCKET, prefix, env)
            for key in store.list(""):
                store.delete(key)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3")
    return STORES[request.param](tmp_path)
