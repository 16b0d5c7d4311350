"""The pictures of a study: what is drawn, how large they get, and that they are pictures at all."""

from __future__ import annotations

import doctest
import math
import random
import re
import time
from dataclasses import replace
from types import ModuleType
from xml.etree import ElementTree

import pytest

from flows.views import evidence
from flows.views import svg as svg_module
from flows.views.pictures import (
    CURVES,
    best_over_time,
    chosen,
    learning_curves,
    points_of,
    resource_axis,
    thinned,
    value_axis,
)
from flows.views.svg import HEIGHT, WIDTH, Mark, Picture, linear, logarithmic, svg
from flows.views.view import Best, Curves, Gain, Level, Slot, StudyView
from hpo_engine.types import Report

LEVELS = (1, 3, 9, 27, 81)


def study(trials: int, mode: str = "min", running: int = 3) -> StudyView:
    """Each third trial goes one rung further; the higher its number, the worse."""
    reports, gains = list[list[Report]](), list[Gain]()
    chance = random.Random(0)
    for trial in range(trials):
        top = next(k for k in range(len(LEVELS)) if k == len(LEVELS) - 1 or chance.random() > 1 / 3)
        sign = -1 if mode == "max" else 1
        values = [sign * (0.1 + trial + math.exp(-epoch / 9)) for epoch in range(1, LEVELS[top] + 1)]
        reports.append([Report(trial, 1, e, {"v": value}) for e, value in enumerate(values, start=1)])
    gains = [Gain(60.0 * n, 0, n + 1, report.metrics["v"]) for n, report in enumerate(reports[0])]
    return StudyView(
        "digits", "a-bohb", objective="v", mode=mode, best=Best(0, 0.1, 1, {}),
        levels=tuple(map(Level, LEVELS)), curves=Curves(reports, gains, 4000.0),
        workers=tuple(Slot(trial) for trial in range(trials - running, trials)),
    )  # fmt: skip


def texts(picture: str) -> list[str]:
    return [
        element.text or ""
        for element in ElementTree.fromstring(picture).iter()
        if element.tag.endswith("text")
    ]


def numbers(picture: str) -> list[float]:
    paths = " ".join(re.findall(r' d="([^"]+)"', picture))
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", paths)]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("trials", [1, 12, 3000])
def test_pictures_are_bounded_and_whole(mode: str, trials: int) -> None:
    view = study(trials, mode, running=min(3, trials))
    before = time.perf_counter()
    both = learning_curves(view), best_over_time(view)
    assert time.perf_counter() - before < 0.5
    for picture in both:
        assert 1000 < len(picture) < 40_000
        ElementTree.fromstring(picture)
        assert all(0 <= number <= max(WIDTH, HEIGHT) for number in numbers(picture))


def test_they_say_what_they_show() -> None:
    curves, best = texts(learning_curves(study(100))), texts(best_over_time(study(100)))
    assert curves[:2] == ["Learning curves of digits", "40 of 100 trials"]
    assert {"epoch (log scale)", "v (log scale)", "others", "running now", "best, trial 0"} <= set(curves)
    assert {"1", "3", "9", "27", "81"} <= set(curves), "the rungs are the ticks"
    assert best[0] == "Best v of digits over time"
    assert "minutes since the study began" in best
    assert best[-1].endswith("trial 0 after 1 epoch") or "trial 0 after" in best[-1]


def test_nothing_is_drawn_of_nothing() -> None:
    empty = StudyView("digits", "random")
    assert (learning_curves(empty), best_over_time(empty)) == ("", "")
    diverged = replace(empty, curves=Curves([[Report(0, 1, 1, {"loss": math.nan})], []]))
    assert learning_curves(diverged) == ""


def test_the_best_and_the_running_are_always_drawn_and_of_the_rest_not_only_the_good() -> None:
    view = study(500)
    shown = chosen(view)
    assert len(shown) == len(set(shown)) == CURVES
    assert shown[0] == 0
    assert {497, 498, 499} <= set(shown)
    assert sum(len(view.curves.reports[trial]) == 1 for trial in shown) >= 5, (
        "some that were given up at once"
    )
    assert chosen(study(7)) == [
        0,
        6,
        5,
        4,
        *sorted((1, 2, 3), key=lambda t: -len(study(7).curves.reports[t])),
    ]


