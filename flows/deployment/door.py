"""Runs of `tune` are looked at before anything begins: a mistake shows at once, whoever would run them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prefect.client.schemas.objects import StateType
from pydantic import ValidationError

from flows.deployment.flow_runs import Run
from flows.deployment.form import Form
from flows.deployment.form_study import study_of
from flows.deployment.mistakes import mistakes_markdown, mistakes_message
from flows.policy.apply import VARIABLE as POLICY
from flows.study.model import Study
from hpo_engine.types import AbohbError

AT_WORK = (StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED)


class TakenError(AbohbError):
    """Another run has the study."""


@dataclass(frozen=True, slots=True)
class Refusal:
    text: str  # of the artifact
    message: str  # of the state


def at_the_door(run: Run, others: Iterable[Run]) -> Refusal | None:
    """Why a run must not begin: its form has mistakes, or one of the `others` has its study."""
    try:
        study = wanted(run)
        if other := rival(run, study.name, others):
            doing = "waits to go on with" if other.state is StateType.SCHEDULED else "is at work on"
            raise TakenError(
                f"flow run [{other.name}](/runs/flow-run/{other.id}) {doing} study {study.name!r} already."
                f" Steer it, or cancel it; or give this study another name"
            )
    except AbohbError as error:
        return _refusal(error, run)
    except Exception as error:  # of ours: it must not keep those who wait behind it
        what = f"{type(error).__name__}: {error}"
        return _refusal(AbohbError(f"the form cannot be read, by an error of abohb's own: {what}"), run)
    return None


def _refusal(error: AbohbError, run: Run) -> Refusal:
    return Refusal(mistakes_markdown(error, begun=run.begun), mistakes_message(error, begun=run.begun))


def wanted(run: Run, env: Mapping[str, str] = os.environ) -> Study:
    """The study that its form describes. AbohbError: all that is wrong with it."""
    try:
        form = Form.model_validate(run.parameters)
    except ValidationError as error:  # Prefect lets none of these in
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise AbohbError("\n".join(lines)) from error
    return study_of(form, env)


def described(run: Run) -> Study:
    """The same, whether or not the policy (still) lets it run: to find what there is of it."""
    return wanted(run, {name: value for name, value in os.environ.items() if name != POLICY})


def rival(run: Run, study: str, others: Iterable[Run]) -> Run | None:
    """Of several that wait, one that is begun goes before one that is not, then the first that was made."""

    def turn(one: Run) -> tuple[bool, bool, float]:
        return one.state not in AT_WORK, one.state is not StateType.PENDING, one.created

    same = [one for one in others if one.kind == "tune" and one.study == study and one.id != run.id]
    first = min(same, key=turn, default=run)
    return first if turn(first) < turn(run) else None
