"""What may not change, what `abohb check` shows, and what this machine lacks."""

import dataclasses
import json

import pytest

from flows.study.file import parse_study
from flows.study.local import local_problems, script_place
from flows.study.model import FIXED, Study, differences
from flows.study.summary import check_summary, render_summary

BASE = {
    "name": "digits",
    "command": ["python", "train.py"],
    "metrics": ["val_error", {"name": "size"}, {"name": "accuracy", "mode": "max"}],
    "resource": {"max": 50},
    "space": {
        "units": {"type": "int", "low": 8, "high": 64},
        "lr": {"type": "float", "low": 1e-4, "high": 1, "log": True},
        "optimizer": {"type": "categorical", "values": ["adam", "sgd"]},
        "momentum": {"type": "float", "low": 0, "high": 0.9, "when": {"optimizer": "sgd"}},
        "nesterov": {"type": "categorical", "values": [True, False], "when": {"optimizer": "sgd"}},
    },
    "budget": {"trials": 100},
}


def study(**changes):
    return Study.model_validate({**BASE, **changes})


# -- what may not change -----------------------------------------------------------------------------


def test_what_differs_is_told_by_entry():
    space = {
        **BASE["space"],
        "lr": {"type": "float", "low": 1e-3, "high": 1},
        "depth": BASE["space"]["units"],
    }
    now = study(seed=1, space=space, method={"name": "a-bohb", "brackets": 2}, metrics=["val_error"])
    assert differences(study(), now) == [
        "method.brackets: was 1, is 2",
        "metrics[1].mode: was 'min', is not given",
        "metrics[1].name: was 'size', is not given",
        "metrics[2].mode: was 'max', is not given",
        "metrics[2].name: was 'accuracy', is not given",
        "seed: was 0, is 1",
        "space.depth.high: was not given, is 64",
        "space.depth.log: was not given, is False",
        "space.depth.low: was not given, is 8",
        "space.depth.type: was not given, is 'int'",
        "space.lr.log: was True, is False",
        "space.lr.low: was 0.0001, is 0.001",
    ]


def test_the_rest_may_change():
    now = study(workers=9, budget={"hours": 1}, max_failures=3, store="/x", command=["sh"], args=["{lr}"])
    assert differences(study(), now) == []
    assert differences(study(), study(method={"name": "a-bohb", "brackets": 1})) == []  # 1 is the default
    assert set(study().fixed()) == set(FIXED)


# -- what is shown -----------------------------------------------------------------------------------


def test_check_shows_what_would_run(tmp_path):
    made = parse_study(
        {
            **BASE,
            "args": ["--lr={lr:.3f}", "--m={momentum}"],
            "env": {"N": "{units} x"},
            "method": "hyperband",
        },
        tmp_path,
    )
    summary = check_summary(made)
    assert (
        render_summary(summary)
        == f"""\
study      digits
method     hyperband (brackets=0)
objective  val_error (min)
rungs      1, 3, 9, 27, 50 epochs
brackets   5, with the first rung (for how many trials) at 1 (57%), 3 (24%), 9 (11%), 27 (5%), 50 (4%)
space      5 hyper-parameters, no end of configurations
workers    4
ends       after 100 trials
at most    5,000 epochs, if every trial ran to 50
store      {tmp_path}/abohb-runs
would try  lr=0.01, optimizer=adam, units=36
would run  python train.py --lr=0.010
with       N='36 x'
in         {tmp_path}"""
    )
    assert json.loads(json.dumps(dataclasses.asdict(summary)))["full_length"] == 5000


def test_check_takes_the_first_initial_point_and_counts_a_finite_space():
    space = {
        "opt": BASE["space"]["optimizer"],
        "n": {"type": "int", "low": 1, "high": 9, "when": {"opt": "sgd"}},
    }
    shown = render_summary(
        check_summary(study(space=space, initial=[{"opt": "sgd", "n": 2}], method="random"))
    )
    assert "would try  opt=sgd, n=2" in shown
    assert "2 hyper-parameters, 10 configurations" in shown
    assert "brackets" not in shown


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python3", "train.py"], []),
        (["python3", "-u", "-W", "ignore", "train.py", "x"], []),
        (["python3", "-m", "nothing"], []),
        (["python3", "-c", "nothing"], []),
        (["sh", "missing.sh"], ["command[1]: there is no file 'missing.sh' in {here}"]),
        (["python3", "-u", "tran.py"], ["command[2]: there is no file 'tran.py' in {here}"]),
        (["no-such-program"], ["command[0]: 'no-such-program' is not found on PATH"]),
        (["train.py"], [
            "command[0]: 'train.py' is not found on PATH; for the file in {here} write './train.py'"
        ]),
        (["./train.py"], [
            "command[0]: {here}/train.py is not executable; chmod +x it, or name an interpreter"
        ]),
        (["./missing"], ["command[0]: there is no file './missing' in {here}"]),
    ],
)  # fmt: skip
def test_what_the_local_machine_lacks(command, expected, tmp_path):
    (tmp_path / "train.py").write_text("")
    made = parse_study({**BASE, "command": command}, tmp_path)
    assert [p.text() for p in local_problems(made)] == [line.format(here=tmp_path) for line in expected]


def test_an_image_does_not_run_here(tmp_path):
    made = parse_study({**BASE, "command": [], "image": "a:1"}, tmp_path)
    assert [p.text() for p in local_problems(made)] == [
        "command: is missing; here a trial is a process, an image runs with --on kubernetes"
    ]
    assert [p.text() for p in local_problems(parse_study({**BASE, "workdir": "no"}, tmp_path))] == [
        f"workdir: {tmp_path}/no is no folder"
    ]


def test_versions_of_an_interpreter_are_known():
    assert script_place(["/usr/bin/python3.11", "train.py"]) == 1
    assert script_place(["./train", "x.py"]) is None
