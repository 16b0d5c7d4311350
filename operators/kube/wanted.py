"""Attempts that shall have a Job, until one is seen: made again and again, and never twice."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from hpo_engine.types import AbohbError, Outcome
from operators.attempt import AttemptSpec, claim_key
from operators.kube.calls import Calls
from operators.kube.endings import Endings
from operators.kube.errors import ApiAwayError
from operators.kube.image import PinnedImage
from operators.kube.jobs import Jobs, Refusal
from operators.kube.manifest import UNMAKEABLE
from operators.store import Store
from operators.verdict import Death, judge

Key = tuple[int, int]  # (trial, attempt)
UNSEEN = 60.0  # seconds after which a Job that was created and never seen is asked for again
REFUSED = 10.0  # seconds after which a Job that was refused for now, as by a quota, is asked for again


@dataclass
class Wanted:
    study: str
    store: Store
    jobs: Jobs
    image: PinnedImage
    endings: Endings
    calls: Calls
    grace: float  # seconds that a Job may be refused where others were made
    clock: Callable[[], float]
    _specs: dict[Key, AttemptSpec] = field(default_factory=dict, init=False)
    _made: dict[Key, float] = field(default_factory=dict, init=False)  # when its Job was created
    _refused: dict[Key, tuple[Refusal, float]] = field(default_factory=dict, init=False)  # and since when

    def add(self, spec: AttemptSpec) -> None:
        key = (spec.trial, spec.attempt)
        self._specs.setdefault(key, spec)
        self._pursue(key)

    def look(self, seen: Collection[Key]) -> None:
        """Those seen have become real; the others are pursued."""
        for key in list(self._specs):
            if key in seen:
                self.forget(key)
            else:
                self._pursue(key)

    def causes(self) -> dict[Key, tuple[str, str]]:
        """What each waits for, and the words for it; ("", "") of one that is under way."""
        known = dict(self._refused)  # threads add to it
        refused = {key: (refusal.cause, refusal.message) for key, (refusal, _) in known.items()}
        return {key: refused.get(key, ("", "")) for key in self._specs}

    def withdraw(self, key: Key) -> bool:
        """Whether it was wanted and has no Job, nor will have."""
        never = key in self._specs and key not in self._made and not self.calls.flying(("create", key))
        if never:
            self.forget(key)
        return never

    def forget(self, key: Key) -> None:
        for known in (self._specs, self._made, self._refused):
            known.pop(key, None)

    def _pursue(self, key: Key) -> None:
        if self.clock() - self._made.get(key, 0.0) < UNSEEN or key in self.endings.settled():
            return
        if image := self.image.reference(key):
            spec = replace(self._specs[key], workdir=None)
            self.calls.make(("create", key), lambda: self._create(key, spec, image), rest=REFUSED)

    def _create(self, key: Key, spec: AttemptSpec, image: str) -> None:
        if self.store.get(claim_key(self.study, *key)) is not None:  # a pod had it, or has it
            if self.jobs.exists(spec):  # a watch that is silent says nothing
                self._made[key] = self.clock()
                return
            death = Death(cause=Outcome.INTERRUPTED, evidence={"message": "its Job is gone"})
            self.endings.settle(judge(self.endings.stored(key), death, *key))
            return
        try:
            refusal = self.jobs.create(spec, image)
        except ApiAwayError as error:
            if 400 <= error.status < 500:  # not by the server itself, but by what stands before it
                self._refuse(key, Refusal("refused", str(error), passing=True))
            raise
        except AbohbError as error:  # a manifest that cannot be; else keys or rights, which somebody may mend
            refusal = Refusal("refused", str(error), passing=not isinstance(error, UNMAKEABLE))
        if refusal is None:
            self._refused.pop(key, None)
            self._made[key] = self.clock()
        else:
            self._refuse(key, refusal)

    def _refuse(self, key: Key, refusal: Refusal) -> None:
        """Where training code of the study has run, Jobs like this were made: it may pass, if it is soon."""
        before, since = self._refused.get(key, (refusal, self.clock()))
        since = since if before.passing == refusal.passing else self.clock()
        self._refused[key] = refusal, since
        if refusal.passing or (self.image.works and self.clock() - since <= self.grace):
            return
        cause = Outcome.DISRUPTION if self.image.works else Outcome.POD_SPEC
        self.endings.settle(judge(None, Death(cause=cause, evidence={"message": refusal.message}), *key))
