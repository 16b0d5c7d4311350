"""What the kubelet asks the agent: may the training code live. A 500 is how the agent ends it."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Probes:
    """`/started`: 200 once we listen. `/trial`: 200, and 500 from when `over` is set.

    `/trial` is the liveness probe of the training code's container, so whoever asks says that it runs.
    """

    port: int
    over: str = ""  # why the training code must end
    asked: threading.Event = field(default_factory=threading.Event)  # the training code runs
    refused: threading.Event = field(default_factory=threading.Event)  # `over` was told

    def start(self) -> None:
        server = ThreadingHTTPServer(("", self.port), _handler(self), bind_and_activate=False)
        server.socket.close()
        server.socket = _listening(self.port)  # its own bind() asks the name service who we are
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()

    def answer(self, path: str) -> tuple[int, str]:
        if path == "/started":
            return 200, "listening"
        if path != "/trial":
            return 404, "there is /started and /trial"
        self.asked.set()
        if not self.over:
            return 200, "go on"
        self.refused.set()
        return 500, self.over


def _listening(port: int) -> socket.socket:
    """On all addresses of the pod, which may have one of IPv4, of IPv6, or both."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _handler(probes: Probes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds that a connection may say nothing

        def do_GET(self) -> None:
            status, text = probes.answer(self.path)
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler
