# ruff: noqa: E501
"""The form of the deployed flow: what Prefect shows of it, and the study or the mistakes that it makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow

from flows.deployment.form import ADVANCED, SPACE, Form, flat
from flows.deployment.form_fill import form_of
from flows.deployment.form_study import PLACES, study_of
from flows.deployment.mistakes import mistakes_markdown, mistakes_message
from flows.study.file import StudyError, load_study, parse_study
from hpo_engine.methods import METHODS

EXAMPLES = Path(__file__).parents[2] / "examples" / "kubernetes"
ENV = {"ABOHB_STORE": "s3://tuning/studies", "ABOHB_AGENT_IMAGE": "registry.example/agent:1"}
NEEDED = {"study": "digits", "image": "registry.example/digits:1"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)


def filled_in(**fields: Any) -> Form:
    return Form.model_construct(**{**NEEDED, **fields})


def mistakes(**fields: Any) -> list[str]:
    with pytest.raises(StudyError) as caught:
        study_of(filled_in(**fields), ENV)
    return str(caught.value).splitlines()


# -- what Prefect makes of it ---------------------------------------------------------------------------


@flat
def body(form: Form) -> Form:
    return form


SCHEMA = flow(name="tune")(body).parameters.model_dump()


def test_prefect_shows_title_description_and_default_of_each_field_in_order() -> None:
    shown = sorted(SCHEMA["properties"], key=lambda name: SCHEMA["properties"][name]["position"])
    assert shown == [*PLACES, "advanced"] == list(Form.model_fields)
    for name, field in Form.model_fields.items():
        told = SCHEMA["properties"][name]
        assert (told["title"], told["description"]) == (field.title, field.description)
        assert field.is_required() or told["default"] == field.default
    assert SCHEMA["required"] == ["study", "image"]
    assert "$ref" not in json.dumps(SCHEMA)  # flat


def test_choices_are_dropdowns_and_yaml_is_many_lines() -> None:
    assert SCHEMA["properties"]["goal"]["enum"] == ["min", "max"]
    assert set(SCHEMA["properties"]["method"]["enum"]) == set(METHODS)
    assert "\n" in SCHEMA["properties"]["search_space"]["default"]
    assert "\n" in SCHEMA["properties"]["advanced"]["default"]


def test_a_flow_is_called_with_single_fields_and_its_body_gets_the_form() -> None:
    assert body(study="a", image="b", workers=2) == Form(study="a", image="b", workers=2)


# -- a form that is right -------------------------------------------------------------------------------


def test_the_form_as_it_stands_is_the_digits_study() -> None:
    digits = load_study(EXAMPLES / "digits.yaml")
    study = study_of(filled_in(), ENV)
    assert study.space == digits.space
    assert (study.levels(), study.budget, study.workers) == (digits.levels(), digits.budget, digits.workers)
    assert study.store == ENV["ABOHB_STORE"]
    assert study.command == []


def test_command_and_arguments_are_words_as_in_a_shell() -> None:
    study = study_of(
        filled_in(
            command="python 'my train.py'", arguments='--lr={learning_rate:.6f}\n--name="a b"', metric="v"
        ),
        ENV,
    )
    assert study.command == ["python", "my train.py"]
    assert study.args == ["--lr={learning_rate:.6f}", "--name=a b"]


def test_what_a_trial_asks_for() -> None:
    study = study_of(filled_in(gpus=2, cpu="500m", advanced="kubernetes: {limits: {memory: 4Gi}}"), ENV)
    assert study.kubernetes.gpus.count == 2
    assert study.kubernetes.requests == {"cpu": "500m", "memory": "1Gi"}
    assert study.kubernetes.limits == {"memory": "4Gi"}
    assert study_of(filled_in(), ENV).kubernetes.requests == {"cpu": "1", "memory": "1Gi"}


def test_advanced_adds_to_what_stands_above() -> None:
    advanced = """\
