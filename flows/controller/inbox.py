"""What agents and people have put into the store for the controller to fold."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hpo_engine.types import AbohbError, Report, Steered
from operators.attempt import decode_report, inbox_prefix
from operators.store import Store

SETTINGS = ("workers", "paused", "stopped", "cancel")  # cancel: the number of a trial


@dataclass(frozen=True, slots=True)
class News:
    keys: tuple[str, ...]
    reports: tuple[Report, ...]
    steered: tuple[Steered, ...]
    dropped: tuple[str, ...]  # what could not be read, and why


class Inbox:
    """Read, fold into the journal, then clear: a pass costs what is new. Read twice, it is folded once."""

    def __init__(self, store: Store, study: str) -> None:
        self._store, self._study = store, study

    def read(self) -> News:
        reports: list[Report] = []
        steered: list[Steered] = []
        dropped: list[str] = []
        keys = [*self._store.list(inbox_prefix(self._study)), *self._store.list(steer_prefix(self._study))]
        for key in keys:
            data = self._store.get(key)
            try:
                if data is None:
                    continue
                if key.startswith(inbox_prefix(self._study)):
                    reports.append(decode_report(data))
                else:
                    steered.append(_decode_steered(data))
            except (AbohbError, ValueError, KeyError, TypeError) as error:
                # Written by nobody of ours; it must not stop the study.
                dropped.append(f"{key} could not be read and was dropped: {error}")
        return News(tuple(keys), tuple(reports), tuple(steered), tuple(dropped))

    def clear(self, news: News) -> None:
        for key in news.keys:
            self._store.delete(key)


def steer_prefix(study: str) -> str:
    """Where people put {"setting", "value"} for the controller, under keys in the order to be folded."""
    return f"{study}/steer/"


def _decode_steered(data: bytes) -> Steered:
    document = json.loads(data)
    setting, value = document["setting"], document["value"]
    if setting not in SETTINGS or type(value) is not int or value < 0:
        raise ValueError(f"{setting} {value!r}: there is {', '.join(SETTINGS)}, numbers from 0 on")
    return Steered(setting, value)
