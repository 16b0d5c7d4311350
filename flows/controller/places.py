"""Where a study runs: on this machine, or on a Kubernetes cluster."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flows.controller.backend import Backend
from flows.policy.apply import allowed
from flows.study.file import Problem, StudyError
from flows.study.local import local_problems
from flows.study.model import Study
from flows.study.store import open_store
from flows.views.effort import ApiCalls
from flows.views.view import Best
from operators.attempt import trial_prefix
from operators.checkpoints import Checkpoints
from operators.local import LocalBackend
from operators.store import Store

PLACES = ("local", "kubernetes")


class Place(Protocol):
    @property
    def study(self) -> Study: ...

    @property
    def store(self) -> Store: ...

    @property
    def poll(self) -> float:
        """Seconds between passes in which nothing happens."""

    @property
    def lasting(self) -> bool:
        """Whether trials go on without a controller, for the next one to adopt."""

    @property
    def uri(self) -> str:
        """The study in the store, for people."""

    def check(self) -> None:
        """AbohbError: all that keeps the study from running there, at once."""

    def backend(self) -> Backend:
        """Begin to act there; called once the study is ours to control."""

    def checkpoint(self, best: Best) -> str:
        """Where the user finds the checkpoint with which the best loss was measured; "" if it wrote none."""

    def sweep(self) -> None:
        """The study has ended: remove what an earlier controller may have left of it."""

    def calls(self) -> ApiCalls:
        """How often its API was called, by verb and code."""


def place_for(study: Study, on: str, *, context: str | None = None) -> Place:
    """AbohbError: there is no such place, or the policy (docs/policy.md) does not let the study run there."""
    if on == "kubernetes":
        from flows.controller.kubernetes import KubernetesPlace  # the client takes its time to import

        return KubernetesPlace.connect(study, context)
    if study.store.startswith("s3://"):
        problem = f"is {study.store}: object storage is used with --on kubernetes, here give file:///dir"
        raise StudyError([Problem("store", None, problem)])
    return LocalPlace(allowed(study, os.environ, local=True))


@dataclass(frozen=True)
class LocalPlace:
    """Processes of this machine, a directory as store."""

    study: Study
    poll: float = 0.1  # a pass with no news reads one directory or two
    lasting: bool = False
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", open_store(self.study))

    def check(self) -> None:
        if problems := local_problems(self.study):
            raise StudyError(problems)
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        return self.study.store_path() / self.study.name

    @property
    def uri(self) -> str:
        return self.folder.as_uri()

    def backend(self) -> Backend:
        threads = max(1, (os.cpu_count() or 1) // self.study.workers)
        return LocalBackend(self.folder / "work", self.study.store_path().as_uri(), threads=threads)

    def checkpoint(self, best: Best) -> str:
        """Laid out as files beside the journal."""
        target = self.folder / "best"
        partial = target.with_name(f".best-{os.getpid()}")
        checkpoints = Checkpoints(self.store, trial_prefix(self.study.name, best.trial))
        manifest = checkpoints.restore_at(best.resource, partial)
        shutil.rmtree(target, ignore_errors=True)  # an earlier best's
        if manifest is None:
            return ""
        partial.rename(target)
        return str(target)

    def sweep(self) -> None: ...

    def calls(self) -> ApiCalls:
        return {}
