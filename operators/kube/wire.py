"""Calls of the Kubernetes API over HTTP: paced, authenticated, counted, tried again where that is safe."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

import urllib3

from operators.kube.access import Access
from operators.kube.errors import UNAUTHORIZED, ApiAwayError, ApiError
from operators.kube.pace import TokenBucket, backoff

Json: TypeAlias = dict[str, Any]
Query: TypeAlias = Mapping[str, str | int | bool]

CONNECT, READ = 5.0, 30.0  # seconds
PATIENCE = 10.0  # seconds for which a call is tried again before its caller hears that the API is away
_HELD = 30.0  # seconds at most that a Retry-After is obeyed without asking again

_METHODS: Final = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "delete": "DELETE"}
_LATER: Final = (408, 429)  # of the 4xx, those that say nothing about the call itself


class Wire:
    """One API server as one user. For many threads.

    Every call may raise ApiAwayError (an OSError: try again later) and ApiError (refused, for good).
    """

    def __init__(
        self,
        access: Access,
        *,
        rate: float = 20.0,  # calls per second
        burst: int = 40,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._access = access
        self._bucket = TokenBucket(rate, burst, clock, sleep)
        self._patience, self._clock, self._sleep, self._luck = patience, clock, sleep, luck
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str, int]] = Counter()
        self._known = False  # the credentials were good once

    @property
    def host(self) -> str:
        return self._access.host

    @property
    def calls(self) -> Counter[tuple[str, str, int]]:
        """(verb, resource, HTTP status) -> calls so far; status 0: no answer came. A copy."""
        with self._lock:
            return self._calls.copy()

    def close(self) -> None:
        self._access.close()

    def request(
        self,
        verb: str,  # get, list, create or delete
        path: str,
        query: Query | None = None,
        body: Json | None = None,
        *,
        patience: float | None = None,  # seconds; 0: asked once
        read: float = READ,  # seconds until the server must have said something
    ) -> bytes:
        """What the server answers, tried again for a while if it does not."""
        end = self._clock() + (self._patience if patience is None else patience)
        failures = 0
        while True:
            try:
                return self._exchange(verb, path, query, body, read, stream=False).data
            except ApiAwayError as error:
                failures += 1
                wait = backoff(failures, self._luck())
                if self._clock() + wait >= end or not (_repeatable(body) or error.status in _LATER):
                    raise
            self._sleep(wait)

    def json(self, verb: str, path: str, query: Query | None = None, body: Json | None = None) -> Json:
        """As `request`, parsed."""
        data = self.request(verb, path, query, body)
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if not isinstance(document, dict):  # a proxy or a login page speaks in its place
            raise ApiAwayError(f"{self.host}{path} answers with something else than a JSON object")
        return document

    def stream(self, path: str, query: Query, read: float) -> urllib3.BaseHTTPResponse:
        """An answer that goes on, once it has begun; it has `read` seconds for that. Asked once. Close it."""
        return self._exchange("watch", path, query, None, min(READ, read), stream=True)

    def _exchange(
        self, verb: str, path: str, query: Query | None, body: Json | None, read: float, *, stream: bool
    ) -> urllib3.BaseHTTPResponse:
        """Asks again only if the credentials were refused and there are newer ones."""
        while True:
            self._bucket.take()
            ticket = self._access.ticket()
            try:
                response = ticket.pool.request(
                    _METHODS[verb],
                    f"{ticket.host}{path}" + (f"?{urlencode(_texts(query))}" if query else ""),
                    body=None if body is None else json.dumps(body).encode(),
                    headers={**ticket.headers, **({"Content-Type": "application/json"} if body else {})},
                    timeout=urllib3.Timeout(connect=CONNECT, read=read),
                    preload_content=not stream,
                    retries=False,
                    redirect=False,
                )
                if response.status != 200:
                    _ = response.data  # of a stream too: why it was refused
            except urllib3.exceptions.HTTPError as error:
                self._count(verb, path, 0)
                raise ApiAwayError(f"the Kubernetes API at {ticket.host} does not answer: {error}") from error
            self._count(verb, path, response.status)
            if response.status != UNAUTHORIZED or not self._access.renew(ticket):
                return self._checked(verb, path, response)

    def _checked(self, verb: str, path: str, response: urllib3.BaseHTTPResponse) -> urllib3.BaseHTTPResponse:
        status = response.status
        if 200 <= status < 300:
            self._known = True
            return response
        reason, message, genuine = said(response.data, response.reason or "")
        # Credentials that were good once can be so again: a login is renewed, a token mounted late. And the
        # server that refuses says so in its own way: else something before it has answered, as it restarts.
        again = self._known and (status == UNAUTHORIZED or not genuine)
        if status >= 500 or status in _LATER or again:
            if (after := response.headers.get("Retry-After", "")).isdigit():
                self._bucket.hold(min(float(after), _HELD))
            text = f"the Kubernetes API at {self.host} cannot answer now: {message or reason} ({status})"
            raise ApiAwayError(text, status)
        raise ApiError(f"{verb} {resource_of(path)}", status, reason, message)

    def _count(self, verb: str, path: str, status: int) -> None:
        with self._lock:
            self._calls[verb, resource_of(path), status] += 1


def said(data: bytes, otherwise: str) -> tuple[str, str, bool]:
    """(reason, message) of a Status object, or of anything else its first words; whether it is a Status.

    >>> said(b'{"kind": "Status", "reason": "NotFound", "message": "no such job"}', "")
    ('NotFound', 'no such job', True)
    >>> said(b"upstream is gone", "Bad Gateway")
    ('Bad Gateway', 'upstream is gone', False)
    """
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return otherwise, " ".join(data[:300].decode(errors="replace").split()), False
    reason, message = document.get("reason") or otherwise, document.get("message") or ""
    return str(reason), str(message), document.get("kind") == "Status"


def resource_of(path: str) -> str:
    """What a path is about, without names.

    >>> resource_of("/api/v1/namespaces/ml/pods/digits-1/log"), resource_of("/version")
    ('pods/log', 'version')
    """
    parts = [part for part in path.split("/") if part]
    parts = parts[{"apis": 3, "api": 2}.get(parts[0], 0) :]
    parts = parts[2:] if parts[0] == "namespaces" and len(parts) > 2 else parts
    return "/".join(parts[:1] + parts[2:])


def _repeatable(body: Json | None) -> bool:
    """Twice is as good as once: names are ours, so a second create finds the first one's (409)."""
    return body is None or "generateName" not in (body.get("metadata") or {})


def _texts(query: Query) -> dict[str, str]:
    return {key: str(one).lower() if isinstance(one, bool) else str(one) for key, one in query.items()}
