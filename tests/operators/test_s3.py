"""Object storage as store: what a directory has not. Scripted servers are for answers that are rare."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest

from operators.s3 import S3Store, open_s3
from operators.s3_credentials import Credentials
from operators.s3_place import Patience
from operators.store import StoreError
from tests.operators.scripted import SECRET, Answer, Script, local, scripted
from tests.operators.stores import BUCKET, Minio, make_bucket, minio_program, s3_env, s3_store


@pytest.fixture
def bucket(s3: None, tmp_path: Path) -> S3Store:
    return s3_store(tmp_path)


def test_one_of_many_threads_is_first(bucket: S3Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        for turn in range(10):
            key = f"s/{turn}"
            first = list(
                pool.map(lambda name, key=key: bucket.put_once(key, name), [b"%d" % n for n in range(8)])
            )
            assert sum(first) == 1
            assert bucket.get(key) == b"%d" % first.index(True)


@pytest.mark.parametrize(("size", "parts"), [(100, 1), (5_000_000, 1), (40 << 20, 5)])
def test_a_large_file_goes_in_parts(bucket: S3Store, tmp_path: Path, size: int, parts: int) -> None:
    block = bytes(range(256)) * 4096
    (tmp_path / "up").write_bytes((block * (size // len(block) + 1))[:size])
    bucket.upload("s/a", tmp_path / "up")
    tag = bucket._quick.stat_object(bucket_name=BUCKET, object_name=bucket._name("s/a")).etag or ""
    assert tag.partition("-")[2] == ("" if parts == 1 else str(parts))
    bucket.download("s/a", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()


def test_listing_takes_several_pages(bucket: S3Store) -> None:
    names = [f"s/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: bucket.put(key, b""), names))
    assert bucket.list("s/") == names


def test_folders_that_a_console_has_made_are_no_keys(bucket: S3Store) -> None:
    bucket.put("s/a", b"")
    url = bucket._quick.get_presigned_url("PUT", bucket_name=BUCKET, object_name=f"{bucket.prefix}s/folder/")
    assert bucket.pool.request("PUT", url, body=b"").status == 200
    assert bucket.list("s/") == ["s/a"]


def test_the_clock_of_the_store(bucket: S3Store) -> None:
    assert abs(bucket.clock_skew()) < 2
    assert abs(bucket.clock_skew(lambda: time.time() + 100) + 100) < 2


# -- away ----------------------------------------------------------------------------------------------


def calls(store: S3Store, file: Path) -> Iterator[object]:
    file.write_bytes(b"x")
    yield lambda: store.get("s/a")
    yield lambda: store.put("s/a", b"x")
    yield lambda: store.put_once("s/b", b"x")
    yield lambda: store.list("s/")
    yield lambda: store.delete("s/a")
    yield lambda: store.upload("s/a", file)
    yield lambda: store.download("s/a", file)
    yield store.clock_skew


def test_a_store_that_is_killed_is_away_and_then_back(tmp_path: Path) -> None:
    server = Minio(minio_program(), tmp_path / "minio")
    try:
        server.start()
        make_bucket(server.env)
        store = open_s3(BUCKET, "x", server.env)
        store.put("s/a", b"one")
        server.stop()
        began = time.monotonic()
        for call in calls(store, tmp_path / "file"):
            with pytest.raises(OSError, match="is away"):
                call()  # type: ignore[operator]
        assert time.monotonic() - began < 15
        server.start()
        assert store.get("s/a") == b"one"
        assert store.put_once("s/b", b"two") is True
        assert store.put_once("s/a", b"two") is False
    finally:
        server.stop()


def test_a_store_that_does_not_answer_is_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = local(silent.getsockname()[1])
        store = open_s3("bucket", "", env, quick=Patience(connect=1, read=0.2))
        for call in calls(store, tmp_path / "file"):
            with pytest.raises(OSError, match="timed out"):
                call()  # type: ignore[operator]


def _read_slowly(server: socket.socket, rate: float) -> None:
    connection, _ = server.accept()
    with connection:
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        left = int(length[1]) - len(body) if length else 0
        while left > 0:
            left -= len(connection.recv(65536))
            time.sleep(65536 / rate)
        connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')


def test_a_slow_line_is_not_a_store_that_is_away(tmp_path: Path) -> None:
    """urllib3 counts the sending of a body as connecting: 5 s would be too short for the part of a file."""
    (tmp_path / "file").write_bytes(bytes(6_000_000))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        server.bind(("127.0.0.1", 0))
        server.listen()
        reader = Thread(target=_read_slowly, args=(server, 6e6), daemon=True)
        reader.start()
        store = open_s3("bucket", "", local(server.getsockname()[1]), quick=Patience(connect=0.2, read=5))
        began = time.monotonic()
        store.upload("s/a", tmp_path / "file")
        assert time.monotonic() - began > 0.4, "the line was slow"
        reader.join()


def test_a_host_that_does_not_exist_is_away() -> None:
    store = open_s3("bucket", "", {**local(1), "ABOHB_S3_ENDPOINT": "http://nowhere.invalid:9000"})
    with pytest.raises(OSError, match=r"is away: .*nowhere\.invalid"):
        store.get("s/a")


# -- refused -------------------------------------------------------------------------------------------

REFUSED = {
    "another secret": ({"AWS_SECRET_ACCESS_KEY": SECRET}, "SignatureDoesNotMatch: .* AWS_SECRET_ACCESS_KEY"),
    "an unknown key": (
        {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": SECRET},
        "InvalidAccessKeyId: the store does not know",
    ),
    "a token that does not fit": (
        {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET},
        "403 InvalidTokenId: .*give new ones",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_keys_are_refused_in_words(s3: None, tmp_path: Path, case: str) -> None:
    env, said = REFUSED[case]
    store = s3_store(tmp_path, env)
    for call in list(calls(store, tmp_path / "file"))[:-1]:  # the clock may be read by anyone
        with pytest.raises(StoreError, match=said) as caught:
            call()  # type: ignore[operator]
        assert SECRET not in f"{caught.value!r}{store!r}"


def test_a_bucket_that_is_not_there(s3: None, tmp_path: Path) -> None:
    store = open_s3("no-such-bucket-here", "", s3_env())
    for call in list(calls(store, tmp_path / "file"))[:-1]:
        with pytest.raises(StoreError, match="NoSuchBucket: there is no such bucket: make it"):
            call()  # type: ignore[operator]


def test_tls_where_there_is_none(s3: None, tmp_path: Path) -> None:
    endpoint = s3_store(tmp_path).place.endpoint.replace("http://", "https://")
    with pytest.raises(StoreError, match="begin its endpoint with http://"):
        s3_store(tmp_path, {"ABOHB_S3_ENDPOINT": endpoint}).get("s/a")


# -- answers that are rare -------------------------------------------------------------------------------


@pytest.fixture
def script() -> Iterator[tuple[Script, S3Store]]:
    with scripted() as pair:
        yield pair


FREE, TAKEN, CONFLICT = (200, ""), (412, "PreconditionFailed"), (409, "ConditionalRequestConflict")
GONE = (404, "NoSuchKey")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([FREE], "True"),
        ([TAKEN], "False"),
        ([CONFLICT, FREE], "False"),  # 200 to the GET: the other one's is there
        ([CONFLICT, GONE, FREE], "True"),  # the other one failed
        ([CONFLICT, GONE, TAKEN], "False"),
        ([CONFLICT, GONE, CONFLICT, GONE, CONFLICT, GONE], "is away: 3 conflicts at 's/a'"),
        ([(503, "SlowDown")], "is away: it answers 503 SlowDown"),
        ([None], "is away: .*closed connection"),  # it may have arrived: not sent again
        ([(501, "NotImplemented")], "refuses, 501 NotImplemented: the store cannot do that"),
        ([(403, "AccessDenied")], "refuses, 403 AccessDenied: the keys do not allow it"),
        ([(400, "ExpiredToken")], "refuses, 400 ExpiredToken: the keys are temporary, they have ended"),
        ([(307, "")], "refuses, 307: this is no answer of an S3 store"),
    ],
)
def test_answers_to_put_once(script: tuple[Script, S3Store], answers: list[Answer], said: str) -> None:
    server, store = script
    server.answers = list(answers)
    if said in ("True", "False"):
        assert store.put_once("s/a", b"x") is (said == "True")
    else:
        with pytest.raises(OSError if "is away" in said else StoreError, match=said):
            store.put_once("s/a", b"x")
    assert server.answers == [], "and nothing more was asked"
    assert set(server.seen) <= {"PUT /bucket/pre/fix/s/a", "GET /bucket/pre/fix/s/a"}
    assert server.headers[0]["if-none-match"] == "*"
    assert "if-none-match" in server.headers[0]["authorization"], "it is signed"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([None, FREE], ""),
        ([(503, "SlowDown"), FREE], ""),
        ([None, None], "is away"),
        ([(503, "SlowDown"), (503, "SlowDown")], "is away: it answers 503 SlowDown"),
        ([(429, "TooManyRequests")], "is away: it answers 429"),
        ([(403, "AccessDenied"), (200, "NoListing")], "this is no answer of an S3 store"),
    ],
)
def test_answers_to_get(script: tuple[Script, S3Store], answers: list[Answer], said: str) -> None:
    """Reading may be tried again, and is, once and at once: not after the 120 s that the server asks for."""
    server, store = script
    server.answers = list(answers)
    began = time.monotonic()
    if not said:
        assert store.get("s/a") == b""
    else:
        with pytest.raises((OSError, StoreError), match=said):
            store.get("s/a")
    assert server.answers == []
    assert time.monotonic() - began < 2


def test_no_request_has_a_secret_in_its_url(script: tuple[Script, S3Store], tmp_path: Path) -> None:
    server, store = script
    server.answers = [(403, "AccessDenied")] * 20
    for call in list(calls(store, tmp_path / "file"))[:-1]:
        with pytest.raises(StoreError) as caught:
            call()  # type: ignore[operator]
        assert SECRET not in f"{caught.value!r}"
    assert len(server.seen) > 6
    assert not [line for line in server.seen if SECRET in line or "X-Amz" in line]
    assert {headers["x-amz-security-token"] for headers in server.headers} == {f"{SECRET}-too"}


def test_secrets_are_not_shown() -> None:
    credentials = Credentials("key", SECRET, f"{SECRET}-too", expires=1.0)
    store = open_s3("bucket", "", {}, credentials)
    assert SECRET not in f"{credentials!r} {credentials} {store!r} {store} {store.where} {vars(store)}"
    assert "key" in repr(credentials)
