"""The Jobs and pods of a study as they are, gathered by attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from operators.kube.settings import attempt_of
from operators.kube.status import uid
from operators.kube.watch import Snapshot, Watcher

Json: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[int, int]  # (trial, attempt)


@dataclass(frozen=True, slots=True)
class Objects:
    """Of one attempt. Pods that are gone are there as they were last seen."""

    job: Json | None  # None: gone, or there never was one
    pods: tuple[Json, ...]
    gone: frozenset[str]  # uids of pods

    @property
    def removed(self) -> bool:
        """Nothing of it is left in the cluster."""
        return self.job is None and all(uid(pod) in self.gone for pod in self.pods)

    def uids(self) -> list[str]:
        return [uid(thing) for thing in (self.job, *self.pods) if thing is not None]


@dataclass
class World:
    """Two watches; a pass costs what there is, and what has not changed is not looked at again."""

    jobs: Watcher
    pods: Watcher
    _last: dict[Key, tuple[tuple[tuple[str, int], ...], Objects]] = field(default_factory=dict, init=False)

    @property
    def quiet(self) -> float:
        """Seconds for which the API server has not been heard of."""
        return max(self.jobs.away()[0], self.pods.away()[0])

    def objects(self) -> dict[Key, Objects]:
        """The very same `Objects` as before for an attempt of which nothing has changed."""
        jobs, pods = self.jobs.snapshot(), self.pods.snapshot()
        parts: dict[Key, list[tuple[str, Json]]] = {}
        for kind, thing in [*_marked(jobs, "job"), *_marked(pods, "pod")]:
            if (key := attempt_of(thing)) is not None:
                parts.setdefault(key, []).append((kind, thing))
        last, self._last = self._last, {}
        for key, found in parts.items():
            mark = tuple((kind, id(thing)) for kind, thing in found)
            known = last.get(key)
            self._last[key] = known if known and known[0] == mark else (mark, _gathered(found))
        return {key: objects for key, (_, objects) in self._last.items()}

    def forget(self, keys: Collection[Key]) -> None:
        """They are gone, and nobody needs to know how they were."""
        for watcher in (self.jobs, self.pods) if keys else ():
            gone = watcher.snapshot().gone
            watcher.forget([uid for uid, thing in gone.items() if attempt_of(thing) in keys])

    def stop(self) -> None:
        self.jobs.stop()
        self.pods.stop()


def _marked(snapshot: Snapshot, kind: str) -> Iterator[tuple[str, Json]]:
    yield from ((kind, thing) for thing in snapshot.objects.values())
    yield from ((f"gone {kind}", thing) for thing in snapshot.gone.values())


def _gathered(found: list[tuple[str, Json]]) -> Objects:
    job = next((thing for kind, thing in found if kind == "job"), None)
    pods = tuple(thing for kind, thing in found if kind.endswith("pod"))
    return Objects(job, pods, frozenset(uid(thing) for kind, thing in found if kind == "gone pod"))