metrics: [{name: megabytes, mode: max}]
constraints: [{metric: megabytes, max: 50}]
method: {samples: 7}
budget: {target: 0.05}
resource: {resumable: false}
kubernetes: {gpus: {by: layers, values: {1: 1, 2: 1, 3: 4}}, requests: {cpu: 2}}
stall_after: 5m
"""
    space = "layers: {type: ordinal, values: [1, 2, 3]}"
    study = study_of(filled_in(advanced=advanced, search_space=space), ENV)
    assert [metric.name for metric in study.metrics] == ["val_error", "megabytes"]
    assert study.method.options == {"samples": 7}
    assert (study.budget.trials, study.budget.target) == (30, 0.05)
    assert not study.resource.resumable
    assert study.kubernetes.gpus.of({"layers": 3}) == 4
    assert study.kubernetes.requests == {"cpu": "2"}
    assert study.stall_after == 300


# -- a form that is wrong -------------------------------------------------------------------------------

# (fields, what the user is told)
TABLE: list[tuple[dict[str, Any], list[str]]] = [
    ({"study": "My Study"}, ["study: got 'My Study', expected up to 40 of a-z, 0-9 and '-', which is neither first nor last; 'my-study' would do"]),
    ({"image": " "}, ["image: got '', expected an image such as registry.example/digits:1.0"]),
    ({"command": "python 'a"}, [r"""command: no closing quotation; close it, or write \' or \""""]),
    ({"command": "python {width}"}, ["command, word 2: got '{width}', but command is taken literally; move it to arguments"]),
    ({"arguments": "--a={width} --b={wdth}"}, ["arguments, word 2: {wdth} is no hyper-parameter; did you mean 'width'?"]),
    ({"metric": ""}, ["metric: is empty"]),
    ({"search_space": "a: {type: int, low: 1, high: 2}\nlr: {type: flaot, low: 1, high: 2}"}, ["search_space, line 2, lr.type: got 'flaot', expected float or int or categorical or ordinal; did you mean 'float'?"]),
    ({"search_space": "lr:\n  type: float\n  low: 2\n  high: 1"}, ["search_space, line 3, lr.low: got 2, expected less than high, which is 1"]),
    ({"search_space": "lr: {type: float"}, ["search_space, line 1: is not valid YAML: while parsing a flow mapping, expected ',' or '}', but got '<stream end>'; a bracket is opened and not closed"]),
    ({"search_space": ""}, ["search_space: is missing. The hyper-parameters by name."]),
    ({"search_space": "lr"}, ["search_space: got 'lr', expected keys and values"]),
    ({"resource_min": 27}, ["resource_min: got 27, expected less than max, which is 27"]),
    ({"eta": 1}, ["eta: got 1, expected at least 2"]),
    ({"method": "os:system"}, ["method: got 'os:system', expected random, asha, asha-stop, hyperband, a-bohb, a-bohb-stop"]),
    ({"workers": 0}, ["workers: got 0, expected at least 1"]),
    ({"gpus": -1}, ["gpus: got -1, expected at least 0"]),
    ({"cpu": "two"}, ["cpu: got 'two', expected a quantity such as 500m, 2 or 4Gi"]),
    ({"memory": "4 GB"}, ["memory: got '4 GB', expected a quantity such as 500m, 2 or 4Gi"]),
    ({"trials": 0}, ["trials: say when the study ends: trials, hours, or in advanced budget: {target: 0.05}"]),
    ({"hours": -1.0}, ["hours: got -1.0, expected more than 0"]),
    ({"seed": -1}, ["seed: got -1, expected at least 0"]),
    ({"advanced": "workrs: 3"}, ["advanced, line 1, workrs: is no field of a study; did you mean 'workers'?"]),
    ({"advanced": "# a comment\nseed: 4"}, ["advanced, line 2, seed: is set above, by seed; leave it out here"]),
    ({"advanced": "method: asha"}, ["advanced, line 1, method: is set above, by method; leave it out here"]),
    ({"advanced": "method: {name: asha}"}, ["advanced, line 1, method.name: is set above, by method; leave it out here"]),
    ({"advanced": "method: {sampels: 3}"}, ["advanced, line 1, method.sampels: is no option of a-bohb; did you mean 'samples'?"]),
    ({"advanced": "resource: {eta: 4}"}, ["advanced, line 1, resource.eta: is set above, by eta; leave it out here"]),
    ({"advanced": "kubernetes: {gpus: 2}", "gpus": 1}, ["advanced, line 1, kubernetes.gpus: is set above, by gpus; leave it out here"]),
    ({"advanced": "space: {a: {type: int, low: 1, high: 2}}"}, ["advanced, line 1, space: is set above, by search_space; leave it out here"]),
    ({"advanced": "metrics: [{name: q, mode: mx}]"}, ["advanced, line 1, metrics[0].mode: got 'mx', expected min or max; did you mean 'max'?"]),
    ({"advanced": "metrics: val_error"}, ["advanced, line 1, metrics: is set above, by metric, goal; leave it out here"]),
    ({"advanced": "stall_after: soon"}, ["advanced, line 1, stall_after: got 'soon', expected seconds or a time such as 90s, 10m or 1h30m"]),
    ({"advanced": "args: [a]", "arguments": "b"}, ["advanced, line 1, args: is set above, by arguments; leave it out here"]),
    ({"advanced": "a word"}, ["advanced: got 'a word', expected keys and values, such as stall_after: 10m"]),
    ({"advanced": "store: file:///tmp"}, ["advanced, line 1, store: is /tmp; pods share no directory with us, give s3://bucket/prefix"]),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "told"), TABLE, ids=lambda value: str(value)[:40])
def test_a_mistake_is_told_by_the_names_of_the_form(fields: dict[str, Any], told: list[str]) -> None:
    assert mistakes(**fields) == told


