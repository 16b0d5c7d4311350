"""docs/study-file.md says what is."""

import re
from pathlib import Path

import pytest

from flows.study import kubernetes as study_kubernetes
from flows.study import parts as study_parts
from flows.study.file import load_study
from flows.study.methods import options_of
from flows.study.model import FIXED, Study
from flows.study.summary import check_summary
from hpo_engine.methods import METHODS

DOC = (Path(__file__).parents[2] / "docs" / "study-file.md").read_text()
SECTIONS = ("Metric", "Constraint", "Resource", "Budget", "FloatParameter", "IntParameter")
SECTIONS += ("Kubernetes", "Gpus")
SECTIONS += ("CategoricalParameter", "OrdinalParameter")


def row(name):
    """The cells of the row that begins with `name`."""
    line = re.search(rf"^\| (?:`[a-z-]+`, )?`{re.escape(name)}`.*$", DOC, re.M)
    return [cell.strip() for cell in line[0].strip("|").split("|")] if line else None


def test_its_example_loads_and_shows_a_conditional_argument(tmp_path):
    (tmp_path / "study.yaml").write_text(re.search(r"```yaml\n(.*?)```", DOC, re.S)[1])
    study = load_study(tmp_path / "study.yaml")
    assert check_summary(study).argv == (
        "python", "train.py", "--lr=0.001000", "--units=128", "--optimizer=adam",
    )  # fmt: skip
    assert study.levels() == (1, 3, 9, 27)


@pytest.mark.parametrize("name", Study.model_fields)
def test_every_field_has_a_row_with_its_default(name):
    default = Study.model_fields[name].get_default()
    words = {"method": "a-bohb", "stall_after": "never", "command": "none", "image": "none"}
    words["kubernetes"] = "see there"
    if Study.model_fields[name].is_required():
        words[name] = "required"
    assert row(name)[1].strip("`") == words.get(name, str(default))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_of_a_section_is_mentioned(section):
    missing = [
        name
        for name in getattr(
            study_kubernetes if section in ("Kubernetes", "Gpus") else study_parts, section
        ).model_fields
        if f"`{name}`" not in DOC and f"`{name}:" not in DOC
    ]
    assert missing == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_options_and_defaults(name):
    options = [f"`{p.name}: {p.default}`" for p in options_of(METHODS[name]).values()]
    assert row(name)[1] == ", ".join(options)


def test_what_may_not_change_is_listed():
    sentence = re.search(r"A study that is resumed must have the same (.*?);", DOC)[1]
    assert tuple(re.findall(r"`(\w+)`", sentence)) == FIXED
