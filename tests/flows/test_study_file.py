"""From a file, or from Python, to a study; and YAML as 1.2 has it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.study.file import StudyError, load_study, parse_study
from flows.study.model import Study
from flows.study.yaml import read_yaml

GOOD = """\
name: digits
command: [python, train.py]
args: ["--lr={learning_rate}"]
metrics: [{name: val_error, mode: min}, {name: size}]
constraints: [{metric: size, max: 100}]
resource: {name: epoch, min: 1, max: 27, eta: 3}
space:
  learning_rate: {type: float, low: 1e-4, high: 1, log: true}
  optimizer: {type: categorical, values: [adam, sgd]}
  momentum: {type: float, low: 0, high: 0.99, when: {optimizer: sgd}}
  units: {type: int, low: 8, high: 64}
method: a-bohb
initial: []
budget: {trials: 100}
"""


def test_a_missing_file_is_told_with_its_neighbour(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(GOOD)
    with pytest.raises(StudyError, match=r"^study\.yml: there is no such file; did you mean study\.yaml\?$"):
        load_study("study.yml")
    with pytest.raises(StudyError, match=r"^\.: cannot be read: Is a directory$"):
        load_study(".")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(StudyError, match=r"is not UTF-8 text \(byte 6\)$"):
        load_study(path)


def test_problems_are_data():
    data = read_yaml(GOOD).data
    with pytest.raises(StudyError) as caught:
        parse_study({**data, "workers": 0})
    assert [(p.path, p.line, p.message) for p in caught.value.problems] == [
        ("workers", None, "got 0, expected at least 1")
    ]
    assert str(caught.value) == "workers: got 0, expected at least 1"


def test_the_same_study_from_file_and_python(tmp_path):
    (tmp_path / "study.yaml").write_text(GOOD)
    study = load_study(tmp_path / "study.yaml")
    assert study == parse_study(read_yaml(GOOD).data, tmp_path) == parse_study(study)
    assert (study.store, study.workdir) == (str(tmp_path / "abohb-runs"), str(tmp_path))


@pytest.mark.parametrize(
    ("store", "path"),
    [
        ("runs", "runs"),
        ("../runs", "../runs"),
        ("file:///tmp/my%20runs", "/tmp/my runs"),
        ("/tmp/runs", "/tmp/runs"),
    ],
)
def test_where_the_store_is(store, path, tmp_path):
    study = parse_study({**read_yaml(GOOD).data, "store": store}, tmp_path)
    assert study.store_path() == (tmp_path / path).resolve()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("010", 10), ("0x10", 16), ("0o10", 8),
        ("no", "no"), ("on", "on"), ("true", True), ("~", None), ("", None),
        ("1:30", "1:30"), ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("'1'", "1"), ("-.inf", float("-inf")), ("<<", "<<"), ("v1.0", "v1.0"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    got = read_yaml(f"a: {text}").data["a"]
    assert (got, type(got)) == (value, type(value))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=2)
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_junk_anywhere_is_refused_in_words_or_valid(data):
    """Whatever stands in one place of a study: a StudyError that names it, or a Study that round-trips."""
    study = read_yaml(GOOD).data | {"initial": [{"learning_rate": 0.1, "optimizer": "adam", "units": 9}]}
    place, last = study, data.draw(st.sampled_from(sorted(Study.model_fields)))
    while isinstance(place.get(last) if isinstance(place, dict) else place[last], dict | list) and data.draw(
        st.booleans()
    ):
        place = place[last]
        if not place:
            return
        last = data.draw(st.sampled_from(range(len(place)) if isinstance(place, list) else list(place)))
    place[last] = data.draw(JUNK)
    told = _told(study)
    assert told is None or (told.problems and all(problem.message for problem in told.problems))


def _told(data):
    """The StudyError; None when it is a study, one that the journal keeps as it is."""
    try:
        good = parse_study(data)
    except StudyError as error:
        return error
    assert Study.model_validate(good.model_dump(mode="json")) == good
    return None
