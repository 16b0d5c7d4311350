"""The kinds of store that the tests run on, and the MinIO server behind one of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from operators.s3 import S3Store, open_s3
from operators.store import DirectoryStore, Store, StoreError

BUCKET = "abohb-test"
RUNNING = "ABOHB_TEST_S3_RUNNING"  # tells the processes that tests start how to reach it, and where to write
HOW = "give a MinIO server by PATH or ABOHB_TEST_MINIO, or a store by ABOHB_TEST_S3_ENDPOINT and AWS_*"


def s3_env() -> dict[str, str]:
    found: dict[str, str] = json.loads(os.environ[RUNNING])
    return found


def s3_store(folder: Path, env: Mapping[str, str] | None = None) -> S3Store:
    """A part of the store that nobody else writes to; `env` gives other keys than the owner's."""
    owner = s3_env()
    return open_s3(BUCKET, f"{owner['prefix']}/{folder.parent.name}/{folder.name}", {**owner, **(env or {})})


STORES: dict[str, Callable[[Path], Store]] = {
    "directory": lambda folder: DirectoryStore(folder / "store"),
    "s3": s3_store,
}


@dataclass
class Minio:
    """A server of our own. `stop` kills it; `start` again finds what it had."""

    program: str
    folder: Path
    port: int = field(init=False)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def env(self) -> dict[str, str]:
        return {
            "ABOHB_S3_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "abohb-test",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anyone",
        }

    def start(self) -> None:
        keys = {
            "MINIO_ROOT_USER": self.env["AWS_ACCESS_KEY_ID"],
            "MINIO_ROOT_PASSWORD": self.env["AWS_SECRET_ACCESS_KEY"],
        }
        address = f"127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [self.program, "server", str(self.folder), "--address", address, "--quiet"],
            env={**os.environ, **keys, "HOME": str(self.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 30
        while not self._ready():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            open_s3(BUCKET, "", self.env).list("")
        except OSError:
            return False
        except StoreError:  # as yet there is no bucket
            return True
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def minio_program() -> str:
    program = os.environ.get("ABOHB_TEST_MINIO") or shutil.which("minio")
    if program is None:
        pytest.skip(HOW)
    return program


def make_bucket(env: Mapping[str, str]) -> None:
    client = open_s3(BUCKET, "", env)._quick
    if not client.bucket_exists(bucket_name=BUCKET):
        client.make_bucket(bucket_name=BUCKET)
