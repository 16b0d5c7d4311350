"""`abohb simulate`, from the arguments to the table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import synthetic
from flows.simulate import command as simulate
from flows.simulate.blackbox import load_blackbox
from flows.simulate.runs import Plan, Run, run_all
from flows.simulate.view import Comparison, table
from hpo_engine.simulate import Costs


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return simulate.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("box") / "bowl.npz"
    synthetic(path, rows=200, length=9)
    return path


def test_two_methods_side_by_side(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "r.png"
    methods = ("--method", "random", "--method", "asha")
    assert call("--blackbox", file, *methods, "--seeds", 3, "--processes", 1, "--out", picture) == 0
    shown = capsys.readouterr().out
    assert "random" in shown
    assert "100%" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_is_one_object(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--blackbox", file, "--method", "asha", "--seeds", 2, "--processes", 1, "--trials", 30, "--json")
    assert call(*words, "--out", tmp_path / "r.png") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["regret"]["asha"]["trials"] == [30, 30]
    medians = [m for m in told["regret"]["asha"]["median"] if m is not None]
    assert medians == sorted(medians, reverse=True)
    assert medians[-1] >= 0


def test_processes_change_nothing(file: Path) -> None:
    plan = Plan(trials=20)
    one, two = (run_all(file, ["random", "asha"], 2, plan, processes) for processes in (1, 2))
    for name in ("random", "asha"):
        assert [(r.seed, r.incumbents, r.events) for r in one[name]] == [
            (r.seed, r.incumbents, r.events) for r in two[name]
        ]


def test_the_table_shows_median_and_quartiles(file: Path) -> None:
    """Three seeds that end 1, 2 and 4 above the best of the table; none reports before 50 s."""
    box = load_blackbox(file)
    runs = [
        Run(s, [(50.0, box.best + 8), (100.0, box.best + gap)], 100, 7, 9, 1, 0.5)
        for s, gap in enumerate((1, 2, 4))
    ]
    rows = table(Comparison(file, box, Plan(seconds=100), {"asha": runs})).splitlines()
    assert [
        row.split(maxsplit=1)[1].strip() for row in rows if "40%" in row or "60%" in row or "100%" in row
    ] == [
        "- [-, -]",
        "8 [8, 8]",
        "2 [1, 4]",
    ]
    assert rows[-3].split() == ["trials", "7"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "asha-bohb"), "did you mean 'a-bohb'?"),
        (("--method", "nowhere:method"), "'nowhere' cannot be imported"),
        (("--min-resource", 10), "the lowest rung is 10; the curves have 1 to 9 units"),
        (("--out", "/nowhere/at/all.png"), "its directory does not exist"),
        (("--hours", 0), "a budget of 0.0 seconds"),
    ],
)
def test_mistakes_are_told(
    file: Path, words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--blackbox", file, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--workers", 0), ("--fail", 1.5), ("--start-up", "soon"), ("--seeds", 1.5)]
)
def test_arguments_out_of_range_are_refused(
    file: Path, words: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call("--blackbox", file, *words)
    assert f"got '{words[1]}', expected" in capsys.readouterr().err


def test_start_up_makes_a_study_slower(file: Path) -> None:
    plans = [Plan(trials=20, costs=Costs(start_up=s)) for s in (0.0, 10.0)]
    ends = [run_all(file, ["asha"], 2, plan, 1)["asha"] for plan in plans]
    assert np.all([slow.seconds > fast.seconds for fast, slow in zip(*ends, strict=True)])
