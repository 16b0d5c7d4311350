"""Where an S3 store is reached, and how long we wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from operators.s3_credentials import Keys
from operators.store import StoreError

CONNECTIONS = 16  # kept open: files of a checkpoint go in parallel, and large ones in parts


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. urllib3 sends a request's whole body within `connect`, if the connection is a new one."""

    connect: float
    read: float


QUICK = Patience(connect=5, read=30)  # one more try, so a host that is gone is known to be after 10 s
PATIENT = Patience(connect=60, read=60)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is reached."""

    endpoint: str  # https://host:port
    region: str
    aws: bool = False
    sts: str = ""  # URL of its STS
    authority: str | None = None  # a file of certificates; None: the system's


def find_place(env: Mapping[str, str]) -> Place:
    """By ABOHB_S3_ENDPOINT and the variables AWS_* of other tools. StoreError: no address is in them."""
    names = ("ABOHB_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    name = next((name for name in names if env.get(name)), "")
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = _address(name, env[name]) if name else "https://s3.amazonaws.com"
    aws = endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    sts = endpoint  # where S3 is not AWS, one server is both
    if named := env.get("AWS_ENDPOINT_URL_STS"):
        sts = _address("AWS_ENDPOINT_URL_STS", named)
    elif aws:
        sts = f"https://sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    authority = env.get("AWS_CA_BUNDLE") or None
    if authority and not Path(authority).exists():
        raise StoreError(f"AWS_CA_BUNDLE is {authority!r}, and there is no such file")
    return Place(endpoint, region, aws, sts, authority)


def _address(name: str, value: str) -> str:
    url = urlsplit(value)
    if "@" in url.netloc:  # not shown: it holds a secret
        raise StoreError(f"{name} holds keys: give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query:
        raise StoreError(f"{name} is {value!r}, expected http://host:port or https://host")
    return f"{url.scheme}://{url.netloc}"


def make_pool(place: Place, patience: Patience) -> PoolManager:
    """Connections that try once more at once: a caller whose store is away has its own way to wait."""
    retries = Retry(
        total=1,
        redirect=False,
        status_forcelist=[500, 502, 503, 504],
        backoff_factor=0,
        respect_retry_after_header=False,  # MinIO says 120 s
        raise_on_status=False,
    )
    timeout = Timeout(connect=patience.connect, read=patience.read)
    return PoolManager(maxsize=CONNECTIONS, timeout=timeout, retries=retries, ca_certs=place.authority)


def make_client(place: Place, keys: Keys, pool: PoolManager) -> Minio:
    url = urlsplit(place.endpoint)
    # Without a region it would ask for the bucket's, which the keys of one trial do not allow.
    return Minio(
        endpoint=url.netloc,
        secure=url.scheme == "https",
        region=place.region,
        credentials=keys,
        http_client=pool,
    )


def send_once(
    pool: PoolManager, method: str, url: str, body: bytes, headers: Mapping[str, object]
) -> BaseHTTPResponse:
    """Send a request that must not be repeated: again only where no connection came about."""
    try:
        return pool.urlopen(method, url, body=body, headers=headers, retries=False, redirect=False)
    except (NewConnectionError, ConnectTimeoutError):
        return pool.urlopen(method, url, body=body, headers=headers, retries=False, redirect=False)
