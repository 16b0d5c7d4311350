"""The keys of one trial open its own part of the store and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo_engine.types import Report
from operators.attempt import (
    claim_key,
    credentials_key,
    facts_key,
    inbox_prefix,
    log_key,
    order_key,
    report_key,
    trial_prefix,
)
from operators.checkpoints import Checkpoints
from operators.s3 import S3Store, open_s3
from operators.s3_credentials import Credentials, decode_credentials, encode_credentials
from operators.store import StoreError
from operators.sts import assume, due, policy
from tests.operators.scripted import SECRET, Answer, scripted
from tests.operators.stores import BUCKET, s3_env, s3_store

REPORT = Report(7, 1, 3, {"loss": 1.0}, True)


@pytest.fixture
def owner(s3: None, tmp_path: Path) -> S3Store:
    return s3_store(tmp_path)


def scope(store: S3Store, trial: int, *parents: int) -> dict[str, Any]:
    return policy(store.bucket, store.prefix, "s", trial, parents)


def opened(owner: S3Store, credentials: Credentials) -> S3Store:
    return open_s3(owner.bucket, owner.prefix, s3_env(), credentials)


def of_trial(owner: S3Store, trial: int, *parents: int) -> S3Store:
    return opened(owner, assume(owner, scope(owner, trial, *parents), name=f"s-{trial}", seconds=900))


def test_a_policy_is_a_value() -> None:
    arn = "arn:aws:s3:::bucket"
    assert policy("bucket", "pre/", "s", 7, [3]) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": [f"{arn}/pre/s/trials/00000007/*"],
            },
            {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": [f"{arn}/pre/s/inbox/00000007-*"]},
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [arn],
                "Condition": {
                    "StringLike": {
                        "s3:prefix": [
                            "pre/s/trials/00000007/*",
                            "pre/s/trials/00000003/checkpoints/*",
                            "pre/s/trials/00000003/blobs/*",
                        ]
                    }
                },
            },
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject"],
                "Resource": [
                    f"{arn}/pre/s/trials/00000003/checkpoints/*",
                    f"{arn}/pre/s/trials/00000003/blobs/*",
                ],
            },
        ],
    }
    assert f"{arn}/s/trials/00000007/*" in json.dumps(policy("bucket", "", "s", 7))
    assert len(json.dumps(policy("b" * 63, "p" * 60 + "/", "s" * 40, 7, [3]), separators=(",", ":"))) < 2048


def test_what_an_agent_does_its_keys_allow(owner: S3Store, tmp_path: Path) -> None:
    store = of_trial(owner, 7)
    assert store.put_once(claim_key("s", 7, 1), b"pod") is True
    assert store.put_once(claim_key("s", 7, 1), b"pod2") is False
    assert store.get(order_key("s", 7)) is None
    assert store.get(credentials_key("s", 7)) is None
    store.put(facts_key("s", 7, 1), b"{}")
    store.put(log_key("s", 7, 1, "log"), b"said")
    store.put(report_key("s", REPORT), b"{}")
    assert owner.list(inbox_prefix("s")) == [report_key("s", REPORT)]
    (tmp_path / "c").mkdir()
    for number in range(5):
        (tmp_path / "c" / str(number)).write_bytes(b"%d" % number * (1 + number * 8_000_000))
    checkpoints = Checkpoints(store, trial_prefix("s", 7))
    checkpoints.commit(REPORT, tmp_path, tmp_path / "c")
    manifest, torn = checkpoints.restore(tmp_path / "again")
    assert manifest is not None
    assert torn == []
    assert (tmp_path / "again/4").read_bytes() == b"4" * 32_000_001
    checkpoints.prune(0, lambda report: (0.0,))
    store.delete(claim_key("s", 7, 1))


FORBIDDEN: dict[str, Callable[[S3Store], object]] = {
    "get": lambda store: store.get("s/trials/00000008/order.json"),
    "get what is not there": lambda store: store.get("s/trials/00000008/nothing"),
    "put": lambda store: store.put("s/trials/00000008/order.json", b"x"),
    "put_once": lambda store: store.put_once("s/trials/00000008/new", b"x"),
    "delete": lambda store: store.delete("s/trials/00000008/order.json"),
    "list": lambda store: store.list("s/trials/00000008/"),
    "list all": lambda store: store.list("s/trials/"),
    "upload": lambda store: store.upload("s/trials/00000008/x", Path(__file__)),
    "download": lambda store: store.download("s/trials/00000008/order.json", Path("/dev/null")),
    "report for another": lambda store: store.put("s/inbox/00000008-0001-00000001.json", b"x"),
    "take a report back": lambda store: store.delete(report_key("s", REPORT)),
    "read the journal": lambda store: store.get("s/journal/00000001.json"),
    "write the journal": lambda store: store.put_once("s/journal/00000002.json", b"x"),
    "steer": lambda store: store.put("s/steer/stop", b"x"),
    "another study": lambda store: store.get("s2/trials/00000007/order.json"),
}


@pytest.fixture
def shared(owner: S3Store) -> S3Store:
    for key in ("s/trials/00000008/order.json", "s/journal/00000001.json", report_key("s", REPORT)):
        owner.put(key, b"there")
    return owner


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_is_not_its_own_is_closed(shared: S3Store, case: str) -> None:
    store = of_trial(shared, 7)
    with pytest.raises(StoreError, match="403 AccessDenied"):
        FORBIDDEN[case](store)
    assert FORBIDDEN[case](shared) is not FORBIDDEN, "and the owner may"


def test_of_a_parent_the_checkpoints_may_be_read(owner: S3Store, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"weights")
    report = Report(3, 1, 9, {"loss": 1.0}, True)
    Checkpoints(owner, trial_prefix("s", 3)).commit(report, tmp_path, tmp_path / "c")
    for key in (credentials_key("s", 3), log_key("s", 3, 1, "log")):
        owner.put(key, b"private")
    child = of_trial(owner, 7, 3)
    manifest, torn = Checkpoints(child, trial_prefix("s", 3)).restore(tmp_path / "again")
    assert manifest is not None
    assert (manifest.report, torn) == (report, [])
    assert (tmp_path / "again/c").read_bytes() == b"weights"
    for forbidden in (
        lambda: child.get(credentials_key("s", 3)),
        lambda: child.get(log_key("s", 3, 1, "log")),
        lambda: child.put(f"{trial_prefix('s', 3)}checkpoints/x", b""),
        lambda: child.delete(child.list(f"{trial_prefix('s', 3)}blobs/")[0]),
        lambda: of_trial(owner, 7).list(f"{trial_prefix('s', 3)}checkpoints/"),
    ):
        with pytest.raises(StoreError, match="403 AccessDenied"):
            forbidden()
    (blob,) = owner.list(f"{trial_prefix('s', 3)}blobs/")
    owner.put(blob, b"damaged")
    manifest, torn = Checkpoints(child, trial_prefix("s", 3)).restore(tmp_path / "again")
    assert manifest is None
    assert torn == ["00000009.json: c is not what was committed"]


def test_new_keys_take_over(owner: S3Store) -> None:
    """They are handed over in the store itself; the part that they open tells which ones are in use."""
    store = of_trial(owner, 7)
    granted = assume(owner, scope(owner, 8), name="renewed", seconds=900)
    owner.put(credentials_key("s", 7), encode_credentials(granted))
    found = store.get(credentials_key("s", 7))
    assert found is not None
    store.renew(decode_credentials(found))
    store.put("s/trials/00000008/x", b"")
    assert store.put_once("s/trials/00000008/y", b"") is True
    with pytest.raises(StoreError, match="AccessDenied"):
        store.get("s/trials/00000007/x")


def test_keys_that_may_list_and_not_read_tell_what_is_missing(owner: S3Store, tmp_path: Path) -> None:
    """AWS answers 403 for a missing object to keys that may list some prefixes only; so here, for reading."""
    owner.put("s/there", b"")
    listing = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{BUCKET}"],
        "Condition": {"StringLike": {"s3:prefix": [f"{owner.prefix}s/*"]}},
    }
    keys = assume(owner, {"Version": "2012-10-17", "Statement": [listing]}, name="lister", seconds=900)
    store = opened(owner, keys)
    assert store.get("s/missing") is None
    with pytest.raises(KeyError):
        store.download("s/missing", tmp_path / "x")
    for call in (lambda: store.get("s/there"), lambda: store.get("elsewhere")):
        with pytest.raises(StoreError, match="AccessDenied"):
            call()


def test_keys_say_when_they_end(owner: S3Store) -> None:
    granted = assume(owner, scope(owner, 7), name="x", seconds=1800)
    assert granted.issued == pytest.approx(time.time(), abs=5)
    assert granted.expires == pytest.approx(time.time() + 1800, abs=5)
    assert granted.secret_key not in repr(granted)
    assert granted.token not in repr(granted)
    assert decode_credentials(encode_credentials(granted)) == granted


def test_keys_that_may_assume_nothing(owner: S3Store) -> None:
    agent = of_trial(owner, 7)
    with pytest.raises(StoreError, match=r"gives no temporary keys \(.*store_secret"):
        assume(agent, scope(agent, 7), name="x")
    wrong = opened(owner, Credentials("nobody", SECRET))
    with pytest.raises(StoreError, match="Access Key Id") as caught:
        assume(wrong, scope(wrong, 7), name="x")
    assert SECRET not in str(caught.value)


GRANT = (
    '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
    "<AccessKeyId>a</AccessKeyId><SecretAccessKey>b</SecretAccessKey><SessionToken>c</SessionToken>"
    "<Expiration>1970-01-01T00:16:40Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
)
STARTING = (  # MinIO does say that with 400
    "<Error><Code>InvalidParameterValue</Code>"
    "<Message>Server not initialized, please try again</Message></Error>"
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, GRANT), ""),
        ((405, "MethodNotAllowed"), r"gives no temporary keys \(405 MethodNotAllowed: m\): .*store_secret"),
        ((404, "<html>not here"), r"gives no temporary keys \(404\): .*store_secret"),
        ((501, "NotImplemented"), "store_secret"),
        ((200, "<html>hello"), "store_secret"),
        ((200, "<Other/>"), "store_secret"),
        ((403, "InvalidClientTokenId"), "refuses, 403 InvalidClientTokenId"),
        ((503, "SlowDown"), "is away"),
        ((400, STARTING), "is away"),
        (None, "is away"),
    ],
)
def test_stores_without_temporary_keys(answer: Answer, said: str) -> None:
    with scripted() as (server, store):
        server.answers = [answer]
        if not said:
            granted = assume(store, {}, name="x" * 100)
            assert (granted.access_key, granted.secret_key, granted.token, granted.expires) == (
                "a",
                "b",
                "c",
                1000.0,
            )
        else:
            with pytest.raises(OSError if said == "is away" else StoreError, match=said):
                assume(store, {}, name="x")
        assert server.answers == []
        assert server.seen == ["POST /"]
        assert server.headers[0]["x-amz-security-token"] == f"{SECRET}-too"


def test_aws_wants_a_role() -> None:
    store = open_s3("bucket", "", {}, Credentials("key", SECRET))
    with pytest.raises(StoreError, match=r"store_role, or .*store_secret"):
        assume(store, {}, name="x")


@pytest.mark.parametrize(
    ("now", "is_due"), [(1000.0, False), (1499.0, False), (1500.0, True), (2000.0, True), (9e9, True)]
)
def test_keys_are_renewed_at_half_their_life(now: float, is_due: bool) -> None:
    assert due(expires=2000.0, issued=1000.0, now=now) is is_due
