"""A store by its URL, its address, its keys, its errors; and the proof that it fences."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from operators.s3 import S3Store
from operators.s3_faults import StoreAwayError, fault, said_in
from operators.s3_place import Place, find_place
from operators.store import DirectoryStore, Store, StoreError
from operators.stores import make_bucket, open_store, proves_put_once
from tests.operators.stores import s3_env

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden", "ABOHB_S3_ENDPOINT": "http://box:9000"}


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/pre", "bucket", "pre/"),
        ("s3://bucket/pre/fix/", "bucket", "pre/fix/"),
    ],
)
def test_a_bucket_by_its_url(url: str, bucket: str, prefix: str) -> None:
    store = open_store(url, KEYS)
    assert isinstance(store, S3Store)
    assert (store.bucket, store.prefix, store.place.endpoint) == (bucket, prefix, "http://box:9000")


def test_a_directory_by_its_url(tmp_path: Path) -> None:
    folder = tmp_path / "with a blank and ä"
    assert open_store(folder.as_uri(), {}) == DirectoryStore(folder)


@pytest.mark.parametrize(
    ("url", "env", "said"),
    [
        ("", KEYS, "is no store: give file:///directory or s3://bucket/prefix"),
        ("/tmp/x", KEYS, "is no store"),
        ("file://x", KEYS, "is no store"),
        ("gs://bucket", KEYS, "is no store"),
        ("s3://", KEYS, "is no store"),
        ("s3://bucket/x?versionId=1", KEYS, "is no store"),
        ("s3://b", KEYS, "'b' is no bucket"),
        ("s3://Bucket_X", KEYS, "is no bucket"),
        ("s3://bucket/../x", KEYS, "is no key"),
        ("s3://key:hidden@bucket/x", KEYS, "the URL of the store holds keys"),
        ("s3://bucket", {**KEYS, "AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY is not: set both"),
        ("s3://bucket", {**KEYS, "AWS_CA_BUNDLE": "/no/such"}, "'/no/such', and there is no such file"),
        ("s3://bucket", {**KEYS, "ABOHB_S3_ENDPOINT": "box:9000"}, "expected http://host:port"),
        ("s3://bucket", {**KEYS, "ABOHB_S3_ENDPOINT": "http://box/minio"}, "expected http://host:port"),
        (
            "s3://bucket",
            {**KEYS, "ABOHB_S3_ENDPOINT": "http://key:hidden@box"},
            "ABOHB_S3_ENDPOINT holds keys",
        ),
    ],
)
def test_what_is_no_store(url: str, env: Mapping[str, str], said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        open_store(url, env)
    assert "hidden" not in str(caught.value)


def test_keys_of_a_profile_and_none_at_all(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[team]\naws_access_key_id = one\naws_secret_access_key = hidden\n")
    env = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "team"}
    store = open_store("s3://bucket", env)
    assert isinstance(store, S3Store)
    assert store.keys.retrieve().access_key == "one"
    file.write_text("[team]\naws_access_key_id = two\naws_secret_access_key = hidden\n")
    assert store.keys.retrieve().access_key == "two", "a file that is replaced is read again"
    file.unlink()
    with pytest.raises(OSError, match="is away"):  # there were keys: whoever replaces them is not ready yet
        store.keys.retrieve()
    file.write_text("[team]\naws_access_key_id = two\naws_secret_access_key = hidden\n")
    with pytest.raises(StoreError, match=r"AWS_PROFILE: .*profile nobody"):
        open_store("s3://bucket", {**env, "AWS_PROFILE": "nobody"})
    none = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.raises(StoreError, match="there are no keys for the store: set AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket", none)


AWS = "https://s3.amazonaws.com"


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({}, Place(AWS, "us-east-1", True, "https://sts.us-east-1.amazonaws.com")),
        (
            {"AWS_REGION": "cn-north-1", "AWS_DEFAULT_REGION": "x"},
            Place(AWS, "cn-north-1", True, "https://sts.cn-north-1.amazonaws.com.cn"),
        ),
        (
            {"AWS_ENDPOINT_URL": "http://a:1/", "AWS_DEFAULT_REGION": "home"},
            Place("http://a:1", "home", False, "http://a:1"),
        ),
        (
            {"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "https://b"},
            Place("https://b", "us-east-1", False, "https://b"),
        ),
        (
            {"ABOHB_S3_ENDPOINT": "http://c:3", "AWS_ENDPOINT_URL_S3": "https://b", "AWS_CA_BUNDLE": "/"},
            Place("http://c:3", "us-east-1", False, "http://c:3", "/"),
        ),
        (
            {"AWS_ENDPOINT_URL_STS": "http://sts:1", "AWS_ENDPOINT_URL_S3": "https://b"},
            Place("https://b", "us-east-1", False, "http://sts:1"),
        ),
    ],
)
def test_where_a_store_is(env: Mapping[str, str], place: Place) -> None:
    assert find_place(env) == place


@pytest.mark.parametrize(
    ("status", "code", "away", "said"),
    [
        (503, "SlowDown", True, "S is away: it answers 503 SlowDown"),
        (500, "InternalError", True, "S is away: it answers 500 InternalError"),
        (502, "", True, "S is away: it answers 502 words"),
        (507, "XMinioStorageFull", True, "S is away: it answers 507 XMinioStorageFull"),
        (429, "TooManyRequests", True, "S is away: it answers 429 TooManyRequests"),
        (400, "RequestTimeout", True, "S is away: it answers 400 RequestTimeout"),
        (501, "NotImplemented", False, "S refuses, 501 NotImplemented: the store cannot do that"),
        (403, "AccessDenied", False, "S refuses, 403 AccessDenied: the keys do not allow it"),
        (
            403,
            "RequestTimeTooSkewed",
            False,
            "S refuses, 403 RequestTimeTooSkewed: the clocks of this machine",
        ),
        (301, "PermanentRedirect", False, "S refuses, 301 PermanentRedirect: set AWS_REGION"),
        (400, "KeyTooLongError", False, "S refuses, 400 KeyTooLongError: words"),
        (404, "", False, "S refuses, 404: words"),
    ],
)
def test_what_passes_and_what_does_not(status: int, code: str, away: bool, said: str) -> None:
    error = fault("S", status, code, "words")
    assert isinstance(error, StoreAwayError if away else StoreError)
    assert isinstance(error, OSError) is away
    assert str(error).startswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<Error><Code>A</Code><Message>b c</Message></Error>", ("A", "b c")),
        (b'<R xmlns="https://x"><Error><Code> A </Code></Error></R>', ("A", "")),
        (b"<html>", ("", "")),
        (b"", ("", "")),
    ],
)
def test_the_words_of_an_answer(body: bytes, said: tuple[str, str]) -> None:
    assert said_in(body) == said


# -- fencing ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_made_once() -> None:
    url = f"s3://abohb-{secrets.token_hex(4)}/studies"
    assert make_bucket(url, s3_env())
    assert not make_bucket(url, s3_env())
    made = open_store(url, s3_env())
    assert isinstance(made, S3Store)
    assert made.list("") == []
    made._quick.remove_bucket(bucket_name=made.bucket)


def test_a_bucket_is_made_of_no_directory(tmp_path: Path) -> None:
    assert not make_bucket(tmp_path.as_uri(), {})


def test_a_store_that_fences_is_found_to(store: Store) -> None:
    store.put("s/owner.json", b"x")
    assert proves_put_once(store, "s") == ""
    assert store.list("s/") == ["s/owner.json"], "no probe is left"


@dataclass
class Overwriting:
    """What an S3 store does that knows no conditional writes: it overwrites, and says that all is well."""

    store: DirectoryStore

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def put_once(self, key: str, data: bytes) -> bool:
        self.store.put(key, data)
        return True


@dataclass
class Asking(Overwriting):
    """One that looks first and then writes: two at once are both first."""

    def put_once(self, key: str, data: bytes) -> bool:
        return self.store.get(key) is None and super().put_once(key, data)


@pytest.mark.parametrize("kind", [Overwriting, Asking])
def test_a_store_that_does_not_is_found_out(tmp_path: Path, kind: type[Overwriting]) -> None:
    disk = DirectoryStore(tmp_path)
    found = [proves_put_once(kind(disk), "s") for _ in range(5 if kind is Asking else 1)]  # type: ignore[arg-type]
    assert "a second controller could not be kept away" in max(found)
    assert disk.list("") == []


@pytest.mark.parametrize("name", ["operators.stores", "operators.checkpoints"])
def test_a_directory_needs_no_client_of_s3(name: str) -> None:
    code = f"import sys, {name}; print('minio' in sys.modules or 'urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
