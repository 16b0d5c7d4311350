"""A Prefect server of our own, as a child process that never outlives us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from typing import IO

from prefect.settings import get_current_settings

START_WITHIN = 90.0  # seconds; a first start also makes the database
SERVER_SETTINGS = {
    "PREFECT__SERVER_EPHEMERAL": "1",  # only the services that a server of one process needs
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # seconds: SQLite has one writer, the others wait for it
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
}


class Server:
    """Prefect's API on this machine, on SQLite in PREFECT_HOME; it ends when this process does, however.

    Prefect's own temporary server is not used: Ctrl-C ends it before the flow has told its end, and a killed
    flow leaves it behind.
    """

    def __init__(self, within: float = START_WITHIN) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = spawn(port, self._log)
        deadline = time.monotonic() + within
        while not healthy(self.url, within=1.0):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(self._last_words())
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it did not answer in time")


def spawn(port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return subprocess.Popen(
        [sys.executable, "-m", "flows.ui.child", str(port)],
        stdin=subprocess.PIPE,  # closes when we are gone
        stdout=log,
        stderr=log,
        env={**os.environ, **settings, **SERVER_SETTINGS},
        start_new_session=True,  # Ctrl-C is for us: the server is still needed to tell that the run ended
    )


def healthy(url: str, within: float) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=within) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):  # refused, timed out, an HTTP error, not a URL
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(port: int) -> None:
    """The child: Prefect's server, until the pipe to the parent closes."""
    import uvicorn

    threading.Thread(target=end_with_parent, daemon=True).start()
    app = "prefect.server.api.server:create_app"
    uvicorn.run(app, factory=True, host="127.0.0.1", port=port, log_level="error", lifespan="on")


def end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
