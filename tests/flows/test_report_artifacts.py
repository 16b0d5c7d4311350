"""What Prefect shows of a study: markdown, bounded, that no log line can break out of."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from flows.views.artifacts import (
    LIMIT,
    artifacts,
    best_markdown,
    cell,
    failures_markdown,
    fenced,
    pictures,
    rungs_markdown,
    slug,
    summary_markdown,
)
from flows.views.evidence import evidence, said
from flows.views.spent import Spent
from flows.views.view import Curves, FailedAttempt, Gain, StudyView
from hpo_engine.types import AttemptEnded, Outcome, Report
from tests.flows.test_report import EMPTY, VIEW

FAILED = FailedAttempt(
    5, 2, Outcome.USER_ERROR, 0.0, 61.0, "exit code 1", "Traceback\n  x = y\nValueError: a | b <c>"
)
MEASURED = replace(
    VIEW,
    curves=Curves(
        [[Report(0, 1, 1, {"val_error": 0.2}), Report(0, 1, 3, {"val_error": 0.1})]],
        [Gain(1.0, 0, 1, 0.2), Gain(90.0, 0, 3, 0.1)],
        120.0,
    ),
)


def test_the_rung_table() -> None:
    assert rungs_markdown(VIEW).startswith(
        """\
# Rungs of digits

| epoch | recorded | kept | running | best val_error |
| --- | --- | --- | --- | --- |
| 1 | 60 | 20 | 0 | 0.2 |
| 3 | 20 | 6 | 0 | 0.05 |
| 9 | 6 | – | 0 | 0.0123 |
"""
    )


def test_the_best_configuration_begins_with_the_objective_and_can_be_copied() -> None:
    text = best_markdown(VIEW)
    lines = text.splitlines()
    assert lines[2] == "trial 17 after 27 epochs"
    assert lines.index("| val_error | 0.0123 |") < lines.index("| test_error | 0.0155 |")
    assert '{"learning_rate": 0.00321234567, "units": 64, "relu": true}' in lines
    assert lines[-1] == "Checkpoint: `/data/digits/trials/00000017/checkpoints/00000027.json`"
    assert "Nothing has been measured yet." in best_markdown(EMPTY)


def test_the_summary_tells_gpu_time_where_there_are_gpus() -> None:
    assert "GPU" not in summary_markdown(VIEW)
    spent = Spent(gpu_seconds=600.0, gpu_seconds_saved=1800.0)
    assert (
        "| GPU time | 10 min 00 s, instead of 40 min 00 s at full length: 75 % saved by early stopping |"
        in summary_markdown(replace(VIEW, spent=spent)).splitlines()
    )


def test_the_failures_are_a_table_by_class_and_the_newest_ones_with_their_last_lines() -> None:
    text = failures_markdown(replace(VIEW, failed=(replace(FAILED, trial=4, log=""), FAILED)))
    lines = text.splitlines()
    assert "| user error | 3 |" in lines
    first = "| Jan 01 00:00:00 | 5 / 2 | user error | 1 min 01 s | exit code 1 | ValueError: a \\| b &lt;c> |"
    assert (
        lines[lines.index("| when (UTC) | trial / attempt | class | after | message | last line |") + 2]
        == first
    )
    assert text.count("The last lines that it printed") == 1
    assert "All of it: `file:///data/trials/00000005/logs/0002.*`" in text
    assert "```\nTraceback\n  x = y\nValueError: a | b <c>\n```" in text


def test_no_text_of_a_user_breaks_out_of_its_place() -> None:
    assert cell("a\nb`|<img>![x](http://y)") == "a b\\`\\|&lt;img>!\\[x](http://y)"
    assert fenced("```\n# no heading") == "````\n```\n# no heading\n````\n"
    text = failures_markdown(replace(VIEW, failed=(replace(FAILED, message="a | b <c>"),)))
    assert any("| user error | 1 min 01 s | a \\| b &lt;c> |" in line for line in text.splitlines())


def test_long_failures_are_cut() -> None:
    long = replace(FAILED, message="m" * 9000, log="\n".join(["x" * 9000] * 50))
    view = replace(VIEW, failed=(long,) * 20)
    assert len(failures_markdown(view)) < 40_000
    assert failures_markdown(view).count("### Trial") == 5
    huge = replace(VIEW, best=replace(VIEW.best, config={f"p{i}": "x" * 100 for i in range(5000)}))  # type: ignore[type-var]
    best = next(each for each in artifacts(huge) if each.key == "digits-best")
    assert isinstance(best.data, str)
    assert len(best.data) == LIMIT
    assert best.data.endswith("which is not shown here.\n")


def test_what_looks_like_a_password_is_not_shown() -> None:
    end = AttemptEnded(
        0,
        1,
        Outcome.USER_ERROR,
        evidence={"message": "token=abcdef123", "log": "  S3 key AKIA0123456789ABCDEF\n"},
    )
    assert evidence(end) == ("token=***", ["  S3 key ***"])
    assert said(end) == "token=*** | S3 key ***"
    # Made up here, so that no scanner takes it for a real one.
    assert "0123456789" not in said(replace(end, evidence={"log": "Authorization: Bearer 0123456789abcdef"}))


@pytest.mark.parametrize("view", [VIEW, EMPTY])
def test_artifacts_have_keys_that_prefect_takes_and_data(view: StudyView) -> None:
    shown = {artifact.key: artifact for artifact in artifacts(replace(view, study="My Study_1"))}
    parts = ["progress", "summary", "rungs", "best"] + (["failures"] if view.failures else [])
    assert list(shown) == [f"my-study-1-{part}" for part in parts]
    assert shown["my-study-1-progress"].data == 100 * view.budget.fraction
    assert [slug("é!"), slug("A__b 1")] == ["study", "a-b-1"]


def test_the_pictures_come_with_the_first_measurement() -> None:
    assert pictures(VIEW) == ()
    (shown,) = pictures(MEASURED)
    assert (shown.key, shown.kind) == ("digits-curves", "markdown")
    found = re.findall(r"!\[([\w ]+)\]\(data:image/svg\+xml;base64,([\w+/=]+)\)", str(shown.data))
    assert [name for name, _ in found] == ["Learning curves", "Best over time"]
    for _, picture in found:
        assert ElementTree.fromstring(base64.b64decode(picture)).tag == "{http://www.w3.org/2000/svg}svg"
