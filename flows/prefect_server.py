"""A Prefect API for one run of a study, and flows that outlive it.

Prefect is for looking on: without it, or when it dies half-way, a study is tuned all the same.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from prefect import Flow
from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

T = TypeVar("T")
START_WITHIN = 90.0  # seconds; a first start also makes the database
SERVER_SETTINGS = {
    "PREFECT__SERVER_EPHEMERAL": "1",  # only the services that a server of one process needs
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
}


@dataclass(frozen=True, slots=True)
class Prefect:
    """The API to show a study on; `url` is "" when there is none; `note` is for the user."""

    url: str
    note: str = ""


@contextmanager
def prefect_api(say: Callable[[str], None] = lambda line: None) -> Iterator[Prefect]:
    """The configured API (environment or profile), else a server of our own that ends with this process.

    While it is open, Prefect's client gives up within seconds, and its log lines stay off the terminal.
    Never raises because of Prefect: what failed is in `note`.
    """
    configured = PREFECT_API_URL.value()
    with silence():
        if configured:
            if not healthy(configured, within=3.0):
                yield Prefect("", f"Prefect at {configured} does not answer: tuning without it.")
                return
            with patience(configured):
                yield Prefect(configured, f"Prefect shows this study at {configured}.")
            return
        say("Starting a Prefect server for this run (about 10 seconds) ...")
        try:
            server = Server()
        except (OSError, RuntimeError) as error:
            yield Prefect("", f"No Prefect server could be started ({error}): tuning without it.")
            return
        try:
            with patience(server.url):
                yield Prefect(server.url)
        finally:
            server.stop()


@contextmanager
def patience(url: str) -> Iterator[None]:
    """Prefect's client, as the flow engine uses it: one try of a few seconds.

    Log lines and heartbeats are off: their workers keep the process from ending while a server hangs.
    """
    updates = {
        "api.url": url,
        "client.max_retries": 0,
        "api.request_timeout": 5.0,
        "logging.to_api.enabled": False,
        "flows.heartbeat_frequency": None,
    }
    with temporary_settings(updates=updates):
        yield


@contextmanager
def silence() -> Iterator[None]:
    """Prefect's own lines kept from the terminal, whose display they would break."""
    handlers = [handler for name in ("", "prefect", "prefect._internal") for handler in prefects(name)]
    before = [(handler, handler.level) for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in before:
            handler.setLevel(level)


def prefects(name: str) -> list[logging.Handler]:
    handlers = logging.getLogger(name).handlers
    return [handler for handler in handlers if type(handler).__module__.startswith("prefect.")]


def healthy(url: str, within: float) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=within) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):  # refused, timed out, an HTTP error, not a URL
        return False


# -- a flow that outlives its API -------------------------------------------------------------------


def outlive(
    flow: Flow[..., T], argument: Any, prefect: Prefect, say: Callable[[str], None] = lambda line: None
) -> T:
    """What the flow's function returns or raises, whatever becomes of Prefect.

    When Prefect fails before the function was called, it is called as a plain function. When it fails after,
    its error is only told. SIGTERM is raised inside the function as Prefect's TerminationSignal, with and
    without Prefect; Ctrl-C as KeyboardInterrupt.
    """
    ended: list[T] = []
    broke: list[BaseException] = []

    @functools.wraps(flow.fn)
    def recorded(*arguments: Any, **named: Any) -> T:
        try:
            ended.append(flow.fn(*arguments, **named))
        except BaseException as error:
            broke.append(error)
            raise
        return ended[0]

    watched = flow.with_options()
    watched.fn = recorded
    with raised_sigterm():
        try:
            if prefect.url:
                # A state that the function returns is no error; one without a call, such as of parameters, is.
                state = watched(argument, return_state=True)
                if not ended and not broke:
                    raise RuntimeError(state.message)
        except BaseException as error:
            if broke:
                raise broke[0] from None
            if not isinstance(error, Exception):
                raise
            what = "take the end of this run" if ended else "start this run, which goes on without it"
            say(f"Prefect did not {what} ({type(error).__name__}: {error}).")
        if broke:
            raise broke[0] from None
        return ended[0] if ended else flow.fn(argument)


@contextmanager
def raised_sigterm() -> Iterator[None]:
    """SIGTERM as an exception. After its own, Prefect sends the signal again to whoever handled it before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, raise_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def raise_sigterm(number: int, frame: object) -> None:
    raise TerminationSignal(signal=number)


# -- a server of our own ----------------------------------------------------------------------------


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
        [sys.executable, "-m", "flows.prefect_server", str(port)],
        stdin=subprocess.PIPE,  # closes when we are gone
        stdout=log,
        stderr=log,
        env={**os.environ, **settings, **SERVER_SETTINGS},
        start_new_session=True,  # Ctrl-C is for us: the server is still needed to tell that the run ended
    )


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
