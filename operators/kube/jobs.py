"""Making and removing the Jobs of a study, and the ConfigMap that owns them. Everything may be done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.attempt import AttemptSpec
from operators.kube.api import Api
from operators.kube.errors import CONFLICT, UNAUTHORIZED, ApiAwayError, ApiError, spent
from operators.kube.grants import EXPIRE, Grants
from operators.kube.manifest import ManifestError, config_map, job, job_name, owner_reference, same
from operators.kube.settings import STORE, STUDY, PodSettings
from operators.s3_credentials import Credentials

GOING = 15.0  # seconds to wait for an earlier owner to be gone: its Jobs may have to go first
OWNED = 5.0  # seconds for which the owner is trusted to be there: Jobs without one are removed at once


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a Job was not made. `passing`: it may be made later."""

    cause: str
    message: str
    passing: bool = False


@dataclass
class Jobs:
    api: Api
    study: str
    store: str  # its URL: two studies may have one name, in two stores
    settings: Callable[[AttemptSpec], PodSettings]
    grants: Grants | None  # None: agents have a Secret, or the platform's own identity
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _owner: Mapping[str, Any] = field(init=False)
    _owned: float = field(default=0.0, init=False)  # when it was last there

    def own(self) -> None:
        """Make sure of the owner; what an earlier controller has left under it stays."""
        wanted, name, began = config_map(self.study, self.store), self.owner_name, self.clock()
        existing = self.api.get("configmaps", name)
        while existing is None or existing["metadata"].get("deletionTimestamp"):
            try:
                existing = self.api.create("configmaps", wanted)
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
                if self.clock() - began > GOING:
                    raise ApiAwayError(f"an earlier ConfigMap {name} is still being removed") from error
                self.sleep(0.5)
                existing = self.api.get("configmaps", name)
        if (existing["metadata"].get("labels") or {}).get(STUDY) != self.study:
            raise ManifestError(
                f"there is a ConfigMap {name} already, and it is not of this study: "
                "give the study another name"
            )
        theirs = (existing["metadata"].get("annotations") or {}).get(STORE, self.store)
        if theirs != self.store:
            raise ManifestError(
                f"namespace {self.api.namespace} has a study {self.study!r} with its records in {theirs},"
                f" not in {self.store}: give the study another name; or, if that one is over: kubectl delete"
                f" configmap {name} -n {self.api.namespace}"
            )
        self._owner, self._owned = owner_reference(existing), self.clock()

    @property
    def owner_name(self) -> str:
        return str(config_map(self.study, self.store)["metadata"]["name"])

    def example(self, spec: AttemptSpec, image: str) -> dict[str, Any]:
        """A Job to ask the API server about: it needs no owner. AbohbError: it cannot be."""
        wanted = job(spec, self.settings(spec), {}, {"uid": ""}, image)
        del wanted["metadata"]["ownerReferences"]
        return wanted

    def create(self, spec: AttemptSpec, image: str) -> Refusal | None:
        """OSError: the API or the store is away."""
        if self.clock() - self._owned > OWNED:  # somebody may have deleted it
            self.own()
        granted = self.grants.issue(spec.trial) if self.grants else None
        wanted = job(spec, self.settings(spec), variables(granted), self._owner, image)
        if granted is not None and granted.expires is not None:
            wanted["metadata"]["annotations"][EXPIRE] = f"{granted.expires:.0f}"
        try:
            self.api.create("jobs", wanted)
        except ApiError as error:
            if error.status == CONFLICT:
                return self._taken(wanted, spec.trial)
            quota = spent(error)
            # Not the Job is at fault then, but our own rights.
            ours = error.status == UNAUTHORIZED or "cannot create resource" in error.message
            return Refusal("quota" if quota else "refused", error.message, passing=quota or ours)
        return None

    def _taken(self, wanted: Mapping[str, Any], trial: int) -> Refusal | None:
        name = wanted["metadata"]["name"]
        existing = self.api.get("jobs", name)
        if existing is None:
            return Refusal("name", f"Job {name} is being removed", passing=True)
        differs = same(existing, wanted)
        if not differs:
            if self.grants:  # it was made with other keys than those just issued
                self.grants.adopted(trial, existing["metadata"].get("annotations") or {})
            return None
        going = existing["metadata"].get("deletionTimestamp") or "earlier object" in differs
        return Refusal(
            "name",
            f"there is a Job {name} already, and {differs}. Delete it, or give the study another name.",
            passing=bool(going),
        )

    def exists(self, spec: AttemptSpec) -> bool:
        """By the API server's own word. OSError: it is away."""
        return self.api.get("jobs", job_name(spec.study, spec.trial, spec.attempt)) is not None

    def delete(self, job: Mapping[str, Any]) -> None:
        """Its pods go with it, after their grace."""
        self.api.delete("jobs", job["metadata"]["name"], uid=job["metadata"]["uid"])

    def disown(self) -> None:
        """Everything that is left of the study goes, once the cluster has taken notice."""
        self.api.delete("configmaps", self._owner["name"], uid=self._owner["uid"])


def variables(granted: Credentials | None) -> dict[str, str] | None:
    """Keys as the environment of an agent."""
    if granted is None:
        return None
    return {
        "AWS_ACCESS_KEY_ID": granted.access_key,
        "AWS_SECRET_ACCESS_KEY": granted.secret_key,
        "AWS_SESSION_TOKEN": granted.token,
        "ABOHB_KEYS_EXPIRE": str(granted.expires or ""),
    }
