"""What a platform engineer lets studies do on the cluster: docs/policy.md. Asked before any Job is made.

The file is named by ABOHB_POLICY. Without the variable everything is allowed, as on a laptop.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from flows.policy.checks import policy_problems
from flows.policy.model import Policy
from flows.study.fields import mistakes_in
from flows.study.file import Problem, StudyError, read_text
from flows.study.kubernetes import Kubernetes, amount_of
from flows.study.model import Study
from flows.study.words import dotted
from flows.study.yaml import line_of, read_yaml
from hpo_engine.types import AbohbError

VARIABLE = "ABOHB_POLICY"


class PolicyError(AbohbError):
    """A policy that cannot be read; nothing starts then."""


def read_policy(env: Mapping[str, str]) -> Policy | None:
    """None: everything is allowed. PolicyError lists all that is wrong with the file."""
    if not (name := env.get(VARIABLE)):
        return None
    try:
        document = read_yaml(read_text(Path(name)))
    except StudyError as error:
        raise PolicyError(f"{VARIABLE}: {error}. Nothing starts without the policy.") from None
    data = {} if document.data is None else document.data
    found = [(path, line, text) for path, line, text in document.problems]
    if not found:
        found = [(path, line_of(document.lines, path), text) for path, text in mistakes_in(Policy, data)]
    if found:
        found.sort(key=lambda one: one[1] or 0)
        lines = (Problem(dotted(path), line, text).text(name) for path, line, text in found)
        raise PolicyError("\n".join([*lines, "Nothing starts without the policy."]))
    return Policy.model_validate(data)


def apply(study: Study, policy: Policy, env: Mapping[str, str]) -> tuple[Study, list[Problem]]:
    """The study with the policy's defaults, and all that it asks for and may not have."""
    draft = {**study.draft(), "kubernetes": filled(study.kubernetes, policy.defaults)}
    found = [Problem(dotted(path), None, text) for path, text in policy_problems(draft, policy, env)]
    return study.model_copy(update={"kubernetes": draft["kubernetes"]}), found


def allowed(study: Study, env: Mapping[str, str], *, local: bool = False) -> Study:
    """As it may run. StudyError: the policy forbids it. PolicyError: nobody knows."""
    policy = read_policy(env)
    if policy is None:
        return study
    if local:
        if not policy.local:
            raise StudyError([Problem("", None, "the policy allows no trials here; use --on kubernetes")])
        return study
    study, found = apply(study, policy, env)
    if found:
        raise StudyError(found)
    return study


def most_workers(env: Mapping[str, str] = os.environ) -> int | None:
    """Of a study at once, however it is steered."""
    policy = read_policy(env)
    return None if policy is None else policy.max_workers


def filled(section: Kubernetes, defaults: Kubernetes) -> Kubernetes:
    """The section of a study, and the defaults where it says nothing; requests and limits one by one."""
    said, update = set(section.model_fields_set), dict[str, object]()
    if section.priority_class is None:  # a trial without one would not count in a quota of theirs
        said.discard("priority_class")
    for name in defaults.model_fields_set - {"gpus", "requests", "limits"} - said:
        update[name] = getattr(defaults, name)
    for name in {"requests", "limits"} & defaults.model_fields_set:
        ours, theirs = getattr(defaults, name), getattr(section, name)
        update[name] = {**ours, **theirs} if name in said else {**theirs, **ours}
    if "gpus" in defaults.model_fields_set:
        missing = defaults.gpus.model_fields_set - section.gpus.model_fields_set
        kept = {"resource"} if "gpus" in said else {"count", "resource"}
        update["gpus"] = section.gpus.model_copy(
            update={name: getattr(defaults.gpus, name) for name in missing & kept}
        )
    whole = section.model_copy(update=update)
    return whole.model_copy(update={"limits": _lifted(whole, section)}) if "limits" in update else whole


def _lifted(whole: Kubernetes, section: Kubernetes) -> dict[str, str]:
    """A default limit gives way to what the study requests: the API server takes no lower one."""
    return {
        name: whole.requests[name]
        if name not in section.limits and amount_of(whole.requests.get(name, "0")) > amount_of(limit)
        else limit
        for name, limit in whole.limits.items()
    }
