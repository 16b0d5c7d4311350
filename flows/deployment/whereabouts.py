"""Where a study is kept that somebody steers: they know its name, its run in Prefect knows the rest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from flows.deployment.door import described
from flows.deployment.flow_runs import OPEN, FlowRuns
from flows.policy.apply import read_policy
from flows.policy.checks import policy_problems
from flows.study.file import Problem, StudyError
from flows.study.words import dotted
from hpo_engine.types import AbohbError
from operators.store import StoreError


def store_of(study: str, env: Mapping[str, str]) -> str:
    """Where its newest run keeps it, else ABOHB_STORE. AbohbError: neither says, or the policy forbids it."""
    with get_client(sync_client=True) as client:
        store = _of_its_run(client, study) or env.get("ABOHB_STORE", "")
    if not store:
        raise StoreError("ABOHB_STORE is not set: give it to the server of the deployments")
    policy = read_policy(env)
    found = [] if policy is None else policy_problems({"store": store}, policy, env)
    if problems := [Problem(dotted(path), None, text) for path, text in found]:
        raise StudyError(problems)
    return store


def _of_its_run(client: SyncPrefectClient, study: str) -> str:
    """One that has not ended goes before one that has; one that never began tells nothing."""
    try:
        deployment = client.read_deployment_by_name("tune/tune")
    except ObjectNotFound:
        return ""
    runs = [run for run in FlowRuns(client, {deployment.id: "tune"}).named(study) if run.begun]
    for run in sorted(runs, key=lambda run: run.state not in OPEN):
        with suppress(AbohbError):  # its form cannot be read
            return described(run).store
    return ""
