"""The store of a study."""

from __future__ import annotations

import os

from flows.study.model import Study
from operators.store import DirectoryStore, Store, StoreError
from operators.stores import open_store as open_url


def open_store(study: Study) -> Store:
    """StoreError: there is something else in its place, or it refuses us."""
    if study.store.startswith("s3://"):
        return open_url(study.store, os.environ)
    path = study.store_path()
    if path.exists() and not path.is_dir():
        raise StoreError(f"store: {path} is a file, not a folder")
    return DirectoryStore(path)
