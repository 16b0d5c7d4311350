"""What agents and people have put into the store for the controller to fold."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hpo_engine.types import Report, Steered
from operators.attempt import decode_report, inbox_prefix
from operators.store import Store


@dataclass(frozen=True, slots=True)
class News:
    keys: tuple[str, ...]
    reports: tuple[Report, ...]
    steered: tuple[Steered, ...]
    unreadable: tuple[str, ...]


class Inbox:
    """Read, fold into the journal, then clear: a pass costs what is new. Read twice, it is folded once."""

    def __init__(self, store: Store, study: str) -> None:
        self._store, self._study = store, study

    def read(self) -> News:
        reports: list[Report] = []
        steered: list[Steered] = []
        unreadable: list[str] = []
        keys = [*self._store.list(inbox_prefix(self._study)), *self._store.list(f"{self._study}/steer/")]
        for key in keys:
            data = self._store.get(key)
            try:
                if data is None:
                    continue
                if key.startswith(inbox_prefix(self._study)):
                    reports.append(decode_report(data))
                else:
                    document = json.loads(data)
                    steered.append(Steered(str(document["setting"]), int(document["value"])))
            except (ValueError, KeyError, TypeError):
                unreadable.append(key)  # written by nobody of ours; it must not stop the study
        return News(tuple(keys), tuple(reports), tuple(steered), tuple(unreadable))

    def clear(self, news: News) -> None:
        for key in news.keys:
            self._store.delete(key)
