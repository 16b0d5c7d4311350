"""What must hold of every journal, whatever was done to the study that wrote it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from flows.controller.balance import CANCELLED
from flows.controller.session import replay
from flows.study.model import Study
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Report,
    Resume,
    Start,
    Stop,
)
from operators.journal import Batch, Journal
from operators.store import Store


def check_journal(study: Study, store: Store) -> list[Event]:
    """Assert all invariants; returns the events."""
    batches = list(Journal(store, study.name).read())
    events = [event for batch in batches for event in batch.events]
    each_record_once(events)
    one_live_attempt(events)
    never_past_until(events)
    resumed_from_own_checkpoint(events)
    stop_with_its_report(batches)
    replay_is_identity(study, store, events)
    return events


def each_record_once(events: Sequence[Event]) -> None:
    told = Counter((e.trial, e.resource) for e in events if isinstance(e, Report))
    assert [key for key, count in told.items() if count > 1] == []


def one_live_attempt(events: Sequence[Event]) -> None:
    live: dict[int, int] = {}
    last: dict[int, int] = defaultdict(int)
    for event in events:
        if isinstance(event, AttemptStarted):
            assert event.trial not in live, f"{event} beside attempt {live[event.trial]}"
            assert event.attempt == last[event.trial] + 1
            live[event.trial] = last[event.trial] = event.attempt
        elif isinstance(event, AttemptEnded):
            assert live.pop(event.trial) == event.attempt
        elif isinstance(event, Report):
            assert live.get(event.trial) == event.attempt, f"{event} of an attempt that is not live"


def never_past_until(events: Sequence[Event]) -> None:
    until: dict[int, int] = {}
    for event in events:
        if isinstance(event, (Start, Resume)):
            until[event.trial] = event.until
        elif isinstance(event, Report):
            assert event.resource <= until[event.trial]


def resumed_from_own_checkpoint(events: Sequence[Event]) -> None:
    saved: dict[int, set[int]] = defaultdict(lambda: {0})
    for event in events:
        if isinstance(event, Report) and event.checkpoint:
            saved[event.trial].add(event.resource)
        elif isinstance(event, AttemptEnded):
            assert event.started_at in saved[event.trial], (
                f"{event}: its checkpoints are {saved[event.trial]}"
            )


def stop_with_its_report(batches: Sequence[Batch]) -> None:
    for batch in batches:
        for index, event in enumerate(batch.events):
            if isinstance(event, Stop) and event.reason != CANCELLED:
                before = batch.events[index - 1]
                assert isinstance(before, Report), f"{event} without its report in batch {batch.number}"
                assert before.trial == event.trial


def replay_is_identity(study: Study, store: Store, events: Sequence[Event]) -> None:
    one, two = replay(study, store).engine.history, replay(study, store).engine.history
    assert one.length == len(events)
    assert one.trials == two.trials
    assert one.pending() == two.pending()
    for level in one.levels:
        assert one.rungs[level].entries == two.rungs[level].entries
