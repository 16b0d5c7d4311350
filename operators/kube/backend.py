"""Trials as Jobs of a cluster. What is known comes from two watches; what is wanted is done by a few threads.

Every pass may be the first: Jobs and pods are found by their labels, whoever made them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hpo_engine.types import AbohbError, AttemptEnded, Outcome
from operators.attempt import AttemptSpec, Observed
from operators.kube.calls import Calls
from operators.kube.diagnose import Seen, diagnose
from operators.kube.endings import Endings
from operators.kube.image import PinnedImage
from operators.kube.jobs import Jobs
from operators.kube.wanted import Wanted
from operators.kube.warnings import BRIEF, Warnings, lingers
from operators.kube.world import Objects, World
from operators.store import Store
from operators.verdict import Death, judge

Key = tuple[int, int]  # (trial, attempt)
AWAY = 30.0  # seconds without a word of the API server after which the user is told
LOOK = 1.0  # seconds after which what does not run is looked at again: waits and losses go by the clock
AGAIN = 60.0  # seconds after which a Job that was deleted and is still there is deleted again
GATHER = 0.1  # seconds from the first news to the pass that looks at it
BEGUN = 5.0  # seconds after which training code that runs has begun: a command that is missing ends at once
IMPOSSIBLE = (Outcome.IMAGE, Outcome.POD_SPEC)  # what a wait may come to, after its grace


@dataclass
class KubernetesBackend:
    """Behind `flows.controller.backend.Backend`; `changed` is set by whatever has news."""

    study: str
    store: Store
    world: World
    jobs: Jobs
    image: PinnedImage
    endings: Endings
    calls: Calls
    warnings: Warnings
    changed: threading.Event
    image_grace: float = 90.0  # seconds that an image may fail to be pulled, or a container to be made
    clock: Callable[[], float] = time.time
    _wanted: Wanted = field(init=False)
    _told: set[Key] = field(default_factory=set, init=False)  # to end
    _forgotten: set[Key] = field(default_factory=set, init=False)  # whose objects are still there
    _objects: dict[Key, Objects] = field(default_factory=dict, init=False)  # as this pass has observed them
    _seen: dict[Key, tuple[Objects, Seen, float]] = field(default_factory=dict, init=False)  # and when
    _stuck: dict[Key, tuple[tuple[str, bool], float]] = field(default_factory=dict, init=False)  # why, since
    _away: bool = field(default=False, init=False)
    _notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._wanted = Wanted(
            self.study,
            self.store,
            self.jobs,
            self.image,
            self.endings,
            self.calls,
            self.image_grace,
            self.clock,
        )

    def observe(self) -> dict[Key, Observed]:
        """Every attempt that exists: wanted, in the cluster, or ended and not forgotten."""
        now, objects = self.clock(), self.world.objects()
        self._objects = objects
        self._clear()
        self._wanted.look(objects)
        observed = {key: self._ended(end) for key, end in self.endings.settled().items()}
        for key, found in objects.items():
            if key not in self._forgotten and key not in observed:
                observed[key] = self._look(key, found, now)
        for key, words in self._wanted.causes().items():
            observed.setdefault(key, Observed(True, None, *words))
        return observed

    def launch(self, spec: AttemptSpec) -> None:
        self._wanted.add(spec)

    def end(self, trial: int, attempt: int) -> None:
        key = (trial, attempt)
        found = self._objects.get(key)
        if found is None:
            if self._wanted.withdraw(key):
                self._settle(key, Outcome.INTERRUPTED, "it never began")
        elif found.job is not None:
            self._told.add(key)
            self._delete(key, found.job)

    def forget(self, trial: int, attempt: int) -> None:
        key = (trial, attempt)
        self._wanted.forget(key)
        for known in (self._seen, self._stuck):
            known.pop(key, None)
        self._told.discard(key)
        self._forgotten.add(key)
        self.endings.forget(key)
        if (grants := self.jobs.grants) is not None:
            self.calls.make(("revoke", key), lambda: grants.revoke(trial))
        if (found := self._objects.get(key)) is not None and found.job is not None:
            self._delete(key, found.job)

    def notes(self) -> list[str]:
        quiet = self.world.quiet
        if quiet > AWAY and not self._away:
            self._notes.append(
                f"the Kubernetes API has not answered for {quiet:.0f} s; trials go on, nothing new is begun"
            )
        self._away = quiet > AWAY
        self._notes += self.image.notes
        self.image.notes.clear()
        self._notes += [f"tried again: {text}" for text in list(self.calls.faults.values())]
        self.calls.faults.clear()
        notes, self._notes = self._notes, []
        return notes

    def wait(self, seconds: float) -> None:
        """News comes in showers: one pass is for all of what falls together."""
        if self.changed.wait(seconds):
            time.sleep(min(GATHER, seconds))
        self.changed.clear()

    def abandon(self) -> None:
        self.calls.stop()
        self.world.stop()

    def close(self, grace: float) -> None:
        """What is left goes with its owner; pods may use their grace after we are gone."""
        self.calls.finish(grace)
        try:
            self.jobs.disown()
        except (OSError, AbohbError) as error:  # it is swept away when the study is opened again
            self._notes.append(
                f"Jobs of the study may be left ({error}). To end them: kubectl delete configmap"
                f" {self.jobs.owner_name} --namespace {self.jobs.api.namespace}"
            )
        self.world.stop()

    def _delete(self, key: Key, job: Mapping[str, Any]) -> None:
        self.calls.make(("delete", key), lambda: self.jobs.delete(job), rest=AGAIN)

    # -- one attempt ----------------------------------------------------------------------------

    def _look(self, key: Key, found: Objects, now: float) -> Observed:
        before, seen, at = self._seen.get(key, (None, None, 0.0))
        late = seen is not None and seen.phase != "running" and now - at >= LOOK
        if seen is None or before is not found or late:
            events = self.warnings.about(found.uids()) if seen and lingers(seen, now) else ()
            seen = diagnose(found.job, found.pods, now, gone=found.gone, events=events)
            if seen.image_id:
                self.image.saw(key, seen.image_id)
            self._seen[key] = found, seen, now  # only now: the store may be away
            if seen.phase == "ending":
                self.endings.keep_log(key, seen)
        if _ran(seen, now):
            self.image.worked()
        self._renew(key, found, seen)
        if seen.phase == "ended":
            end = self.endings.verdict(key, self._excused(seen), by_us=key in self._told)
            return self._ended(end) if end is not None else Observed(True)
        if seen.phase == "running":
            self._stuck.pop(key, None)
        if seen.phase == "ending" and seen.hopeless and found.job is not None:
            self._delete(key, found.job)  # it has made another pod, which may wait for ever
        return self._waits(key, seen, now) if seen.cause else Observed(True)

    def _waits(self, key: Key, seen: Seen, now: float) -> Observed:
        death, kind = seen.death, seen.cause.partition(":")[0]
        final = death is not None and death.cause in IMPOSSIBLE
        trouble, since = self._stuck.get(key, (None, now))
        if trouble != (kind, final):  # each has its grace: it may have waited long for something else
            since = now if final else seen.since or now
            self._stuck[key] = (kind, final), since
        late = seen.hopeless or now - since > self.image_grace
        if late and final and (death := self._excused(seen).death) is not None:
            self.endings.settle(judge(None, death, *key))
        elif late and seen.cause.startswith("agent:"):
            self._settle(key, Outcome.LOST, f"{seen.cause}: {seen.message}")
        if (end := self.endings.settled().get(key)) is not None:
            self.end(*key)
            return self._ended(end)
        if now - since <= BRIEF:
            return Observed(True)
        if not final and (kind != "starting" or death is not None):  # its image is not just on the way
            self.image.ended(key)  # should it scout: another one may find room
        return Observed(True, None, seen.topic, seen.message)

    def _excused(self, seen: Seen) -> Seen:
        """Where others of the study have run it is the node, or the registry just now: not the image."""
        if seen.death is None or seen.death.cause not in IMPOSSIBLE or not self.image.works:
            return seen
        return replace(seen, death=replace(seen.death, cause=Outcome.DISRUPTION))

    def _ended(self, end: AttemptEnded) -> Observed:
        self.image.ended((end.trial, end.attempt))
        return Observed(False, end)

    def _settle(self, key: Key, outcome: Outcome, message: str) -> None:
        self.endings.settle(judge(None, Death(cause=outcome, evidence={"message": message}), *key))

    def _renew(self, key: Key, found: Objects, seen: Seen) -> None:
        grants, job = self.jobs.grants, found.job
        if grants is None or job is None or seen.phase == "ended":
            return
        grants.known(key[0], job["metadata"].get("annotations") or {})
        if seen.phase == "pending" and grants.ended(key[0]):
            self._settle(key, Outcome.INTERRUPTED, "its credentials came to their end while it waited")
            self.end(*key)
        elif seen.phase != "pending" and grants.due(key[0]):  # a pod begins with those it was made with
            self.calls.make(("renew", key[0]), lambda: grants.renew(key[0]))

    def _clear(self) -> None:
        """Remove what is forgotten, until the cluster says that it is gone."""
        gone: set[Key] = set()
        for key in self._forgotten:
            found = self._objects.get(key)
            if found is None or found.removed:
                gone.add(key)
            elif found.job is not None:
                self._delete(key, found.job)
        self._forgotten -= gone
        for key in gone:
            self._objects.pop(key, None)  # not looked at once more, as an attempt that has just ended
        self.world.forget(gone)


def _ran(seen: Seen, now: float) -> bool:
    """Whether its training code has, for sure."""
    if seen.started is None:
        return False
    if seen.phase == "running":
        return now - seen.started > BEGUN
    return seen.death is not None and seen.death.cause not in IMPOSSIBLE
