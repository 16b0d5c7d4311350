"""A store by its URL, and the proof that it can fence."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from operators.store import DirectoryStore, Store, StoreError

RACES = 5  # a store that does not refuse the second of two writers is found out by the first, most often


def open_store(url: str, env: Mapping[str, str]) -> Store:
    """`file:///directory` or `s3://bucket/prefix`; of the latter `env` has the address and the keys.

    Nothing is asked of the store yet. StoreError: the URL is none, or there are no keys for it.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:  # not shown: it holds a secret
        raise StoreError("the URL of the store holds keys: give them by AWS_ACCESS_KEY_ID and its kin")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return DirectoryStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and not parts.query and not parts.fragment:
        from operators.s3 import open_s3  # minio-py: what runs beside a local trial does without it

        return open_s3(parts.netloc, parts.path, env)
    raise StoreError(f"{url!r} is no store: give file:///directory or s3://bucket/prefix")


def make_bucket(url: str, env: Mapping[str, str]) -> bool:
    """Make the bucket of an `s3://` URL; False if there is one. StoreError: we may not."""
    from operators.s3 import S3Store

    store = open_store(url, env)
    return isinstance(store, S3Store) and store.make_bucket()


def proves_put_once(store: Store, study: str) -> str:
    """Why the store cannot keep a second controller away from the study; "" if it can.

    Writes a few keys below the study and deletes them. OSError: it is away.
    """
    key = f"{study}/probe/{secrets.token_hex(8)}"
    try:
        found = (_race(store, f"{key}-{turn}") for turn in range(RACES))
        return next((problem for problem in found if problem), "")
    finally:
        for turn in range(RACES):
            store.delete(f"{key}-{turn}")


def _race(store: Store, key: str) -> str:
    start = threading.Barrier(2)

    def write(data: bytes) -> bool:
        start.wait(10)
        return store.put_once(key, data)

    writers = (b"one", b"two")
    with ThreadPoolExecutor(len(writers)) as pool:
        first = dict(zip(writers, pool.map(write, writers), strict=True))
    won = [data for data, was_first in first.items() if was_first]
    third = store.put_once(key, b"three")
    if len(won) == 1 and not third and store.get(key) == won[0]:
        return ""
    count = len(won) + third
    return (
        f"of three writers of one key, {count} were told that they are the first: it does not know "
        f"conditional writes (If-None-Match), so a second controller could not be kept away. "
        f"Use a store that does, such as MinIO or AWS S3"
    )
