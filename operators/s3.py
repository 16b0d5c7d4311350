"""A study in object storage: S3, or what speaks it as MinIO does."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from minio.error import S3Error
from minio.helpers import check_bucket_name
from minio.signer import sign_v4_s3
from minio.time import to_amz_date, utcnow
from urllib3 import BaseHTTPResponse, PoolManager

from operators.s3_credentials import Credentials, Keys, find_keys
from operators.s3_faults import StoreAwayError, fault, said_in, translated
from operators.s3_place import PATIENT, QUICK, Patience, Place, find_place, make_client, make_pool, send_once
from operators.store import StoreError, check_key

PART = 8 << 20  # bytes of a file that are sent as one; a dozen of them may be in memory at once
PARTS_AT_ONCE = 4
MOST_PARTS = 10_000  # of one object, says S3
SMALL = 1 << 20  # bytes: more than that may take longer to send than we wait for a connection
CONFLICTS = 3

Headers = dict[str, str | list[str] | tuple[str]]  # as minio-py has them


@dataclass(frozen=True)
class S3Store:
    """Object storage as store: a key is an object's name behind `prefix`. Safe to share between threads.

    OSError (`StoreAwayError`): it does not answer, or not now. StoreError: it refuses, and will again.
    `put_once` is never tried again by itself once the request may have arrived; so after an OSError, False
    from a second call may mean that the first one did write.
    """

    bucket: str
    prefix: str  # "" or with '/' at its end
    place: Place
    keys: Keys = field(repr=False)
    pool: PoolManager = field(repr=False)
    _quick: Minio = field(repr=False)
    _patient: Minio = field(repr=False)  # for much data
    _large: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def where(self) -> str:
        return f"s3://{self.bucket}/{self.prefix} at {self.place.endpoint}"

    def make_bucket(self) -> bool:
        """False if it is there already."""
        with translated(self.where):
            if self._quick.bucket_exists(bucket_name=self.bucket):
                return False
            self._quick.make_bucket(bucket_name=self.bucket)
            return True

    def renew(self, credentials: Credentials) -> None:
        """Sign with these from the next request on, in all threads."""
        self.keys.replace(credentials)

    def get(self, key: str) -> bytes | None:
        with translated(self.where):
            response = self._response(key)
            return None if response is None else _read(response)

    def put(self, key: str, data: bytes) -> None:
        name, client = self._name(key), self._client(len(data))
        with translated(self.where):
            client.put_object(
                bucket_name=self.bucket,
                object_name=name,
                data=io.BytesIO(data),
                length=len(data),
                part_size=PART,
            )

    def put_once(self, key: str, data: bytes) -> bool:
        name = self._name(key)
        for _ in range(CONFLICTS):
            with translated(self.where):
                response = self._put_if_free(name, data)
            if response.status != 409:
                break
            # Ours was not written, for another writer was at work on the key: it may have failed as well.
            if self.get(key) is not None:
                return False
        if response.status in (200, 201, 204):
            return True
        if response.status == 412:
            return False
        code, said = said_in(response.data)
        if response.status == 409:
            raise StoreAwayError(f"{self.where} is away: {CONFLICTS} conflicts at {key!r}")
        raise fault(self.where, response.status, code, said)

    def list(self, prefix: str) -> list[str]:
        if prefix.rstrip("/"):
            check_key(prefix.removesuffix("/"))
        with translated(self.where):
            return sorted(self._names(prefix))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with translated(self.where):
            self._quick.remove_object(bucket_name=self.bucket, object_name=name)

    def upload(self, key: str, source: Path) -> None:
        name, size = self._name(key), source.stat().st_size
        if size <= PART:
            self._upload(name, source, size)
            return
        with self._large:  # one after another: each has several parts in memory
            self._upload(name, source, size)

    def download(self, key: str, target: Path) -> None:
        with translated(self.where):
            response = self._response(key)
            if response is None:
                raise KeyError(key)
            try:
                with target.open("wb") as file:
                    for chunk in response.stream(SMALL):
                        file.write(chunk)
            finally:
                _release(response)

    def clock_skew(self, clock: Callable[[], float] = time.time) -> float:
        """Seconds that the store's clock is ahead of ours, to about one. OSError: it is away."""
        before = clock()
        with translated(self.where):
            answer = self.pool.request("HEAD", self.place.endpoint, redirect=False)
        date = answer.headers.get("Date")
        if date is None:
            raise StoreError(f"{self.where} does not say what time it is")
        # It tells whole seconds: on average half a second more has gone by.
        return parsedate_to_datetime(date).timestamp() + 0.5 - (before + clock()) / 2

    def _name(self, key: str) -> str:
        check_key(key)
        return self.prefix + key

    def _client(self, size: int) -> Minio:
        return self._quick if size <= SMALL else self._patient

    def _upload(self, name: str, source: Path, size: int) -> None:
        with translated(self.where):
            result = self._client(size).fput_object(
                bucket_name=self.bucket,
                object_name=name,
                file_path=str(source),
                part_size=max(PART, -(-size // MOST_PARTS)),
                num_parallel_uploads=PARTS_AT_ONCE,
            )
        if not result.etag:  # S3 may say that it failed after it has said 200
            raise StoreAwayError(f"{self.where} is away: an upload was not completed")

    def _names(self, prefix: str) -> Iterator[str]:
        objects = self._quick.list_objects(
            bucket_name=self.bucket, prefix=self.prefix + prefix, recursive=True
        )
        for name in (found.object_name or "" for found in objects):
            if not name.endswith("/"):  # what consoles leave for a folder
                yield name.removeprefix(self.prefix)

    def _response(self, key: str) -> BaseHTTPResponse | None:
        """With its body unread; None if there is no such object."""
        try:
            return self._quick.get_object(bucket_name=self.bucket, object_name=self._name(key))
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            # AWS says so of a missing object too, if the keys may list some prefixes only.
            if error.code == "AccessDenied" and key not in self._names(key):
                return None
            raise

    def _put_if_free(self, name: str, data: bytes) -> BaseHTTPResponse:
        address = self._quick.get_presigned_url("PUT", bucket_name=self.bucket, object_name=name)
        url = urlsplit(address)._replace(query="")  # a query with a signature and a token ends up in logs
        keys, date, digest = self.keys.retrieve(), utcnow(), hashlib.sha256(data).hexdigest()
        headers: Headers = {
            "Host": url.netloc,
            "Content-Type": "application/octet-stream",
            "If-None-Match": "*",
            "x-amz-content-sha256": digest,
            "x-amz-date": to_amz_date(date),
        }
        if keys.session_token:
            headers["x-amz-security-token"] = keys.session_token
        signed = sign_v4_s3(
            method="PUT", url=url, region=self.place.region, headers=headers,
            credentials=keys, content_sha256=digest, date=date,
        )  # fmt: skip
        return send_once(self.pool, "PUT", url.geturl(), data, signed)


def open_s3(
    bucket: str,
    prefix: str,
    env: Mapping[str, str],
    credentials: Credentials | None = None,
    quick: Patience = QUICK,
) -> S3Store:
    """The address is that of `env`, else AWS; so are the keys, if none are given. StoreError: none found."""
    try:
        check_bucket_name(bucket, strict=True)
    except ValueError as error:
        raise StoreError(f"{bucket!r} is no bucket: {error}") from None
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    if prefix:
        check_key(prefix.removesuffix("/"))
    place, keys = find_place(env), find_keys(env, credentials)
    pool = make_pool(place, quick)
    patient = make_client(place, keys, make_pool(place, PATIENT))
    return S3Store(bucket, prefix, place, keys, pool, make_client(place, keys, pool), patient)


def _read(response: BaseHTTPResponse) -> bytes:
    try:
        return response.read()
    finally:
        _release(response)


def _release(response: BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()
