"""Temporary keys that open one trial's part of the store and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

from minio.helpers import sha256_hash
from minio.signer import sign_v4_sts
from minio.time import to_amz_date, utcnow
from urllib3 import BaseHTTPResponse

from operators.attempt import inbox_prefix, trial_prefix
from operators.s3 import Headers, S3Store
from operators.s3_credentials import Credentials
from operators.s3_faults import fault, passes, said_in, translated
from operators.s3_place import send_once
from operators.store import StoreError

HOUR = 3600.0  # what every STS allows
_BY_SECRET = "give the trials keys of their own by kubernetes.store_secret, the name of a Secret"
_KEYS = {  # of an answer that is about our own keys
    "ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidTokenId", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}  # fmt: skip


def policy(bucket: str, prefix: str, study: str, trial: int, parents: Sequence[int] = ()) -> dict[str, Any]:
    """What the agent of a trial may do: all in the trial's own part, report, and read parents' checkpoints.

    `prefix` is the store's: "" or with '/' at its end. A parent's keys and logs stay closed.
    """
    own = f"{prefix}{trial_prefix(study, trial)}*"
    report = f"{prefix}{inbox_prefix(study)}{trial:08d}-*"
    lent = [
        f"{prefix}{trial_prefix(study, parent)}{part}/*"
        for parent in parents
        for part in ("checkpoints", "blobs")
    ]

    def allow(actions: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
        resources = [f"arn:aws:s3:::{bucket}/{name}" for name in names]
        return {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": resources}

    listing = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}"],
        "Condition": {"StringLike": {"s3:prefix": [own, *lent]}},
    }
    whole = ["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"]
    statements = [allow(whole, [own]), allow(["PutObject"], [report]), listing]
    if lent:
        statements.append(allow(["GetObject"], lent))
    return {"Version": "2012-10-17", "Statement": statements}


def due(expires: float, issued: float, now: float) -> bool:
    """Whether keys are to be replaced: half of their life is over. All in seconds since 1970."""
    return now >= (issued + expires) / 2


def assume(
    store: S3Store,
    scope: Mapping[str, Any],
    *,
    name: str,
    role: str | None = None,
    seconds: float = HOUR,
) -> Credentials:
    """Keys that may do what the store's own may and `scope`, a policy, allows.

    `name` is seen in the store's own logs; `role` is the ARN of a role, which AWS asks for. `seconds` from
    900 on, on AWS up to what the role allows. OSError: the store is away. StoreError: it gives none.
    """
    if store.place.aws and not role:
        raise StoreError(
            f"AWS gives temporary keys for a role only: name one by kubernetes.store_role, or {_BY_SECRET}"
        )
    where = f"STS at {store.place.sts}"
    asked = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "DurationSeconds": str(int(seconds)),
        "Policy": json.dumps(scope, separators=(",", ":")),
        "RoleSessionName": name[:64],
        **({"RoleArn": role} if role else {}),
    }
    issued = time.time()
    with translated(where):
        answer = _ask(store, urlencode(asked).encode())
    if answer.status != 200:
        raise _refusal(where, answer)
    return _granted(where, answer.data, issued)


def _ask(store: S3Store, body: bytes) -> BaseHTTPResponse:
    url, keys, date = urlsplit(store.place.sts), store.keys.retrieve(), utcnow()
    digest = sha256_hash(body)
    headers: Headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Host": url.netloc,
        "X-Amz-Date": to_amz_date(date),
    }
    if keys.session_token:
        headers["X-Amz-Security-Token"] = keys.session_token
    signed = sign_v4_sts(
        method="POST", url=url, region=store.place.region, headers=headers,
        credentials=keys, content_sha256=digest, date=date,
    )  # fmt: skip
    return send_once(store.pool, "POST", store.place.sts, body, signed)


def _refusal(where: str, answer: BaseHTTPResponse) -> Exception:
    code, said = said_in(answer.data)
    if code in _KEYS or passes(answer.status, code, said):
        return fault(where, answer.status, code, said)
    reason = f"{answer.status} {code}: {said}" if code else str(answer.status)
    return StoreError(f"{where} gives no temporary keys ({reason}): allow it AssumeRole, or {_BY_SECRET}")


def _granted(where: str, body: bytes, issued: float) -> Credentials:
    try:
        document = ElementTree.fromstring(body)
        found = {element.tag.rpartition("}")[2]: element.text or "" for element in document.iter()}
        expires = datetime.fromisoformat(found["Expiration"]).timestamp()
        keys = found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
    except (ElementTree.ParseError, KeyError, ValueError):
        raise StoreError(f"{where} gives no temporary keys: {_BY_SECRET}") from None
    return Credentials(*keys, issued=issued, expires=expires)
