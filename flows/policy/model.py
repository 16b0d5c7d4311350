"""What a policy may say: the file that ABOHB_POLICY names, and the chart's values.policy. docs/policy.md."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, Field

from flows.policy.images import check_registry
from flows.policy.patch import steps_of
from flows.study.kubernetes import Endpoint, Kubernetes, ObjectName
from flows.study.parts import PLAIN, Text, check_store


def check_field(value: str) -> str:
    steps_of(value)
    return value


def check_base(value: str) -> str:
    if not value.startswith("s3://"):
        raise ValueError(f"got {value!r}, expected s3://bucket or s3://bucket/prefix")
    return check_store(value)


Registry: TypeAlias = Annotated[str, AfterValidator(check_registry)]
PodField: TypeAlias = Annotated[str, AfterValidator(check_field)]
StoreBase: TypeAlias = Annotated[str, AfterValidator(check_base)]


class Policy(BaseModel):
    """What a study may ask for, and what it gets where it says nothing."""

    model_config = PLAIN
    registries: list[Registry] = Field(
        [],
        title="Registries",
        description="Where images may be from, by their first parts; empty: anywhere.",
    )
    patch_fields: list[PodField] = Field(
        [],
        title="Patch fields",
        description="What a patch may set: spec.affinity, spec.containers[trial].env.",
    )
    namespaces: list[ObjectName] = Field(
        [], title="Namespaces", description="Where Jobs may run, besides the platform's own."
    )
    stores: list[StoreBase] = Field(
        [], title="Stores", description="Where studies may be kept; empty: at ABOHB_STORE alone."
    )
    store_endpoints: list[Endpoint] = Field(
        [], title="Store endpoints", description="What store_endpoint may be, besides the platform's own."
    )
    store_roles: list[Text] = Field([], title="Store roles", description="What store_role may be.")
    secrets: list[ObjectName] = Field(
        [], title="Secrets", description="Those that pull_secrets, store_secret and a patch may name."
    )
    service_accounts: list[ObjectName] = Field(
        [], title="Service accounts", description="What service_account may be."
    )
    priority_classes: list[ObjectName] = Field(
        [], title="Priority classes", description="What priority_class may be."
    )
    tolerations: list[Text] = Field(
        [], title="Tolerations", description="Keys of the taints that studies may tolerate."
    )
    max_gpus: int | None = Field(None, title="GPUs", description="The most that a trial may have.", ge=0)
    max_workers: int | None = Field(
        None, title="Workers", description="The most trials of a study at once.", ge=1
    )
    local: bool = Field(
        False, title="Local", description="Whether trials may be processes beside the controller."
    )
    defaults: Kubernetes = Field(
        Kubernetes.model_validate({}),
        title="Defaults",
        description="Fields of `kubernetes`, for studies that do not set them.",
    )
