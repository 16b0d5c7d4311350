"""What an S3 store, or the network before it, answers when it does not do as asked: to the errors of a Store.

`StoreAwayError` may pass by itself, so the caller tries again; `StoreError` will not, and says what to do.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from xml.etree import ElementTree

from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError

from operators.store import StoreError


class StoreAwayError(OSError):
    """The store is not there, or too busy; whether a write went through is unknown."""


_PASSING = {  # with a status that says otherwise
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}

_STRANGE = "this is no answer of an S3 store: check the endpoint"
_RENEW = "they have ended or were withdrawn: give new ones"
_REGION = "set AWS_REGION to the region of the bucket"
_ADVICE = {
    "AccessDenied": "the keys do not allow it: allow them Get, Put, Delete and List there",
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": f"the keys are temporary, {_RENEW}",
    "ExpiredTokenException": f"the keys are temporary, {_RENEW}",
    "InvalidAccessKeyId": f"the store does not know the access key; if it did, {_RENEW}",
    "InvalidToken": f"the token of the keys does not fit, or {_RENEW}",
    "InvalidTokenId": f"the token of the keys does not fit, or {_RENEW}",
    "NoSuchBucket": "there is no such bucket: make it",
    "NotImplemented": "the store cannot do that: it has to know the S3 of today",
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "the clocks of this machine and of the store differ: set them",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key: check AWS_SECRET_ACCESS_KEY",
}


def passes(status: int, code: str, said: str) -> bool:
    """Whether the same request may do later. MinIO's STS says 400 and `please try again` while it starts."""
    if code in _ADVICE:
        return False
    again = "try again" in said.lower()
    return again or code in _PASSING or status in (408, 425, 429) or (status >= 500 and status != 501)


def fault(where: str, status: int, code: str, said: str) -> StoreAwayError | StoreError:
    """The error for an answer of the store: an HTTP status, the code of S3, and a sentence."""
    if passes(status, code, said):
        return StoreAwayError(f"{where} is away: it answers {status} {code or said}".rstrip())
    advice = _ADVICE.get(code) or said or _STRANGE
    return StoreError(f"{where} refuses, {f'{status} {code}'.rstrip()}: {advice}")


def failed_request(where: str, error: HTTPError) -> StoreAwayError | StoreError:
    """The error for a request that got no answer. The URL is left out: it may hold a token."""
    cause: BaseException | None = error.reason if isinstance(error, MaxRetryError) else error
    for seen in _chain(cause):
        if isinstance(seen, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted ({seen.verify_message})"
            return StoreError(f"{where}: {why}; give the file of its authority by AWS_CA_BUNDLE")
        if isinstance(seen, ssl.SSLError) and seen.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return StoreError(f"{where} does not speak TLS there: begin its endpoint with http://")
    return StoreAwayError(f"{where} is away: {str(cause).rpartition('): ')[2] if cause else 'no answer'}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        error = inner or error.__cause__ or error.__context__


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Errors of minio-py and urllib3 become ours; those of the local disk stay what they are."""
    try:
        yield
    except S3Error as error:
        raise fault(where, error.response.status, error.code or "", error.message or "") from None
    except ServerError as error:
        raise fault(where, error.status_code, "", "") from None
    except InvalidResponseError as error:  # a proxy's page, most often
        raise fault(where, error._code, "", _STRANGE) from None
    except HTTPError as error:
        raise failed_request(where, error) from None
    except (ElementTree.ParseError, ValueError):
        raise StoreError(f"{where}: {_STRANGE}") from None


def said_in(body: bytes) -> tuple[str, str]:
    """(code, message) of an error document of S3 or STS; empty if it is none."""
    try:
        document = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return "", ""
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in document.iter()}
    return found.get("Code", "").strip(), found.get("Message", "").strip()
