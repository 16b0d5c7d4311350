"""The agent's temporary keys: the controller puts new ones into the store before the old ones end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from operators.attempt import credentials_key
from operators.sidecar_place import Place, tell
from operators.store import Store
from operators.stores import open_store

EXPIRE = "ABOHB_KEYS_EXPIRE"  # when the keys of the environment end, in seconds since 1970
LOOK = 60.0  # seconds between two looks for new keys


def open_with_newest(place: Place, env: Mapping[str, str]) -> tuple[Store, Renewal]:
    """The store with the keys of `env`, or with those that an agent of this pod has got since."""
    if "AWS_SESSION_TOKEN" not in env:  # keys that a Secret gives are never renewed
        return (store := open_store(place.store, env)), Renewal(place, store, expire=None)
    newest = {**env, **_kept(_file(place))}
    store = open_store(place.store, newest)
    return store, Renewal(place, store, float(newest.get(EXPIRE) or 0))


def _file(place: Place) -> Path:
    return place.own / "credentials.json"


def _kept(path: Path) -> dict[str, str]:
    """As variables of the environment; none if there was no renewal."""
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return {
        "AWS_ACCESS_KEY_ID": values["access_key"],
        "AWS_SECRET_ACCESS_KEY": values["secret_key"],
        "AWS_SESSION_TOKEN": values["token"],
        EXPIRE: str(values["expires"]),
    }


@dataclass
class Renewal:
    """Looks for new keys now and then."""

    place: Place
    store: Store
    expire: float | None  # those in use; None: they do not
    clock: Callable[[], float] = time.monotonic
    _looked: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked = self.clock()

    def look(self) -> None:
        """Go over to what the controller has put there, if that is newer. OSError: the store is away."""
        if self.expire is None or self.clock() - self._looked < LOOK:
            return
        self._looked = self.clock()
        data = self.store.get(credentials_key(self.place.spec.study, self.place.spec.trial))
        renew = getattr(self.store, "renew", None)  # a directory has no keys
        if data is None or renew is None:
            return
        from operators.s3_credentials import decode_credentials  # here: it loads minio-py

        found = decode_credentials(data)
        if found.expires is None or found.expires <= self.expire:
            return  # left over from an earlier attempt
        self._keep(data)
        renew(found)
        self.expire = found.expires
        tell("went over to new keys of the store")

    def _keep(self, data: bytes) -> None:
        """For an agent that follows us in this pod: the keys of its environment will have ended."""
        temporary = _file(self.place).with_name(".credentials.new")
        temporary.touch(mode=0o600)
        temporary.write_bytes(data)
        os.replace(temporary, _file(self.place))
