"""The model: round trip, templates, what may not change, what is shown."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from flows.study import parts as study_parts
from flows.study.file import StudyError, parse_study
from flows.study.model import Study, differences
from flows.study.templates import FACTS
from hpo_engine.methods import METHODS
from hpo_engine.objective import Constraint, Metric
from hpo_engine.space import Condition

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
ADAM = {"units": 8, "lr": 0.01, "optimizer": "adam"}
SGD = {**ADAM, "optimizer": "sgd", "momentum": 0.5, "nesterov": True}


def study(**changes):
    return Study.model_validate({**BASE, **changes})


# -- what the journal keeps ------------------------------------------------------------------------

finite = st.floats(-1e6, 1e6, allow_nan=False)
names = st.from_regex(r"[a-z_][a-zA-Z0-9_.-]{0,8}", fullmatch=True).filter(lambda name: name not in FACTS)
values = st.lists(
    st.booleans() | st.integers() | finite | st.text(max_size=4), min_size=2, max_size=4, unique_by=repr
).filter(lambda found: len(set(found)) == len(found))
ranges = st.tuples(finite, finite).filter(lambda pair: pair[0] < pair[1])
parameters = st.one_of(
    ranges.map(lambda r: {"type": "float", "low": r[0], "high": r[1]}),
    ranges.map(lambda r: {"type": "int", "low": math.floor(r[0]), "high": math.ceil(r[1])}),
    values.map(lambda found: {"type": "categorical", "values": found}),
    values.map(lambda found: {"type": "ordinal", "values": found}),
)


@st.composite
def studies(draw):
    space = draw(st.dictionaries(names, parameters, min_size=1, max_size=5))
    parents = [name for name, spec in space.items() if "values" in spec]
    if len(parents) > 1:
        space[parents[0]] |= {"when": {parents[1]: draw(st.sampled_from(space[parents[1]]["values"]))}}
    args = [f"--{name}={{{name}}}" for name in space] + ["{{x}}", "é\n"]
    text = st.text(st.characters(exclude_characters="{}\0"))
    methods = [*METHODS, {"name": "asha", "brackets": 2}, "hpo_engine.methods:a_bohb"]
    budget = {
        "trials": st.integers(1),
        "hours": st.floats(0.1, 1e3),
        "resource": st.integers(1),
        "target": finite,
    }
    return {
        **BASE,
        "space": space,
        "args": draw(st.lists(st.sampled_from(args))),
        "env": draw(st.dictionaries(st.sampled_from(["A", "b.c"]), text)),
        "constraints": [{"metric": "size", "min": draw(finite)}],
        "method": draw(st.sampled_from(methods)),
        "budget": {**draw(st.fixed_dictionaries({}, optional=budget)), "trials": 9},
        "stall_after": draw(st.sampled_from([None, 600, 0.5, "10m", "1h30m"])),
        "resource": {"min": draw(st.integers(1, 9)), "max": draw(st.integers(10, 10**6))},
        "seed": draw(st.integers(0, 2**70)),
    }  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(studies())
def test_what_the_journal_keeps_loads_back_equal(data):
    first = parse_study(data)
    kept = json.dumps(first.model_dump(mode="json"), sort_keys=True)
    again = Study.model_validate(json.loads(kept))
    assert again == first
    assert json.dumps(again.model_dump(mode="json"), sort_keys=True) == kept  # 1 is not 1.0 is not true
    assert differences(first, again) == []
    assert [p.name for p in again.search_space().parameters] == [
        p.name for p in first.search_space().parameters
    ]
    assert parse_study(first) == first


def test_the_order_of_the_file_is_of_no_consequence():
    turned = study(space=dict(reversed(BASE["space"].items())))
    assert [p.name for p in turned.search_space().parameters] == [
        "lr",
        "momentum",
        "nesterov",
        "optimizer",
        "units",
    ]
    assert differences(study(), turned) == []


def test_sections_become_what_the_engine_takes():
    made = study(constraints=[{"metric": "size", "max": 10}])
    momentum = made.search_space().parameters[1]
    assert momentum.when == Condition("optimizer", ("sgd",))
    assert made.levels() == (1, 3, 9, 27, 50)
    assert made.objective().metrics == (
        Metric("val_error"),
        Metric("size"),
        Metric("accuracy", maximise=True),
    )
    assert made.objective().constraints == (Constraint("size", high=10.0),)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(5, 5.0), (0.5, 0.5), ("90s", 90.0), ("10m", 600.0), ("1h30m", 5400.0), (None, None)],
)
def test_times(given, seconds):
    assert study(stall_after=given).stall_after == seconds


def test_made_directly_it_is_checked_all_the_same():
    with pytest.raises(ValidationError, match="did you mean 'lr'"):
        study(args=["{lrr}"])


# -- templates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "config", "expected"),
    [
        ("--lr={lr}", ADAM, ["--lr=0.01"]),
        ("--lr={lr:.6f}", ADAM, ["--lr=0.010000"]),
        ("--lr={lr!r:>6}", ADAM, ["--lr=  0.01"]),
        ("{units:04d}", ADAM, ["0008"]),
        ("{optimizer}-{units}", ADAM, ["adam-8"]),
        ("{{lr}} {lr}", ADAM, ["{lr} 0.01"]),
        ("plain", ADAM, ["plain"]),
        ("{trial}/{attempt}/{study}/{until}", ADAM, ["7/2/digits/9"]),
        ("{trial_dir}/out", ADAM, ["/t/7/out"]),
        ("--momentum={momentum}", ADAM, []),
        ("--momentum={momentum}", SGD, ["--momentum=0.5"]),
        ("{lr},{momentum}", ADAM, []),
        ("{nesterov}", SGD, ["true"]),
    ],
)
def test_templates(template, config, expected):
    made = study(args=[template], env={"X": template})
    argv, env = made.command_for(config, trial=7, attempt=2, until=9, trial_dir="/t/7")
    assert argv == ["python", "train.py", *expected]
    assert env == dict.fromkeys(["X"] * len(expected), *expected) if expected else env == {}


def test_a_name_is_a_key_never_an_attribute():
    space = {
        "sgd.lr": {"type": "float", "low": 0, "high": 1},
        "batch-size": {"type": "int", "low": 1, "high": 9},
    }
    made = study(space=space, args=["{sgd.lr} {batch-size}"])
    argv, _ = made.command_for({"sgd.lr": 0.5, "batch-size": 4}, trial=0, attempt=1, until=1, trial_dir="")
    assert argv[-1] == "0.5 4"
    for template in ("{lr.real}", "{optimizer[0]}", "{study.__class__}"):
        with pytest.raises(StudyError, match="is no hyper-parameter"):
            parse_study({**BASE, "args": [template]})


def test_an_image_alone_runs_its_own_command():
    made = study(command=[], image="registry/digits:1", args=["--lr={lr}"])
    assert made.command_for(ADAM, trial=0, attempt=1, until=1, trial_dir="")[0] == ["--lr=0.01"]


def test_a_shell_keeps_its_variables():
    made = study(command=["sh", "-c", "train --lr=${lr}"], env={"lr": "{lr}"})
    assert made.command_for(ADAM, trial=0, attempt=1, until=1, trial_dir="") == (
        ["sh", "-c", "train --lr=${lr}"], {"lr": "0.01"},
    )  # fmt: skip


# -- the form ------------------------------------------------------------------------------------------

MODELS = [Study, *(m for m in vars(study_parts).values() if isinstance(m, type) and issubclass(m, BaseModel))]
FIELDS = [(m, name) for m in MODELS for name in m.model_fields]


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=[f"{m.__name__}.{name}" for m, name in FIELDS])
def test_every_field_says_what_it_is_in_one_short_sentence(model, name):
    field = model.model_fields[name]
    assert field.title
    assert field.description.endswith(".")
    assert len(field.description) < 100
    assert ". " not in field.description


def test_there_is_a_json_schema():
    schema = Study.model_json_schema()
    assert set(schema["required"]) == {"name", "metrics", "resource", "space", "budget"}
    assert schema["properties"]["stall_after"]["anyOf"][0]["type"] == "number"
