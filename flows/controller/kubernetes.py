"""A cluster as the place of a study: its settings, what must hold before it starts, and its backend."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from flows.controller.backend import AwayError, Backend
from flows.controller.build import attempt_spec
from flows.controller.pod_settings import made_of, pod_settings
from flows.policy.apply import allowed
from flows.study.file import Problem, StudyError
from flows.study.kubernetes import cluster_problems
from flows.study.model import Study
from flows.study.store import open_store
from flows.views.effort import ApiCalls
from flows.views.view import Best
from hpo_engine.types import AbohbError, Config, Trial
from operators.attempt import AttemptSpec, trial_prefix
from operators.checkpoints import Checkpoints
from operators.kube.api import Api, connect
from operators.kube.backend import KubernetesBackend
from operators.kube.calls import Calls
from operators.kube.endings import Endings
from operators.kube.grants import Grants
from operators.kube.image import PinnedImage
from operators.kube.jobs import Jobs
from operators.kube.preflight import preflight
from operators.kube.settings import PodSettings, selector
from operators.kube.slim import slim
from operators.kube.warnings import Warnings
from operators.kube.watch import Watcher
from operators.kube.world import World
from operators.s3 import S3Store
from operators.s3_credentials import Credentials
from operators.store import StoreError
from operators.stores import proves_put_once
from operators.sts import HOUR, assume, policy

LIFE = 12 * HOUR  # of a trial's keys, renewed at half of it; roles of AWS allow an hour
SYNC = 30.0  # seconds that the first lists may take
SKEW = 240.0  # seconds: S3 refuses a signature that is older than 15 minutes


class PreflightError(AbohbError):
    """What keeps a study from running on this cluster, all of it."""


@dataclass(frozen=True)
class KubernetesPlace:
    study: Study
    store: S3Store
    api: Api
    poll: float = 1.0  # with no news; each watch event begins a pass at once
    lasting: bool = True

    @classmethod
    def connect(cls, study: Study, context: str | None) -> KubernetesPlace:
        """StudyError: it is not for a cluster, or not allowed. AbohbError: no cluster or store is reached."""
        problems = [Problem(path, None, text) for path, text in cluster_problems(study.draft())]
        try:
            study = allowed(study, os.environ)
        except StudyError as error:
            problems += error.problems
        if problems:
            raise StudyError(problems)
        return cls.reach(study, context)

    @classmethod
    def reach(cls, study: Study, context: str | None = None) -> KubernetesPlace:
        """Also of a study that may not run there, or no longer: to end what there is of it."""
        store = open_store(study)
        assert isinstance(store, S3Store)  # by its URL
        namespace = study.kubernetes.namespace or os.environ.get("ABOHB_TRIALS_NAMESPACE") or None
        return cls(study, store, connect(context, namespace))

    @property
    def uri(self) -> str:
        return f"{self.study.store}/{self.study.name}"

    def check(self) -> None:
        """PreflightError, or AwayError, lists everything at once; nothing is left behind by asking."""
        told: list[str] = []
        spec = attempt_spec(self.study, Trial(0, self._example(), self.study.resource.min, attempt=1))
        try:
            job = self._jobs().example(spec, self._image)
        except AbohbError as error:  # a patch that cannot be applied
            told, job = [str(error)], None
        found = preflight(self.api, job)
        told += found.problems
        away = found.away
        try:
            told += self._store_problems()
        except OSError as error:
            told.append(f"store: {error}")
            away = True
        if told:
            raise (AwayError if away else PreflightError)(
                f"study {self.study.name!r} cannot run in namespace {self.api.namespace!r}:\n"
                + "\n".join(f"  {line}" for line in told)
            )

    def backend(self) -> Backend:
        changed = threading.Event()
        study, store, jobs = self.study, self.store, self._jobs()
        jobs.own()
        watchers = [
            Watcher(self.api, kind, selector(study.name), changed.set, slim) for kind in ("jobs", "pods")
        ]
        for watcher in watchers:
            watcher.start()
        calls = Calls(changed.set)
        for watcher in watchers:
            if not watcher.synced.wait(SYNC):
                raise AwayError(f"the Kubernetes API at {self.api.host} does not answer: {watcher.away()[1]}")
        return KubernetesBackend(
            study.name,
            store,
            World(*watchers),
            jobs,
            PinnedImage(store, study.name, self._image, made_of(study)),
            Endings(self.api, store, study.name, calls),
            calls,
            Warnings(self.api, calls),
            changed,
            image_grace=study.kubernetes.image_grace,
        )

    def checkpoint(self, best: Best) -> str:
        """Its files stay in the store: `abohb best --to` fetches them."""
        prefix = trial_prefix(self.study.name, best.trial)
        manifest = Checkpoints(self.store, prefix).manifest_at(best.resource)
        return "" if manifest is None else f"{self.study.store}/{prefix}checkpoints/{best.resource:08d}.json"

    def sweep(self) -> None:
        """What a controller that was killed amid its end has left.

        OSError: the cluster is away. AbohbError: it refuses us, or what is there is another study's.
        """
        jobs = self._jobs()
        if self.api.get("configmaps", jobs.owner_name) is not None:
            jobs.own()
            jobs.disown()

    def calls(self) -> ApiCalls:
        calls: Counter[tuple[str, int]] = Counter()
        for (verb, _, status), count in self.api.calls.items():
            calls[verb, status] += count
        return calls

    # -- the parts -----------------------------------------------------------------------------------

    @property
    def _image(self) -> str:
        return self.study.image or ""

    def _jobs(self) -> Jobs:
        return Jobs(self.api, self.study.name, self.study.store, self.settings, self._grants)

    @cached_property
    def _grants(self) -> Grants | None:
        return (
            None if self.study.kubernetes.store_secret else Grants(self.store, self.study.name, self._assume)
        )

    def _assume(self, trial: int) -> Credentials:
        store, name = self.store, self.study.name
        ask = partial(
            assume,
            store,
            policy(store.bucket, store.prefix, name, trial),
            name=f"{name}-{trial}",
            role=self.study.kubernetes.store_role,
        )
        if store.place.aws:
            return ask(seconds=HOUR)
        try:
            return ask(seconds=LIFE)
        except StoreError as error:
            if "duration" not in str(error).lower():
                raise
            return ask(seconds=HOUR)  # there are stores other than AWS whose roles allow no more

    def _example(self) -> Config:
        import numpy as np

        space = self.study.search_space()
        return (
            self.study.initial[0] if self.study.initial else space.decode(np.full((1, space.width), 0.5))[0]
        )

    def _store_problems(self) -> Iterator[str]:
        try:
            if problem := proves_put_once(self.store, self.study.name):
                yield f"store: {problem}"
            if abs(skew := self.store.clock_skew()) > SKEW:
                yield f"store: its clock and ours are {abs(skew):.0f} s apart; set the clocks (NTP)"
            if self._grants is not None:
                self._assume(0)
        except StoreError as error:
            yield f"store: {error}"

    def settings(self, spec: AttemptSpec) -> PodSettings:
        return pod_settings(self.study, spec, self.store.place, self.api.namespace)
