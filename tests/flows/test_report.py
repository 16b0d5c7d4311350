"""Views as words: pictures of the text that a user reads, and values."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from flows.views.report import duration, number, result_json, result_text
from flows.views.view import Best, Budget, Counts, Failures, Level, StudyView
from hpo_engine.types import Outcome

VIEW = StudyView(
    "digits", "a-bohb", objective="val_error", elapsed=200.4,
    best=Best(17, 0.0123, 27, {"learning_rate": 0.00321234567, "units": 64, "relu": True},
              {"test_error": 0.0155, "val_error": 0.0123}, "/data/digits/trials/00000017/checkpoints/00000027.json"),  # noqa: E501
    levels=(Level(1, 60, 20, 0, 0.2), Level(3, 20, 6, 0, 0.05), Level(9, 6, None, 0, 0.0123)),
    counts=Counts(started=60, paused=54, completed=5, failed=1), units=312, full_units=1620,
    failures=(Failures(Outcome.USER_ERROR, 3, 5, 2, "ValueError: a | b <c>\n"),),
    budget=Budget("60 of 60 trials", 1.0), finished="60 of 60 trials", store="file:///data",
    again="abohb tune study.yaml",
)  # fmt: skip
EMPTY = StudyView("empty", "random")


def test_the_result_is_a_page_a_user_can_read() -> None:
    assert (
        result_text(VIEW)
        == """\
Study digits ended: 60 of 60 trials (3 min 20 s).

Best configuration: trial 17 after 27 epochs
  learning_rate  0.00321235
  units          64
  relu           True

  val_error      0.0123  (the objective, min)
  test_error     0.0155
  checkpoint     /data/digits/trials/00000017/checkpoints/00000027.json

Trials: 60 started, 54 paused, 5 completed, 1 failed.
Epochs run: 312, instead of 1620 at full length: 81 % saved by early stopping.
Failed attempts, user error: 3, e.g. trial 5, attempt 2: ValueError: a | b <c>
  file:///data/trials/00000005/logs/0002.*
Store: file:///data
To see this again: abohb tune study.yaml
"""
    )


def test_an_interrupted_study_without_results_says_how_to_go_on() -> None:
    assert (
        result_text(replace(EMPTY, again="abohb tune s.yaml"))
        == """\
Study empty has not ended (0.0 s).

No trial has reported its objective.

Trials: 0 started.
Epochs run: 0.
To go on: abohb tune s.yaml
"""
    )


def test_the_json_has_every_number_in_full_and_null_for_what_is_not_one() -> None:
    assert VIEW.best
    best = replace(VIEW.best, metrics={"val_error": 0.0123, "test_error": math.nan, "more": -math.inf})
    levels = (Level(1, 1, None, 0, math.inf),)
    result = json.loads(result_json(replace(VIEW, best=best, levels=levels)))
    assert result["best"]["config"]["learning_rate"] == 0.00321234567
    assert result["best"]["metrics"] == {"val_error": 0.0123, "test_error": None, "more": None}
    assert result["rungs"] == [{"level": 1, "recorded": 1, "kept": None, "running": 0, "best": None}]
    assert (result["units"], result["full_units"], result["saved"]) == (312, 1620, 0.8074)
    assert result["failures"][0]["class"] == "user error"
    assert json.loads(result_json(EMPTY))["best"] is None


def test_every_key_of_the_json_is_documented() -> None:
    keys = json.loads(result_json(VIEW))
    assert keys.keys() <= set(re.findall(r"\w+", result_json.__doc__ or ""))


def test_repeated_work_is_never_a_negative_saving() -> None:
    assert replace(VIEW, units=2000).saved == 0.0
    assert EMPTY.saved == 0.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.123456, "0.1235"),
        (1234567.0, "1.235e+06"),
        (12345, "12345"),
        (math.nan, "diverged"),
        (0.0, "0"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"),
     (3600, "1 h 00 min"), (90061, "25 h 01 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
