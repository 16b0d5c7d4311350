"""A Prefect API for one run of a study, and flows that outlive it.

Prefect is for looking on: without it, or when it dies half-way, a study is tuned all the same.
"""

from __future__ import annotations

import functools
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from prefect import Flow
from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.ui.child import Server, healthy

T = TypeVar("T")


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
                yield Prefect(configured, f"Prefect shows this study at {configured.removesuffix('/api')}.")
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
    def recorded(argument: Any) -> T:
        try:
            ended.append(flow.fn(argument))
        except BaseException as error:
            broke.append(error)
            raise
        return ended[0]

    # Prefect validates the argument by the annotations, which may be strings that mean something there only.
    recorded.__signature__ = inspect.signature(flow.fn, eval_str=True)  # type: ignore[attr-defined]
    watched = flow.with_options()
    watched.fn = recorded
    with raised_sigterm():
        try:
            if prefect.url:
                # A state that the function returned is no error; one without a call is, as of a bad argument.
                state: Any = watched(argument, return_state=True)
                if not ended and not broke:
                    raise RuntimeError(state.message)
        except Exception as error:
            what = "take the end of this run" if ended else "start this run, which goes on without it"
            if not broke:
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
