"""A Prefect Kubernetes work pool in which each study is a pod, made from a Job of the administrator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from hpo_engine.types import AbohbError

KIND = "kubernetes"
ASKED = {"parallelism": 1, "completions": 1}  # prefect-kubernetes wants them there, Kubernetes ignores them
POD_STARTS = 600  # seconds that a pod of a study may take to start: it may wait for a node


class TemplateError(AbohbError):
    """The Job of a work pool cannot be read."""


def make_pool(client: SyncPrefectClient, name: str, template: Path) -> None:
    """Make the work pool as it should be."""
    wanted = base_job(template)
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=KIND, base_job_template=wanted))
        return
    if pool.base_job_template != wanted:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=wanted))


def base_job(template: Path) -> dict[str, Any]:
    """The pool's base job template. It has no variables: whoever starts a run chooses nothing of its pod."""
    try:
        manifest = yaml.safe_load(template.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TemplateError(f"the Job of the work pool cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != "Job":
        raise TemplateError(f"{template} holds no Job")
    try:
        manifest["spec"]["template"]["spec"].update(ASKED)
    except (KeyError, TypeError, AttributeError) as error:
        raise TemplateError(f"{template} holds no Job with a pod") from error
    return {
        "variables": {"type": "object", "properties": {}, "additionalProperties": False},
        # No `env` here, not even an empty one: Prefect would add to it what whoever starts a run asks for.
        "job_configuration": {
            "namespace": manifest.get("metadata", {}).get("namespace", "default"),
            "job_manifest": manifest,
            "pod_watch_timeout_seconds": POD_STARTS,
            "stream_output": False,
        },
    }
