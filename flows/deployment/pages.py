"""The pages of a controller for the cluster around it: /healthz, /readyz and /metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

from flows.metrics import book as metrics

PORT = 9090


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"


Answer: TypeAlias = Callable[[], str]  # "" when all is well, else what is not


def start(port: int, answers: Mapping[str, Answer]) -> ThreadingHTTPServer:
    """Serve them from a thread of their own, `answers` by their paths. OSError: the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = _page(self.path.partition("?")[0], answers, self.headers.get("Accept", ""))
            self.send_response(page.status)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, format: str, *arguments: object) -> None:
            """The probes would fill the log."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server


def _page(path: str, answers: Mapping[str, Answer], accept: str) -> Page:
    if path == "/metrics":
        return Page(200, *metrics.render(accept))
    if path not in answers:
        return Page(404, f"there is /metrics, {', '.join(answers)}\n".encode())
    problem = answers[path]()
    return Page(503 if problem else 200, f"{problem or 'ok'}\n".encode())
