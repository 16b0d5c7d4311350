"""A study as a filled-in form: what `abohb submit` sends."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from flows.deployment.form import Form
from flows.deployment.form_study import PLACES
from flows.study.file import Problem, StudyError
from flows.study.model import Study
from flows.study.words import Path
from hpo_engine.methods import METHODS

REQUESTS = ("cpu", "memory")
PLAIN_WORDS = ("true", "false", "null")  # not texts in YAML


def form_of(study: Study) -> Form:
    """The form that makes the same study. StudyError: no form can."""
    problems = list(_problems(study))
    if problems:
        raise StudyError(problems)
    rest: dict[str, Any] = study.model_dump(mode="json", exclude_unset=True, exclude={"workdir"})
    if not study.store.startswith("s3://"):
        rest.pop("store", None)  # of this machine: the deployment has its own
    fields: dict[str, Any] = {"advanced": ""}
    # The form fills in the one of them that it does not name: a study that asks for one alone says so below.
    below = () if study.kubernetes.requests.keys() >= set(REQUESTS) else REQUESTS
    for name, place in PLACES.items():
        taken = None if name in below else _take(rest, place)
        fields[name] = _text(name, _value(study, name, place, taken))
    metrics = [metric for metric in rest.pop("metrics") if metric]
    if metrics:
        rest["metrics"] = metrics
    fields["advanced"] = written({name: value for name, value in rest.items() if value not in ({}, None)})
    return Form.model_validate(fields)


def _problems(study: Study) -> Iterable[Problem]:
    if study.method.name not in METHODS:
        yield Problem("method.name", None, "is your own; it runs where `abohb tune` does, and cannot be sent")
    if not study.image:
        yield Problem("image", None, "is missing; on Kubernetes a trial is a container of an image")
    for path, name in (("metrics[0].name", study.metrics[0].name), ("resource.name", study.resource.name)):
        if name != name.strip():
            yield Problem(path, None, f"got {name!r}; the form takes no space around it")


def _take(data: Any, place: Path) -> Any:
    """Removes what stands there, and returns it."""
    *way, last = place
    for step in way:
        data = data[step] if isinstance(step, int) else (data or {}).get(step)
    return data.pop(last, None) if isinstance(data, dict) else None


def _value(study: Study, name: str, place: Path, taken: Any) -> Any:
    """What the study has there, said or not; the form's own defaults are for people who fill it in."""
    if name in ("gpus", *REQUESTS, "trials", "hours"):
        return taken
    value: Any = study
    for step in place:
        value = value[step] if isinstance(step, int) else getattr(value, str(step))
    return taken if name == "search_space" else value


def _text(name: str, value: Any) -> Any:
    if name == "search_space":
        return written(value)
    if name in ("command", "arguments"):
        return (" " if name == "command" else "\n").join(map(shlex.quote, value))
    if value is None:
        return "" if name in REQUESTS else 0
    return value


def written(data: Mapping[str, Any]) -> str:
    """YAML, a line for each key. The values are JSON: no text in it can be taken for a number."""
    return "".join(f"{_key(name)}: {_json(value)}\n" for name, value in data.items())


def _key(name: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) and name.lower() not in PLAIN_WORDS
    return name if plain else _json(name)


def _json(value: Any) -> str:
    r"""Readable, but for what YAML does not take as it stands, or takes for the end of a line: "\u0085"."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text)
