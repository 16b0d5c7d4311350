"""The section `kubernetes` of a study: what its pods ask for. Read only with `--on kubernetes`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from flows.study.parts import PLAIN, CategoricalParameter, OrdinalParameter, Seconds, Text, check_image
from flows.study.words import Path, nearest, shown
from hpo_engine.types import Config


def check_quantity(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?([munkMGTPE]|[KMGTPE]i|[eE]\d+)?", value):
        raise ValueError(f"got {value!r}, expected a quantity such as 500m, 2 or 4Gi")
    return value


_UNITS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3}
_UNITS |= {unit: 1000.0 ** (power + 2) for power, unit in enumerate("MGTPE")}
_UNITS |= {f"{unit}i": 1024.0 ** (power + 1) for power, unit in enumerate("KMGTPE")}
_UNITS["K"] = 1e3


def amount_of(quantity: str) -> float:
    """A quantity as a number: of bytes, or of CPUs.

    >>> amount_of("500m"), amount_of("4Gi"), amount_of("2e3")
    (0.5, 4294967296.0, 2000.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]\d+)?)([A-Za-z]*)", quantity)
    return float(found[1]) * _UNITS.get(found[2], 1.0) if found else 0.0


def check_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", value) or len(value) > 253:
        raise ValueError(f"got {value!r}, expected the name of an object: a-z, 0-9, '-' and '.'")
    return value


def check_endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+/?", value):
        raise ValueError(f"got {value!r}, expected http://host:port or https://host")
    return value.rstrip("/")


def _texted(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Quantity: TypeAlias = Annotated[str, BeforeValidator(_texted), AfterValidator(check_quantity)]
ObjectName: TypeAlias = Annotated[str, AfterValidator(check_name)]
ImageName: TypeAlias = Annotated[str, AfterValidator(check_image)]
Endpoint: TypeAlias = Annotated[str, AfterValidator(check_endpoint)]


class Gpus(BaseModel):
    """GPUs of one trial: a number, or a number for each value of a hyper-parameter."""

    model_config = PLAIN
    count: int = Field(0, title="GPUs", description="How many each trial gets.", ge=0)
    by: str | None = Field(None, title="By", description="A hyper-parameter that decides how many.")
    values: dict[Text, int] = Field({}, title="Values", description="GPUs for each value of `by`.")
    resource: str = Field(
        "nvidia.com/gpu", title="Resource", description="What the cluster calls a GPU.", min_length=1
    )

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, data: object) -> object:
        return {"count": data} if isinstance(data, int) and not isinstance(data, bool) else data

    @model_validator(mode="after")
    def _one_way(self) -> Gpus:
        if self.by is None and self.values:
            raise ValueError("has values and no `by`; name the hyper-parameter that they are values of")
        if self.by is not None and self.count:
            raise ValueError("has both count and by; give one of them")
        return self

    def of(self, config: Config) -> int:
        """How many a configuration gets; a value that is not listed, or does not exist for it: `count`."""
        return self.count if self.by is None else self.values.get(as_text(config.get(self.by)), self.count)


class Kubernetes(BaseModel):
    """What the pods of the trials ask for, and what they are allowed."""

    model_config = PLAIN
    namespace: ObjectName | None = Field(
        None, title="Namespace", description="Where the Jobs run; else that of the kube context, or our own."
    )
    agent_image: ImageName | None = Field(
        None,
        title="Agent image",
        description="The image of the agent beside each trial; else the variable ABOHB_AGENT_IMAGE.",
    )
    gpus: Gpus = Field(Gpus(), title="GPUs", description="A number, or one for each value of a parameter.")
    requests: dict[str, Quantity] = Field(
        {"cpu": "1", "memory": "1Gi"}, title="Requests", description="What a trial's pod asks for."
    )
    limits: dict[str, Quantity] = Field({}, title="Limits", description="What it may not exceed.")
    node_selector: dict[str, Text] = Field(
        {}, title="Node selector", description="Labels of the nodes, with templates as in args."
    )
    tolerations: list[dict[str, Any]] = Field(
        [], title="Tolerations", description="Taints that trials tolerate, as in a pod."
    )
    pull_secrets: list[ObjectName] = Field(
        [], title="Pull secrets", description="Secrets for the registry of the image, by name."
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, title="Pull policy", description="When the image is pulled; else as the cluster does it."
    )
    queue_name: ObjectName | None = Field(None, title="Queue", description="The Kueue queue of the Jobs.")
    priority_class: ObjectName | None = Field(
        None, title="Priority class", description="The PriorityClass of the pods."
    )
    service_account: ObjectName | None = Field(
        None, title="Service account", description="Of the pods; its token is not mounted."
    )
    user: int = Field(1000, title="User", description="The numeric user that agent and trial run as.", ge=1)
    shm: Quantity = Field("1Gi", title="Shared memory", description="Size of /dev/shm.")
    grace: Seconds = Field(60.0, title="Grace", description="From SIGTERM to SIGKILL when a pod is deleted.")
    deadline: Seconds = Field(
        259200.0, title="Deadline", description="An attempt that runs for longer is ended: a backstop."
    )
    keep_jobs: Seconds = Field(
        21600.0, title="Keep Jobs", description="A Job that nobody has taken notice of is removed after that."
    )
    image_grace: Seconds = Field(
        90.0, title="Image grace", description="For how long an image may fail to be pulled."
    )
    store_endpoint: Endpoint | None = Field(
        None, title="Store endpoint", description="The object storage as pods reach it; else as we do."
    )
    store_secret: ObjectName | None = Field(
        None,
        title="Store secret",
        description="A Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for a store without STS.",
    )
    store_role: str | None = Field(
        None, title="Store role", description="The ARN of the role that STS is asked for; MinIO needs none."
    )
    patch: dict[str, Any] = Field(
        {}, title="Patch", description="A strategic-merge patch of the pod template: {spec: {...}}."
    )


def as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def kubernetes_problems(draft: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What the section must have in common with the search space; see `flows.study.checks`."""
    section, specs = draft.get("kubernetes"), draft.get("space")
    if section is None or specs is None or section.gpus.by is None:
        return
    by, values = section.gpus.by, section.gpus.values
    spec = specs.get(by)
    if by not in specs:
        yield ("kubernetes", "gpus", "by"), f"{by!r} is no hyper-parameter{nearest(by, specs)}"
    elif spec is not None and not isinstance(spec, CategoricalParameter | OrdinalParameter):
        yield ("kubernetes", "gpus", "by"), f"{by!r} is {spec.type}, expected a categorical or an ordinal one"
    elif spec is not None:
        known = [as_text(value) for value in spec.values]
        for value in values:
            if value not in known:
                yield (
                    ("kubernetes", "gpus", "values", value),
                    f"is no value of {by}{nearest(value, known)}",
                )
        for missing in (value for value in known if value not in values):
            yield ("kubernetes", "gpus", "values"), f"lacks {shown(missing)}, a value of {by}"


def cluster_problems(draft: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a study lacks to run on a cluster; fields that are not valid are passed over."""
    image, store, section = draft.get("image", ""), draft.get("store"), draft.get("kubernetes")
    if image is None:
        yield "image", "is missing; on Kubernetes a trial is a container of an image"
    if store is not None and not store.startswith("s3://"):
        yield "store", f"is {store}; pods share no directory with us, give s3://bucket/prefix"
    if section is not None and not (section.agent_image or os.environ.get("ABOHB_AGENT_IMAGE")):
        message = "is missing, and so is the variable ABOHB_AGENT_IMAGE (docs/kubernetes.md)"
        yield "kubernetes.agent_image", message
