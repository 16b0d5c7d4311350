"""Making and removing the Jobs of a study, and the ConfigMap that owns them. Everything may be done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.attempt import AttemptSpec
from operators.kube.api import Api
from operators.kube.errors import CONFLICT, ApiError
from operators.kube.grants import EXPIRE, Grants
from operators.kube.manifest import config_map, job, owner_reference, same
from operators.kube.settings import PodSettings
from operators.s3_credentials import Credentials

FORBIDDEN = 403


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
    settings: Callable[[AttemptSpec], PodSettings]
    grants: Grants | None  # None: agents have a Secret, or the platform's own identity
    _owner: Mapping[str, Any] = field(init=False)

    def own(self) -> None:
        """Make sure of the owner; what an earlier controller has left under it stays."""
        wanted, name = config_map(self.study), self.owner_name
        existing = self.api.get("configmaps", name)
        while existing is None or existing["metadata"].get("deletionTimestamp"):
            try:
                existing = self.api.create("configmaps", wanted)
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
                existing = self.api.get("configmaps", name)
        self._owner = owner_reference(existing)

    @property
    def owner_name(self) -> str:
        return str(config_map(self.study)["metadata"]["name"])

    def example(self, spec: AttemptSpec, image: str) -> dict[str, Any]:
        """A Job to ask the API server about: it needs no owner. AbohbError: it cannot be."""
        wanted = job(spec, self.settings(spec), {}, {"uid": ""}, image)
        del wanted["metadata"]["ownerReferences"]
        return wanted

    def create(self, spec: AttemptSpec, image: str) -> Refusal | None:
        """OSError: the API or the store is away."""
        granted = self.grants.issue(spec.trial) if self.grants else None
        wanted = job(spec, self.settings(spec), variables(granted), self._owner, image)
        if granted is not None and granted.expires is not None:
            wanted["metadata"]["annotations"][EXPIRE] = f"{granted.expires:.0f}"
        try:
            self.api.create("jobs", wanted)
        except ApiError as error:
            if error.status == CONFLICT:
                return self._taken(wanted)
            passing = error.status == FORBIDDEN and "exceeded quota" in error.message
            return Refusal("quota" if passing else "refused", error.message, passing)
        return None

    def _taken(self, wanted: Mapping[str, Any]) -> Refusal | None:
        name = wanted["metadata"]["name"]
        existing = self.api.get("jobs", name)
        if existing is None:
            return Refusal("name", f"Job {name} is being removed", passing=True)
        differs = same(existing, wanted)
        if not differs:
            return None
        going = existing["metadata"].get("deletionTimestamp") or "earlier object" in differs
        return Refusal(
            "name",
            f"there is a Job {name} already, and {differs}. Delete it, or give the study another name.",
            passing=bool(going),
        )

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
