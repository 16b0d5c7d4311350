"""The Role that is shipped is what the code uses; the rest of the preflight is tried in tests/cluster."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from operators.kube.preflight import VERBS, old, preflight, skewed
from tests.operators.kube.answers import CUT, Say, api_to, in_order, refusal, serving

ROOT = Path(__file__).parents[3]
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
    ("answer", "words"),
    [
        (refusal(401, "Unauthorized"), "does not accept your credentials: log in again"),
        (refusal(503, "ServiceUnavailable", "no"), "cannot answer now: no .* Is http://.* the right cluster"),
        (CUT, "does not answer: .*Is http://.* the right cluster"),
        (Say(200, b"<html>"), "something else than a JSON object.* the right cluster"),
        (refusal(403, "Forbidden", "no /version for you"), "no /version for you"),
    ],
)
def test_no_answer_is_one_problem(answer: Say, words: str) -> None:
    job: dict[str, Any] = {"metadata": {"name": "s-0-1"}}
    with serving(in_order(answer)) as server:
        (line,) = preflight(api_to(server, patience=0.0), job)
    assert re.search(words, line)


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
