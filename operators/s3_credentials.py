"""The keys that requests to an S3 store are signed with: where they come from, and their renewal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from minio.credentials import credentials as minio
from minio.credentials.providers import AWSConfigProvider, IamAwsProvider, Provider, StaticProvider
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from operators.codec import dumps
from operators.s3_faults import StoreAwayError
from operators.store import StoreError

_NONE = (
    "there are no keys for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
    "or run where the cloud gives keys to the machine or the service account"
)
_AWAY = "the service that hands out the keys of the store is away"
_TIMEOUT = Timeout(connect=2, read=10)  # seconds, of who hands out keys


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys of a store; temporary ones have a token, and seconds since 1970 between which they hold."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)
    issued: float | None = None
    expires: float | None = None  # None: they do not end by themselves


def encode_credentials(credentials: Credentials) -> bytes:
    return dumps(asdict(credentials))


def decode_credentials(data: bytes) -> Credentials:
    """ValueError or TypeError: that is not what was encoded."""
    return Credentials(**json.loads(data))


class Keys(Provider):
    """What the next request is signed with. `replace` is seen by all threads, from their next request on."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._good = False  # there were keys before

    def replace(self, credentials: Credentials) -> None:
        self._provider = _static(credentials)

    def retrieve(self) -> minio.Credentials:
        """StoreError: there are no keys, or they are refused us. StoreAwayError: who has them is away."""
        try:
            keys = self._provider.retrieve()
        except HTTPError:  # no text of these errors goes on: some hold the service account's token
            raise StoreAwayError(_AWAY) from None
        except (ValueError, KeyError, OSError):
            if self._good:  # it answers with an error, or with half of an answer: not for ever
                raise StoreAwayError(_AWAY) from None
            raise StoreError(_NONE) from None
        self._good = True
        return keys


def find_keys(env: Mapping[str, str], credentials: Credentials | None = None) -> Keys:
    """Those given; else of the variables AWS_*, of the profile, of the cloud. StoreError: there are none."""
    if credentials is not None:
        return Keys(_static(credentials))
    if access := env.get("AWS_ACCESS_KEY_ID", ""):
        secret = env.get("AWS_SECRET_ACCESS_KEY", "")
        if not secret:
            raise StoreError("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: set both")
        return Keys(_static(Credentials(access, secret, env.get("AWS_SESSION_TOKEN", ""))))
    if (profile := _profile(env)) is not None:
        return Keys(profile)
    keys = Keys(_of_cloud())
    if not _has_identity(env):
        if env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise StoreError(_NONE)
        try:
            keys.retrieve()
        except StoreAwayError:  # not away: outside that cloud there is no such service
            raise StoreError(_NONE) from None
    return keys


def _static(credentials: Credentials) -> Provider:
    return StaticProvider(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token or None,
    )


def _profile(env: Mapping[str, str]) -> Provider | None:
    provider = AWSConfigProvider(
        filename=env.get("AWS_SHARED_CREDENTIALS_FILE"), profile=env.get("AWS_PROFILE")
    )
    try:
        provider.retrieve()
    except ValueError as error:
        if "AWS_PROFILE" in env:
            raise StoreError(f"AWS_PROFILE: {error}") from None
        return None
    return provider


def _has_identity(env: Mapping[str, str]) -> bool:
    """A service account or a task has its role, and its keys are fetched with that."""
    return any(
        env.get(name)
        for name in (
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        )
    )


def _of_cloud() -> Provider:
    # Without retries urllib3 logs no URLs: one holds the service account's token.
    return IamAwsProvider(http_client=PoolManager(timeout=_TIMEOUT, retries=False))
