"""The Role that is shipped is what the code uses; the rest of the preflight is tried in tests/cluster."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from operators.kube.preflight import VERBS, old, preflight, skewed
from tests.operators.kube.answers import CUT, Asked, Say, api_to, in_order, refusal, serving

ROOT = Path(__file__).parents[3]
JOB: dict[str, Any] = {"metadata": {"name": "s-0-1"}}
ROLE, BINDING = yaml.safe_load_all((ROOT / "operators/rbac.yaml").read_text())


def test_the_role_is_the_table() -> None:
    granted: dict[str, tuple[str, ...]] = {}
    for rule in ROLE["rules"]:
        assert rule.keys() == {"apiGroups", "resources", "verbs"}
        for resource in rule["resources"]:
            assert rule["apiGroups"] == (["batch"] if resource == "jobs" else [""])
            assert resource not in granted
            granted[resource] = tuple(rule["verbs"])
    assert granted == dict(VERBS)


def test_the_role_is_small() -> None:
    """One namespace; exact verbs; no secrets; nobody is let into a container."""
    assert (ROLE["kind"], BINDING["kind"], BINDING["roleRef"]["kind"]) == ("Role", "RoleBinding", "Role")
    assert BINDING["roleRef"]["name"] == ROLE["metadata"]["name"]
    assert not VERBS.keys() & {"*", "secrets", "pods/exec", "pods/attach", "nodes"}
    assert not {verb for verbs in VERBS.values() for verb in verbs} & {
        "*",
        "update",
        "patch",
        "deletecollection",
    }


def test_the_code_uses_the_table_and_nothing_else() -> None:
    """Literal calls of the Api in our sources: create("jobs", ...), delete("configmaps", ...) ..."""
    used: set[tuple[str, str]] = set()
    for path in sorted((ROOT / "operators" / "kube").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            verb, first = node.func.attr, node.args[0] if node.args else None
            if "api" in ast.unparse(node.func.value) and isinstance(first, ast.Constant):
                used.add((str(first.value), "list" if verb == "pages" else verb))
    used = {(resource, verb) for resource, verb in used if verb in ("create", "get", "delete", "list")}
    assert used >= {("jobs", "create"), ("events", "list")}
    assert {(resource, verb) for resource, verb in used if verb not in VERBS.get(resource, ())} == set()


@pytest.mark.parametrize(
    ("major", "minor", "said"),
    [
        ("1", "35", ""), ("1", "29", ""), ("1", "29+", ""), ("2", "0", ""), ("1", "30-gke.7", ""),
        ("1", "28", "the cluster is v1.28.3: Kubernetes 1.29 or later"), ("1", "9", "1.29 or later"),
        ("1", "27+", "1.29 or later"), ("", "", "1.29 or later"),
    ],
)  # fmt: skip
def test_versions(major: str, minor: str, said: str) -> None:
    lines = list(old({"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.3"}))
    assert len(lines) == (1 if said else 0)
    assert not said or said in lines[0]
    assert list(old({})) != []


@pytest.mark.parametrize(
    ("answer", "words", "away"),
    [
        (refusal(401, "Unauthorized"), "does not accept your credentials: log in again", False),
        (refusal(503, "Unavailable", "no"), "cannot answer now: no .* Is http://.* the right cluster", True),
        (CUT, "does not answer: .*Is http://.* the right cluster", True),
        (Say(200, b"<html>"), "something else than a JSON object.* the right cluster", True),
        (refusal(403, "Forbidden", "no /version for you"), "no /version for you", False),
    ],
)
def test_no_answer_is_one_problem(answer: Say, words: str, away: bool) -> None:
    with serving(in_order(answer)) as server:
        found = preflight(api_to(server, patience=0.0), JOB)
    (line,) = found.problems
    assert re.search(words, line)
    assert found.away is away


WEBHOOK = 'failed calling webhook "mjob.kb.io": connection refused'
QUOTA = 'jobs.batch "s-0-1" is forbidden: exceeded quota: gpus, requested: count/jobs.batch=1'


@pytest.mark.parametrize(
    ("answer", "words", "away"),
    [
        (refusal(409, "AlreadyExists"), "", False),  # the study is being resumed
        (refusal(403, "Forbidden", QUOTA), "", False),  # its own Jobs may have used it up: others wait
        (refusal(403, "Forbidden", "no such class"), "would refuse the Job of a trial: no such class", False),
        (refusal(500, "InternalError", WEBHOOK), "failed calling webhook", True),
    ],
)
def test_a_job_is_tried(answer: Say, words: str, away: bool) -> None:
    def answers(asked: Asked) -> Say:
        if asked.path == "/version":
            return Say(200, {"major": "1", "minor": "35"})
        return Say(201, {"status": {"allowed": True}}) if "reviews" in asked.path else answer

    with serving(answers) as server:
        found = preflight(api_to(server, patience=0.0), JOB)
    assert [words in line for line in found.problems] == ([True] if words else [])
    assert found.away is away


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (1795269094.0, 1795269094.9, ""),
        (1795269094.9, 1795269096.0, ""),  # it tells whole seconds
        (1795269000.0, 1795269200.0, ""),  # a slow answer says nothing of the clocks
        (1795269155.0, 1795269156.0, ""),
        (1795269030.0, 1795269033.0, "61 s apart"),
        (1795269216.0, 1795269217.0, "121 s apart"),
    ],
)
def test_clocks_that_differ(before: float, after: float, said: str) -> None:
    lines = list(
        skewed("https://c", {"metadata": {"creationTimestamp": "2026-11-21T13:51:34Z"}}, before, after)
    )
    assert (not lines) if not said else said in lines[0]


def test_an_answer_without_a_date_says_nothing() -> None:
    assert list(skewed("https://c", {"metadata": {"creationTimestamp": None}}, 0.0, 1.0)) == []
