"""The truth of a study: numbered batches of events, each written once.

A batch is there whole or not at all, and of two writers that write the same number one is told that it was
not first. That is the whole of the fencing: whoever opens a study appends a batch with a higher epoch, so the
next append of an older writer finds its number taken. Batches are never deleted; every few hundred
of them are also kept as one segment, so that opening costs few reads.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpo_engine.types import AbohbError, Event
from operators.codec import SCHEMA, CodecError, decode_event, dumps, encode_event
from operators.store import Store

SEGMENT = 250  # batches: what an opening reads one by one at most


class JournalError(AbohbError):
    """The journal cannot be read by this version."""


class Fenced(AbohbError):
    """Another controller has opened the study: touch nothing more."""


@dataclass(frozen=True, slots=True)
class Batch:
    number: int
    epoch: int  # of its writer; each opening raises it
    time: float  # seconds since 1970 by the writer's clock
    events: tuple[Event, ...]


class Journal:
    """Read all with `read`; then `claim` to become the writer, then `append`.

    >>> journal = Journal(store, "digits")
    >>> for batch in journal.read():
    ...     ...
    >>> journal.claim(now)  # Fenced if another one was quicker
    >>> journal.append(events, now)  # Fenced if another one has claimed it since
    """

    def __init__(self, store: Store, study: str) -> None:
        self._store = store
        self._study = study
        self._writer = secrets.token_hex(8)  # tells our own batch from another's when a reply was lost
        self._tail: list[bytes] = []  # batches that no segment holds yet
        self._segments = 0
        self.number = 0  # of the last batch
        self.epoch = 0
        self.active = 0.0  # seconds that controllers have spent on the study
        self._last: float | None = None  # time of the last batch of this epoch

    def read(self) -> Iterator[Batch]:
        """All batches in order; called again, those that came since. JournalError: one cannot be read."""
        while not self._tail:  # a segment that was made since the first call repeats what the tail holds
            segment = self._store.get(self._segment_key(self._segments + 1))
            if segment is None:
                break
            for line in segment.splitlines():
                yield self._take(line)
            self._segments += 1
        while (data := self._store.get(self._key(self.number + 1))) is not None:
            self._tail.append(data)
            yield self._take(data)

    def spent(self, now: float) -> float:
        """`active` up to now, if its writer is still at work."""
        return self.active + (0.0 if self._last is None else max(0.0, now - self._last))

    def claim(self, now: float, events: Sequence[Event] = ()) -> None:
        """Become the writer: append a batch with a higher epoch. After Fenced: `read` on, and claim again."""
        self._write(events, now, self.epoch + 1)

    def append(self, events: Sequence[Event], now: float) -> None:
        """One batch: all of the events, or none. Durable on return.

        OSError: the store is away, and whether the batch is there is unknown. Append the same events again.
        """
        if len(self._tail) >= SEGMENT:  # before the batch: an error after it would have the events told twice
            self._store.put_once(self._segment_key(self._segments + 1), b"\n".join(self._tail[:SEGMENT]))
            self._segments += 1
            del self._tail[:SEGMENT]
        self._write(events, now, self.epoch)

    def _write(self, events: Sequence[Event], now: float, epoch: int) -> None:
        document = {
            "schema": SCHEMA,
            "number": self.number + 1,
            "epoch": epoch,
            "writer": self._writer,
            "time": now,
            "events": [encode_event(event) for event in events],
        }
        key, data = self._key(self.number + 1), dumps(document)
        if not self._store.put_once(key, data):
            # A reply may be lost after the write went through: what stands there may be this very batch,
            # from now or from an earlier try.
            data = self._store.get(key) or b"{}"
            if {**json.loads(data), "time": now} != document:
                raise Fenced(f"study {self._study!r} was opened by another controller; this one has stopped")
        if epoch != self.epoch:
            self.epoch, self._last = epoch, None
        self.number += 1
        self._tail.append(data)
        self._count(now)

    def _take(self, data: bytes) -> Batch:
        self.number += 1
        try:
            document: dict[str, Any] = json.loads(data)
            if document["schema"] > SCHEMA:
                raise JournalError(
                    f"study {self._study!r} was written by a newer version (schema {document['schema']}, "
                    f"this one reads {SCHEMA}): upgrade abohb"
                )
            events = tuple(map(decode_event, document["events"]))
            batch = Batch(self.number, int(document["epoch"]), float(document["time"]), events)
            if document["number"] != self.number:
                raise ValueError(f"it is batch {document['number']}")
            if batch.epoch < self.epoch:
                raise ValueError(f"epoch {batch.epoch} after epoch {self.epoch}")
        except (ValueError, KeyError, TypeError, CodecError) as error:
            raise JournalError(f"{self._key(self.number)} cannot be read: {error}") from error
        if batch.epoch != self.epoch:
            self.epoch, self._last = batch.epoch, None
        self._count(batch.time)
        return batch

    def _count(self, now: float) -> None:
        if self._last is not None:
            self.active += max(0.0, now - self._last)
        self._last = now

    def _key(self, number: int) -> str:
        return f"{self._study}/journal/{number:08d}.json"

    def _segment_key(self, number: int) -> str:
        return f"{self._study}/segments/{number:06d}.jsonl"
