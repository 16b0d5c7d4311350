"""A Job that is there already, ours or another's. Against an API server that is told what to answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from operators.attempt import AttemptSpec
from operators.kube.jobs import Jobs
from operators.kube.manifest import config_map
from operators.kube.settings import STUDY, PodSettings, StoreAccess
from tests.operators.kube.answers import Asked, Say, api_to, refusal, serving

STORE = "s3://bucket/studies"
SPEC = AttemptSpec("s", 3, 1, {}, "epoch", 1, ("true",), ("loss",))
SETTINGS = PodSettings("ml", "r.example/d:1", "r.example/agent:1", StoreAccess(STORE))
OTHER = AttemptSpec("s", 3, 1, {"x": 1}, "epoch", 1, ("true",), ("loss",))  # the same name

Object = dict[str, Any]


class Cluster:
    """Keeps what is created; 409 for a name that is taken."""

    def __init__(self) -> None:
        self.things: dict[str, Object] = {}
        self.refuses: Say | None = None  # a Job

    def __call__(self, asked: Asked) -> Say:
        name = asked.path.rpartition("/")[2]
        if asked.method == "GET":
            found = self.things.get(name)
            return Say(200, found) if found else refusal(404, "NotFound")
        assert asked.body is not None
        if name == "jobs" and self.refuses:
            return self.refuses
        name = asked.body["metadata"]["name"]
        if name in self.things:
            return refusal(409, "AlreadyExists")
        made = copy.deepcopy(asked.body)
        made["metadata"]["uid"] = f"u-{len(self.things)}"
        self.things[name] = made
        return Say(201, made)


def jobs_of(url: Any, study: str = "s") -> Jobs:
    return Jobs(api_to(url, patience=0.0), study, STORE, lambda spec: SETTINGS, None, sleep=lambda _: None)


def test_made_twice_it_is_there_once() -> None:
    """Also by the next controller, whose owner is the same ConfigMap."""
    cluster = Cluster()
    with serving(cluster) as server:
        assert jobs_of(server).create(SPEC, "r.example/d:1") is None
        assert jobs_of(server).create(SPEC, "r.example/d:1") is None
    assert sorted(cluster.things) == ["abohb-s", "s-3-1"]


CHANGES: list[tuple[Callable[[Object], object], str, bool]] = [
    (lambda job: job["metadata"]["labels"].update({STUDY: "other"}), "expected 's'", False),
    (lambda job: job["metadata"].update(annotations={}), "made from other settings", False),
    (lambda job: job["metadata"].update(deletionTimestamp="now"), "it is being deleted", True),
    (lambda job: job["metadata"].update(ownerReferences=[{"uid": "u-9"}]), "an earlier object", True),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words", "passing"), CHANGES, ids=[words for _, words, _ in CHANGES])
def test_a_job_of_that_name_which_is_another(
    change: Callable[[Object], object], words: str, passing: bool
) -> None:
    cluster = Cluster()
    with serving(cluster) as server:
        jobs = jobs_of(server)
        assert jobs.create(SPEC, "r.example/d:1") is None
        change(cluster.things["s-3-1"])
        refused = jobs.create(SPEC, "r.example/d:1")
    assert refused is not None
    assert (refused.cause, refused.passing) == ("name", passing)
    assert words in refused.message


def test_a_job_made_for_another_configuration_is_not_taken_for_ours() -> None:
    with serving(Cluster()) as server:
        assert jobs_of(server).create(OTHER, "r.example/d:1") is None
        refused = jobs_of(server).create(SPEC, "r.example/d:1")
    assert refused is not None
    assert not refused.passing


@pytest.mark.parametrize(
    ("answer", "cause", "passing"),
    [
        (refusal(403, "Forbidden", 'jobs "s-3-1" is forbidden: exceeded quota: q'), "quota", True),
        (refusal(403, "Forbidden", 'User "x" cannot create resource "jobs"'), "refused", True),
        (refusal(401, "Unauthorized"), "refused", True),
        (refusal(403, "Forbidden", 'admission webhook "w" denied the request'), "refused", False),
        (refusal(422, "Invalid", "spec.template: Required"), "refused", False),
    ],
)
def test_what_a_refusal_is_about(answer: Say, cause: str, passing: bool) -> None:
    cluster = Cluster()
    cluster.refuses = answer
    with serving(cluster) as server:
        jobs = jobs_of(server)
        jobs.own()
        try:
            refused = jobs.create(SPEC, "r.example/d:1")
        except OSError:  # its credentials were good a moment ago
            assert answer.status == 401
            return
    assert refused is not None
    assert (refused.cause, refused.passing) == (cause, passing)


def test_two_studies_of_one_name_in_two_stores() -> None:
    cluster = Cluster()
    cluster.things["abohb-s"] = config_map("s", "s3://elsewhere")
    with serving(cluster) as server, pytest.raises(Exception, match="with its records in s3://elsewhere"):
        jobs_of(server).own()
