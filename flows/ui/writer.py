"""One thread that tells Prefect about a study. Tuning never waits for it, and never fails because of it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import httpx
from prefect import task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.settings import temporary_settings
from prefect.states import Cancelled, Completed, Failed, Running

from flows.ui.gallery import Gallery
from flows.ui.outbox import Outbox
from flows.views.artifacts import Artifact, artifacts, pictures
from flows.views.report import duration, number, plural
from flows.views.view import Leg, LegEnded, LegStarted, StudyView
from hpo_engine.types import Outcome

MESSAGE_LENGTH = 4000  # characters of a state's message
LOG_LENGTH = 20_000


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between versions of an artifact, between looks at the run, for a request, after an error."""

    artifacts: float = 5.0
    pictures: float = 10.0
    state: float = 3.0
    request: float = 3.0
    pause: float = 1.0  # doubled with each further error
    longest_pause: float = 15.0


@dataclass(frozen=True, slots=True)
class Title:
    """The flow run's name and tags."""

    name: str
    tags: tuple[str, ...]


Item: TypeAlias = Leg | Artifact | Title | str  # str: a line for the run's log


class PrefectWriter:
    """Shows a study on the flow run `run`. `show` returns at once and never raises.

    `cancelled` is set when somebody cancels the run in Prefect, if `watch`: a runner would deliver it itself.
    """

    def __init__(
        self,
        study: str,
        run: UUID,
        *,
        unit: str = "epoch",
        watch: bool = True,
        size: int = 1000,
        pace: Pace = Pace(),
    ) -> None:
        self.cancelled = threading.Event()
        self._run, self._unit, self._watch, self._pace = run, unit, watch, pace
        self._outbox: Outbox[Item] = Outbox(size)
        self._view: StudyView | None = None
        self._messages = 0  # those of the view that were put into the outbox
        self._lines = 0
        self._told: dict[Hashable, UUID] = {}  # legs whose start Prefect has: their task runs
        self._gallery = Gallery(run)
        self._refused = 0  # what Prefect answered with an error of ours
        self._until = float("inf")  # when to give up, once closing
        self._outbox.put("title", Title(study, (f"study:{study}",)))
        # The settings that say where Prefect is live in the caller's context.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name="prefect-writer", daemon=True
        )
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many things were not told."""
        return self._outbox.dropped + self._refused

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        """What is true now, and the legs that began or ended since the last call."""
        for leg in legs:
            key = (leg.trial, leg.attempt)
            # An end takes its waiting start's place; where Prefect has the start, the end must follow.
            self._outbox.put(key, leg, urgent=key in self._told)
        for line in view.messages[self._messages :]:
            self._lines += 1
            self._outbox.put(("line", self._lines), line)
        self._messages = max(self._messages, len(view.messages))
        self._view = view

    def close(self, timeout: float = 5.0) -> str:
        """Tells what it can within `timeout` seconds; returns one line about what was lost, or ""."""
        self._until = time.monotonic() + timeout
        self._outbox.wake()
        self._thread.join(timeout)
        self._outbox.drop_all()
        if not self.dropped:
            return ""
        lost = plural(self.dropped, "update")
        return f"Prefect was slow or away: {lost} not shown there. The study has them all."

    # -- the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        with temporary_settings(updates={"client.max_retries": 0}):
            errors = 0
            while not self._over():
                last = self._closing
                try:
                    with get_client(
                        httpx_settings={"timeout": self._pace.request}, sync_client=True
                    ) as client:
                        self._serve(client)
                        return
                except Exception:  # whatever it is, the next try may go better, and nobody waits for it
                    if last:
                        return
                    errors += 1
                    self._rest(min(self._pace.longest_pause, self._pace.pause * 2 ** min(errors - 1, 10)))

    def _serve(self, client: SyncPrefectClient) -> None:
        drawn = pictured = looked = -float("inf")
        while not self._over():
            at = time.monotonic()
            if self._view and (at - drawn > self._pace.artifacts or self._closing):
                view, self._view, drawn = self._view, None, at
                shown = artifacts(view)
                if at - pictured > self._pace.pictures or self._closing:
                    shown, pictured = (*shown, *pictures(view)), at
                for artifact in self._gallery.changed(shown):
                    self._outbox.put(artifact.key, artifact, urgent=True)
            if self._watch and at - looked > self._pace.state and not self.cancelled.is_set():
                looked = at
                self._look(client)
            if found := self._outbox.take(timeout=0 if self._closing else 0.2):
                self._tell(client, *found)
            elif self._closing and not self._view:
                return

    def _tell(self, client: SyncPrefectClient, key: Hashable, item: Item) -> None:
        try:
            match item:
                case LegStarted() | LegEnded():
                    self._tell_leg(client, key, item)
                case Artifact():
                    self._gallery.draw(client, item)
                case Title(name, tags):
                    client.update_flow_run(self._run, name=name, tags=tags)
                case str():
                    client.create_logs([self._line(item)])
        except Exception as error:
            if passing(error):
                self._outbox.put_back(key, item)
                raise
            self._refused += 1

    def _tell_leg(self, client: SyncPrefectClient, key: Hashable, leg: Leg) -> None:
        state = leg_state(leg)
        run, has = self._told.get(key), StateType.RUNNING
        if run is None:
            made = client.create_task_run(
                trial, self._run, dynamic_key=f"{leg.trial}-{leg.attempt}", name=leg_name(leg, self._unit),
                state=state, extra_tags=[f"trial:{leg.trial}", f"attempt:{leg.attempt}"],
            )  # fmt: skip
            self._told[key] = run = made.id
            has = made.state_type or has  # not ours, if it was made by a request whose answer was lost
        if isinstance(leg, LegEnded):
            if has is not state.type:
                client.set_task_run_state(run, state, force=True)
            del self._told[key]

    def _look(self, client: SyncPrefectClient) -> None:
        state = client.read_flow_run(self._run).state
        if state and (state.is_cancelling() or state.is_cancelled()):
            self.cancelled.set()

    def _line(self, message: str) -> dict[str, str | int]:
        at = datetime.now(UTC).isoformat()
        return {"name": "abohb", "level": 20, "message": message[:LOG_LENGTH], "timestamp": at,
                "flow_run_id": str(self._run)}  # fmt: skip

    @property
    def _closing(self) -> bool:
        return self._until < float("inf")

    def _over(self) -> bool:
        return time.monotonic() > self._until

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._closing:
            time.sleep(0.1)


@task(name="trial")
def trial() -> None:
    """Never called: the kind of the task runs that stand for the legs of trials."""


def passing(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, httpx.TransportError)


def leg_name(leg: Leg, unit: str) -> str:
    return f"trial-{leg.trial} to {unit} {leg.until}"


def leg_state(leg: Leg) -> State[Any]:
    """Prefect's state for a leg; the true length is in the message, for when Prefect heard late of it."""
    if isinstance(leg, LegStarted):
        return Running()
    took = f"{duration(leg.seconds)}"
    if leg.stopped:
        return Cancelled(message=f"Stopped after {took}. {leg.detail}".strip())
    if leg.outcome is Outcome.OK:
        reached = "" if leg.value is None else f", objective {number(leg.value)}"
        return Completed(message=f"{took}{reached}")
    message = f"{leg.outcome.value} after {took}\n{leg.detail}".strip()[-MESSAGE_LENGTH:]
    ended = Cancelled if leg.outcome is Outcome.INTERRUPTED else Failed
    return ended(message=message)