def test_all_mistakes_are_told_at_once_in_the_order_of_the_form() -> None:
    fields = {
        name: value for wrong, _ in TABLE[1:2] + TABLE[6:7] + TABLE[14:15] for name, value in wrong.items()
    }
    told = [line for _, lines in TABLE[1:2] + TABLE[6:7] + TABLE[14:15] for line in lines]
    assert mistakes(advanced="workrs: 3\nseed: 1", **fields) == [
        *told,
        "advanced, line 1, workrs: is no field of a study; did you mean 'workers'?",
        "advanced, line 2, seed: is set above, by seed; leave it out here",
    ]


def test_what_the_platform_lacks_is_told_as_well() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ABOHB_STORE")
        patch.delenv("ABOHB_AGENT_IMAGE")
        assert mistakes() == [
            "store: is ./abohb-runs; pods share no directory with us, give s3://bucket/prefix",
            "kubernetes.agent_image: is missing, and so is the variable ABOHB_AGENT_IMAGE (docs/kubernetes.md)",
        ]


def test_aliases_of_aliases_cannot_fill_the_memory() -> None:
    levels = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    levels += [
        f"{now}: &{now} [{','.join(9 * [f'*{before}'])}]"
        for before, now in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert mistakes(advanced="\n".join(levels)) == [
        "advanced: has more than 100000 entries, aliases filled in"
    ]


# -- what Prefect is told -------------------------------------------------------------------------------


def test_the_artifact_is_a_table_in_which_words_are_only_words() -> None:
    with pytest.raises(StudyError) as caught:
        study_of(filled_in(study="<img src=x>|*a*", workers=0), ENV)
    text = mistakes_markdown(caught.value)
    assert text.startswith("# Nothing was started: 2 mistakes\n\n| where | what |\n|---|---|\n| study | got ")
    assert "<img" not in text
    assert r"&lt;img src=x&gt;\|\*a\*" in text
    assert mistakes_message(caught.value).startswith("mistakes: study: got")
    assert "; workers: got 0" in mistakes_message(caught.value)


# -- a study file as a form -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits.yaml", "shell.yaml"])
def test_a_study_file_goes_through_the_form_unchanged(name: str) -> None:
    study = load_study(EXAMPLES / name)
    back = study_of(form_of(study), ENV)
    assert back.model_dump(exclude={"workdir"}) == study.model_dump(exclude={"workdir"})


def test_texts_stay_texts_and_options_are_kept(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("""\
name: odd
image: registry.example/odd@sha256:1234
command: [sh, -c, "echo '$x' \\"{{ }}\\" \\\\ 1e-4"]
args: ["--a={a}", "two words", ""]
env: {LR: "1e-4", NO: "no", "Y.x": "true"}
metrics: [{name: v, mode: max}, w]
resource: {name: step, min: 2, max: 50, eta: 4, resumable: false}
space:
  a: {type: categorical, values: ["1e-4", "null", "true", 'q"uote', "ü"]}
  b: {type: float, low: 1e-6, high: 1, log: true, when: {a: "1e-4"}}
method: {name: a-bohb-stop, brackets: 2}
budget: {hours: 1.5, target: 0.9}
kubernetes: {gpus: {by: a, values: {"1e-4": 1, "null": 0, "true": 0, 'q"uote': 0, "ü": 2}, resource: amd.com/gpu}}
""")
    study = load_study(tmp_path / "study.yaml")
    form = form_of(study)
    back = study_of(form, ENV)
    assert back.model_dump(exclude={"workdir", "store"}) == study.model_dump(exclude={"workdir", "store"})
    assert (form.trials, form.hours, form.gpus, form.cpu) == (0, 1.5, 0, "")
    rest = {"env", "metrics", "resource", "method", "budget", "kubernetes", "store"}
    assert set(yaml.safe_load(form.advanced)) == rest


def test_a_method_of_ones_own_cannot_be_submitted() -> None:
    space = {"a": {"type": "int", "low": 1, "high": 3}}
    own = {
        "metrics": ["v"],
        "resource": {"max": 3},
        "budget": {"trials": 1},
        "method": "hpo_engine.methods:random",
    }
    with pytest.raises(StudyError) as caught:
        form_of(parse_study({"name": "own", "image": "a", "space": space, **own}))
    assert (
        str(caught.value) == "method.name: is your own; it runs where `abohb tune` does, and cannot be sent"
    )


def test_the_defaults_are_what_the_form_is_filled_with() -> None:
    assert set(yaml.safe_load(SPACE)) == set(load_study(EXAMPLES / "digits.yaml").space)
    assert yaml.safe_load(ADVANCED) is None


def test_the_document_shows_the_form_and_what_a_mistake_looks_like() -> None:
    page = (EXAMPLES.parents[1] / "docs" / "prefect.md").read_text().partition("## The form")[2]
    rows = [re.findall(r"`(\w+)`", cell) for cell in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ", page, re.M)]
    assert [name for row in rows for name in row] == list(Form.model_fields)
    space = "a: {type: int, low: 1, high: 2}\nlr: {type: flaot, low: 1, high: 2}"
    for line in mistakes(search_space=space, workers=0, advanced="seed: 1"):
        where, _, what = line.partition(": ")
        assert f"| {where} | {what} |" in page
