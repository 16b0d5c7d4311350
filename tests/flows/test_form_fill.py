"""Any study goes through the form and comes back as it was: what `abohb submit` sends is what a file says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flows.deployment.form_fill import form_of
from flows.deployment.form_study import study_of
from flows.policy.apply import filled
from flows.study.file import StudyError, parse_study
from flows.study.kubernetes import Kubernetes
from flows.study.model import Study

ENV = {"ABOHB_STORE": "s3://tuning/studies", "ABOHB_AGENT_IMAGE": "registry.example/agent:1"}
BASE: dict[str, Any] = {
    "name": "there-and-back",
    "image": "registry.example/a:1",
    "metrics": ["loss"],
    "resource": {"max": 9},
    "space": {"c": {"type": "categorical", "values": ["a", "b"]}},
    "budget": {"trials": 3},
}
DEFAULTS = [
    Kubernetes.model_validate(data)
    for data in (
        {},
        {"gpus": {"count": 1, "resource": "amd.com/gpu"}},
        {"requests": {"cpu": "3", "memory": "3Gi", "example.com/x": "9"}, "limits": {"cpu": "9"}},
    )
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)


def returned(study: Study) -> Study:
    return study_of(form_of(study), ENV)


@pytest.mark.parametrize(
    "said", [{"cpu": "500m"}, {"memory": "512Mi"}, {"cpu": "1", "memory": "2Gi"}], ids=str
)
def test_a_study_that_asks_for_one_of_cpu_and_memory_asks_for_no_other(said: dict[str, str]) -> None:
    study = parse_study({**BASE, "kubernetes": {"requests": said, "limits": {"memory": "512Mi"}}})
    assert returned(study).kubernetes.requests == said
    form = form_of(study)
    assert (form.cpu, form.memory) == (tuple(said.values()) if len(said) == 2 else ("", ""))


def test_a_name_that_the_form_would_shorten_is_not_sent() -> None:
    study = parse_study({**BASE, "metrics": ["loss "], "resource": {"name": " step", "max": 9}})
    with pytest.raises(StudyError) as caught:
        form_of(study)
    assert str(caught.value).splitlines() == [
        "metrics[0].name: got 'loss '; the form takes no space around it",
        "resource.name: got ' step'; the form takes no space around it",
    ]


ODD = [
    " a",
    "1e-4",
    "null",
    "",
    "\x85",
    "\u2028",
    "\x7f",
    "\ufeff",
    "\U0001f600",
    "#",
    "a\nb",
    "'",
    '"\\',
    "\t",
]
text = st.sampled_from(ODD) | st.text(max_size=5)
plain = text.filter(lambda text: not {*"{}"} & {*text})  # no template
name = plain.filter(lambda text: text == text.strip() != "")
quantities = st.dictionaries(
    st.sampled_from(["cpu", "memory", "example.com/x"]), st.sampled_from(["1", "500m", "2Gi"]), max_size=3
)
gpus: list[Any] = [
    0,
    2,
    {},
    {"count": 0},
    {"resource": "amd.com/gpu"},
    {"by": "c", "values": {"a": 1, "b": 0}},
]
studies = st.fixed_dictionaries(
    {
        **{key: st.just(BASE[key]) for key in ("name", "image")},
        "metrics": st.lists(name | st.fixed_dictionaries({"name": name, "mode": st.just("max")}), min_size=1),
        "resource": st.fixed_dictionaries(
            {"max": st.integers(5, 9)}, optional={"name": name, "min": st.just(2), "resumable": st.booleans()}
        ),
        "space": st.lists(plain | st.booleans() | st.floats(-1, 1), min_size=2, max_size=3).map(
            lambda values: {**BASE["space"], "x": {"type": "categorical", "values": values}}
        ),
        "budget": st.sampled_from(
            [{"trials": 1}, {"hours": 0.1, "target": 1e-7}, {"resource": 5}, {"trials": None, "target": 1}]
        ),
    },
    optional={
        "command": st.lists(text, max_size=2),
        "args": st.lists(plain, max_size=2),
        "env": st.fixed_dictionaries({"A": plain}),
        "workers": st.integers(1, 3),
        "method": st.sampled_from(["random", {"name": "a-bohb", "samples": 7}]),
        "stall_after": st.none() | st.just(90),
        "kubernetes": st.fixed_dictionaries(
            {},
            optional={
                "requests": quantities,
                "limits": quantities,
                "gpus": st.sampled_from(gpus),
                "priority_class": st.none() | st.just("high"),
                "patch": st.sampled_from([{}, {"spec": {"affinity": None}}]),
            },
        ),
        "store": st.just("s3://other/x"),
    },
)  # fmt: skip


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[
        HealthCheck.filter_too_much,
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(studies)
def test_there_and_back(data: dict[str, Any]) -> None:
    try:
        study = parse_study(data)
    except StudyError:  # two values, or two metrics, that are the same
        assume(False)
    back = returned(study)
    assert back.model_dump(exclude={"workdir"}) == study.model_dump(exclude={"workdir"})
    for defaults in DEFAULTS:  # what a study has said is no platform's to fill in
        assert filled(back.kubernetes, defaults) == filled(study.kubernetes, defaults)
