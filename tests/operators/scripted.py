"""A server that gives one answer after the other, for answers that real stores seldom give."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from operators.s3 import S3Store, open_s3
from operators.s3_place import Patience

SECRET = "a-secret-that-nobody-may-see"
Answer = tuple[int, str] | None  # a status with a code of S3, or with a body if that begins with '<'


def local(port: int) -> dict[str, str]:
    return {
        "ABOHB_S3_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": f"{SECRET}-too",
    }


@dataclass
class Script:
    """None among the answers: it reads the request and hangs up."""

    answers: list[Answer] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def _handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.seen.append(f"{self.command} {self.path}")
            script.headers.append({name.lower(): value for name, value in self.headers.items()})
            now = script.answers.pop(0)
            if now is None:
                self.close_connection = True
                return
            status, text = now
            if text and not text.startswith("<"):
                text = f"<Error><Code>{text}</Code><Message>m</Message></Error>"
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Retry-After", "120")
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None: ...

    return Handler


@contextlib.contextmanager
def scripted() -> Iterator[tuple[Script, S3Store]]:
    script = Script()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script, open_s3("bucket", "pre/fix", local(server.server_port), quick=Patience(2, 5))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