def test_thinning_keeps_both_ends() -> None:
    assert thinned(range(10), 4) == [0, 3, 6, 9]
    assert thinned([1, 2], 4) == [1, 2]
    assert thinned([1, 2], 0) == []


def test_points_without_a_value_are_left_out() -> None:
    reports = [Report(0, 1, 1, {"v": math.inf}), Report(0, 1, 2, {}), Report(0, 1, 3, {"v": 1.0})]
    assert points_of(reports, "v") == [(3.0, 1.0)]


# -- axes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.03, 0.11, ["0.02", "0.04", "0.06", "0.08", "0.10", "0.12"]),
        (7.0, 7.0, None),
        (0.0, 0.0, None),
        (-3e9, 2e9, ["-3e+09", "-2e+09", "-1e+09", "0", "1e+09", "2e+09"]),
        (1e-9, 2e-9, None),
    ],
)
def test_linear_axes_have_round_ticks_that_enclose_the_values(
    low: float, high: float, ticks: list[str]
) -> None:
    axis = linear(low, high, "")
    assert axis.low <= low <= high <= axis.high
    labels = [label for _, label in axis.ticks]
    assert len(set(labels)) == len(labels) >= 3
    assert ticks is None or labels == ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.02, 1.0, ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]),
        (3e-7, 12.0, None),
        (1.0, 1.0, None),
        (1e-300, 1e300, None),
    ],
)
def test_logarithmic_axes_enclose_the_values(low: float, high: float, ticks: list[str]) -> None:
    axis = logarithmic(low, high, "")
    assert axis.low <= low * 1.001
    assert high <= axis.high * 1.001
    assert 2 <= len(axis.ticks) <= 14
    assert ticks is None or [label for _, label in axis.ticks] == ticks


def test_the_axis_is_logarithmic_where_that_helps() -> None:
    view = StudyView("s", "m", objective="v")
    assert value_axis([0.001, 1.0], view)[0].log
    assert not value_axis([0.0, 1.0], view)[0].log
    assert not value_axis([0.5, 1.0], view)[0].log
    assert not value_axis([0.05, 1.0], replace(view, mode="max"))[0].log, "an accuracy"


@pytest.mark.parametrize(("mode", "far"), [("min", 1000.0), ("max", -1000.0)])
def test_a_value_far_off_on_the_bad_side_flattens_nobody(mode: str, far: float) -> None:
    values = [n / 100 - 0.2 for n in range(99)] + [far]
    axis, words = value_axis(values, StudyView("s", "m", objective="v", mode=mode))
    assert axis.high - axis.low < 3
    assert "edge" in words
    good, _ = value_axis(values, StudyView("s", "m", objective="v", mode="max" if mode == "min" else "min"))
    assert good.low <= far <= good.high, "on the good side it is what the study is about"


def test_one_rung_is_no_reason_for_a_log_axis() -> None:
    view = replace(study(1), levels=(Level(81),))
    assert not resource_axis(view, [[(1.0, 0.1)]]).log


# -- svg ---------------------------------------------------------------------------------------------


def test_no_name_breaks_the_picture() -> None:
    axis = linear(0, 1, 'x" onload="<script>\x00')
    picture = svg(Picture("<&>\x07" * 99, "", axis, axis, [Mark([(0.5, 0.5)], "#000")], [("#000", "a<b")]))
    ElementTree.fromstring(picture)
    assert "<script" not in picture


def test_a_single_point_is_a_dot() -> None:
    axis = linear(0, 1, "")
    assert "h.01" in svg(Picture("", "", axis, axis, [Mark([(0.5, 0.5)], "#123456")]))


@pytest.mark.parametrize("module", [svg_module, evidence], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings(module: ModuleType) -> None:
    ran = doctest.testmod(module)
    assert ran.attempted >= 2
    assert ran.failed == 0
