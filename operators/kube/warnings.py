"""What the cluster says of objects that make no progress, and says nowhere else: its events of type Warning.

A quota or an admission webhook that refuses a pod, a volume that cannot be mounted: no status tells of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from operators.kube.api import Api
from operators.kube.calls import Calls
from operators.kube.diagnose import Seen
from operators.kube.errors import ApiError

Json: TypeAlias = dict[str, Any]

BRIEF = 10.0  # seconds: what waits no longer than that is no news
UNEXPLAINED = ("", "pod", "pod spec", "quota", "starting")  # topics of which events tell more
EVERY = 15.0  # seconds from one list to the next, while somebody asks
KEPT = ("reason", "message", "lastTimestamp", "eventTime", "involvedObject")


@dataclass
class Warnings:
    """One list for all who ask, however many; nobody asks while all goes well."""

    api: Api
    calls: Calls
    _known: dict[str, list[Json]] = field(default_factory=dict, init=False)  # uid of an object -> its events

    def about(self, uids: Collection[str]) -> Sequence[Json]:
        """As far as is known by now; newer ones are asked for."""
        self.calls.make("warnings", self._list, rest=EVERY)
        return [event for uid in uids for event in self._known.get(uid, ())]

    def _list(self) -> None:
        known: defaultdict[str, list[Json]] = defaultdict(list)
        try:
            for page, _ in self.api.pages("events", fields="type=Warning"):
                for event in page:
                    kept = {name: event[name] for name in KEPT if name in event}
                    known[kept["involvedObject"].get("uid", "")].append(kept)
        except ApiError:  # not allowed to, or the list is too old to go on: what is known must do
            return
        self._known = dict(known)


def lingers(seen: Seen, now: float) -> bool:
    """It does not run, and nothing in its status says why."""
    topic = seen.cause.partition(":")[0]
    return seen.phase == "pending" and topic in UNEXPLAINED and now - (seen.since or now) > BRIEF
