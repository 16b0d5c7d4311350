"""From a study to what the pod of one attempt asks for."""

from __future__ import annotations

import json
import os

from flows.study.model import Study
from flows.study.templates import active, render
from operators.attempt import AttemptSpec
from operators.kube.pod import TRIAL_DIR
from operators.kube.settings import PodSettings, StoreAccess
from operators.s3_place import Place


def pod_settings(study: Study, spec: AttemptSpec, place: Place, namespace: str) -> PodSettings:
    """What the pod of an attempt asks for, with its configuration filled in."""
    wanted, config = study.kubernetes, spec.config
    facts = {"trial": spec.trial, "attempt": spec.attempt, "study": spec.study, "until": spec.until}
    values = {**config, **facts, "trial_dir": TRIAL_DIR}
    absent = study.space.keys() - config.keys()
    selects = {
        key: render(text, values) for key, text in wanted.node_selector.items() if active(text, absent)
    }
    return PodSettings(
        namespace=namespace,
        image=study.image or "",
        agent_image=wanted.agent_image or os.environ.get("ABOHB_AGENT_IMAGE", ""),
        store=StoreAccess(
            study.store,
            wanted.store_endpoint or (None if place.aws else place.endpoint),
            place.region,
            wanted.store_secret,
            os.environ.get("ABOHB_TRIALS_CA"),
        ),
        gpus=wanted.gpus.of(config),
        gpu_resource=wanted.gpus.resource,
        requests=wanted.requests,
        limits=wanted.limits,
        node_selector=selects,
        tolerations=wanted.tolerations,
        pull_secrets=wanted.pull_secrets,
        pull_policy=wanted.pull_policy,
        queue_name=wanted.queue_name,
        priority_class=wanted.priority_class,
        service_account=wanted.service_account,
        user=wanted.user,
        shm=wanted.shm,
        grace=wanted.grace,
        deadline=wanted.deadline,
        ttl=wanted.keep_jobs,
        command_is_args=not study.command,
        patch=wanted.patch,
    )


def made_of(study: Study) -> str:
    """All besides the image that makes a study's pods what they are."""
    parts = study.model_dump(mode="json", include={"command", "args", "env", "workdir", "kubernetes"})
    return json.dumps(parts, sort_keys=True)
