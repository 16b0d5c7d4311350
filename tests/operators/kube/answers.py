"""An HTTP server that answers as the Kubernetes API is documented to, where a real one does not on demand.

It is no cluster: nothing here has objects or rules. It replays status codes, headers, chunks and broken
connections, for the edges of the protocol that tests/cluster cannot bring about (429, 401, a torn event ...).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import Configuration

from operators.kube.access import Access
from operators.kube.api import Api
from operators.kube.wire import Wire

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Json | None
    at: float  # monotonic

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"


@dataclass(frozen=True)
class Say:
    """One answer. `then`: "end" as it should; "cut" the connection (reset); "hang" and say no more."""

    status: int = 200
    body: Any = None  # of a watch: a list of chunks, each sent by itself; a dict in it is an event
    headers: dict[str, str] = field(default_factory=dict)
    then: str = "end"


CUT = Say(status=0, then="cut")  # not even a status line


def status(code: int, reason: str, message: str = "") -> Json:
    """As the API server words a failure."""
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message or reason, "reason": reason, "code": code,
    }  # fmt: skip


def refusal(code: int, reason: str, message: str = "", **headers: str) -> Say:
    """`Retry_After="1"` becomes a header."""
    return Say(code, status(code, reason, message), {key.replace("_", "-"): v for key, v in headers.items()})


def listing(*things: Json, version: int, more: str = "") -> Say:
    metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    return Say(200, {"kind": "List", "metadata": metadata, "items": list(things)})


def event(kind: str, thing: Json) -> Json:
    return {"type": kind, "object": thing}


@dataclass
class Server:
    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def serving(answer: Callable[[Asked], Say]) -> Iterator[Server]:
    """`answer` is called for each request, from several threads."""
    stop = threading.Event()
    server = Server("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            headers = {key.lower(): value for key, value in self.headers.items()}
            asked = Asked(self.command, url.path, query, headers, body, time.monotonic())
            server.asked.append(asked)
            say = answer(asked)
            if say.status:
                self._say(say)
            if say.then == "hang":
                stop.wait(30)
            if say.then != "end":
                linger = struct.pack("ii", 1, 0)  # closing sends a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True

        def _say(self, say: Say) -> None:
            self.send_response(say.status)
            for key, value in say.headers.items():
                self.send_header(key, value)
            if not isinstance(say.body, list):
                data = say.body if isinstance(say.body, bytes) else json.dumps(say.body).encode()
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in say.body:
                data = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() + b"\n"
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if say.then == "end":
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that went away
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        http.shutdown()
        http.server_close()
        thread.join()


def access_to(url: str, token: Callable[[], str] = lambda: "") -> Access:
    def load() -> Configuration:
        configuration = Configuration(host=url)
        configuration.proxy = None
        if token():
            configuration.api_key["authorization"] = f"Bearer {token()}"
        return configuration

    return Access(load)


def api_to(server: Server, **options: Any) -> Api:
    """Of namespace "ml"."""
    return Api(Wire(access_to(server.url), **options), "ml")


def in_order(*answers: Say) -> Callable[[Asked], Say]:
    """One after the other; the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
