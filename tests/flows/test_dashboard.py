"""The dashboard and the documentation name metrics and labels that exist, and leave none out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.metrics.book import STUDIES
from flows.metrics.table import FAMILIES

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "helm" / "abohb" / "dashboards" / "abohb.json"
DOC = ROOT / "docs" / "metrics.md"

LABELS: dict[str, set[str]] = {STUDIES: set()}
for family in FAMILIES:
    LABELS[family.name] = {"study", *family.labels}
    if family.kind == "histogram":
        LABELS[f"{family.name}_bucket"] = {*LABELS[family.name], "le"}
        LABELS[f"{family.name}_sum"] = LABELS[f"{family.name}_count"] = LABELS[family.name]


def mistakes(expression: str, legend: str = "") -> Iterator[str]:
    """What a PromQL expression, and the legend of its series, name that there is not."""
    used = re.findall(r"\b(abohb_\w+)", expression)
    known = [name for name in used if name in LABELS]
    yield from (f"no metric {name}" for name in used if name not in LABELS)
    if not used:
        yield f"no metric of ours in {expression}"
    for name, matchers in re.findall(r"\b(abohb_\w+)\{([^}]*)\}", expression):
        wanted = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        yield from (f"{name} has no label {label}" for label in wanted - LABELS.get(name, wanted))
    some = set().union(*(LABELS[name] for name in known))
    grouped = re.findall(r"\b(?:by|on|group_left|without|ignoring)\s*\(([^)]*)\)", expression)
    for label in [word.strip() for group in grouped for word in group.split(",") if word.strip()]:
        if label not in some:
            yield f"no label {label} in {expression}"
    by = {word.strip() for group in grouped for word in group.split(",")}
    for label in re.findall(r"\{\{(\w+)\}\}", legend):
        if label not in by:
            yield f"the legend's {label} is not among the labels that are left: {expression}"


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def targets() -> list[tuple[str, str]]:
    return [(t["expr"], t["legendFormat"]) for panel in panels() for t in panel.get("targets", [])]


@pytest.mark.parametrize(
    ("expression", "legend", "found"),
    [
        ("sum(abohb_studies)", "", 0),
        ('sum by (state) (abohb_trials{study="x"})', "{{state}}", 0),
        ("abohb_trial", "", 1),
        ("up", "", 1),
        ('abohb_trials{clas="x"}', "", 1),
        ("sum by (clas) (abohb_trials)", "", 1),
        ("sum by (study) (abohb_trials)", "{{state}}", 1),
        ("rate(abohb_decision_duration_seconds[5m])", "", 0),
        ("sum by (le) (rate(abohb_decision_duration_seconds_sum[5m]))", "", 1),
    ],
)
def test_mistakes_would_be_found(expression: str, legend: str, found: int) -> None:
    assert len(list(mistakes(expression, legend))) == found


def test_every_metric_and_label_of_the_dashboard_exists() -> None:
    assert len(targets()) >= 20
    assert [mistake for target in targets() for mistake in mistakes(*target)] == []
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    (query,) = [variable["definition"] for variable in variables if variable["type"] == "query"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()  # type: ignore[union-attr]
    assert label in LABELS[metric]


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(expression for expression, _ in targets())
    assert [family.name for family in FAMILIES if not re.search(rf"\b{family.name}(_bucket)?\b", shown)] == []


def test_panels_have_names_and_do_not_lie_on_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        assert panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in [
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        ]:
            assert taken.setdefault(cell, panel["title"]) == panel["title"]


# -- docs/metrics.md -----------------------------------------------------------------------------------


def test_the_table_of_the_documentation_is_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| `(abohb_\w+)` \| (\w+) \|([^|]*)\| (.+) \|$", DOC.read_text(), re.MULTILINE)
    written = {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels, _ in rows}
    known = {family.name: (family.kind, list(family.labels)) for family in FAMILIES}
    assert written == {STUDIES: ("gauge", []), **known}


def test_the_alerts_of_the_documentation_ask_for_what_there_is() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    assert len(rules) >= 3
    assert [mistake for rule in rules for mistake in mistakes(rule["expr"])] == []
    for rule in rules:
        words = rule["annotations"]["summary"]
        labels = re.findall(r"\$labels\.(\w+)", words)
        assert labels
        metric = re.search(r"abohb_\w+", rule["expr"])
        assert metric
        assert set(labels) <= LABELS[metric.group()], rule["alert"]
