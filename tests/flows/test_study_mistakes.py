# ruff: noqa: E501
"""Bad study files, and the exact lines that a user sees for them: one mistake a row."""

import pytest

from flows.study.file import StudyError, load_study

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


def lines_for(text, tmp_path, monkeypatch):
    """What `load_study` says, by line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(StudyError) as caught:
        load_study("study.yaml")
    return str(caught.value).splitlines()


def edited(number, line):
    lines = GOOD.splitlines()
    lines[number - 1] = line
    return "\n".join(lines)


# (line of the good file, what stands there instead, what the user is told)
TABLE = [
    (1, "name: My Study", ["study.yaml:1 name: got 'My Study', expected up to 40 of a-z, 0-9 and '-', which is neither first nor last; 'my-study' would do"]),
    (1, "name: 12", ["study.yaml:1 name: got 12, expected text; put it in quotes: \"12\""]),
    (1, "name: " + "a" * 41, ["study.yaml:1 name: got '" + "a" * 41 + "', expected up to 40 of a-z, 0-9 and '-', which is neither first nor last; '" + "a" * 40 + "' would do"]),
    (1, "", ["study.yaml name: is missing. Names the study in the store; the same name resumes it."]),
    (1, "nmae: digits", ["study.yaml:1 nmae: is no field of a study; did you mean 'name'?"]),
    (1, "name: digits\nname: other", ["study.yaml:2 name: is given twice, first on line 1; remove one of them"]),
    (2, "", ["study.yaml command: is missing, and so is image; give command: [python, train.py], or image: with --on kubernetes"]),
    (2, "comand: [python]", ["study.yaml:2 comand: is no field of a study; did you mean 'command'?"]),
    (2, "command: python train.py", ["study.yaml:2 command: got 'python train.py', expected a list: [python, train.py]"]),
    (2, 'command: [python, "--units={units}"]', ["study.yaml:2 command[1]: got '--units={units}', but command is taken literally; move it to args"]),
    (2, "image: a b", ["study.yaml:2 image: got 'a b', expected an image such as registry.example/digits:1.0"]),
    (3, "args: [--lr={learning_rate}]", ["study.yaml:3: is not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '{'; put text with { } within [ ] in quotes: [\"--lr={lr}\"]"]),
    (3, "args: [{learning_rate}]", ['study.yaml:3 args[0]: got keys and values, expected text; put text with { } or [ ] in quotes: "{lr}"']),
    (3, 'args: ["--lr={lerning_rate}"]', ["study.yaml:3 args[0]: {lerning_rate} is no hyper-parameter; did you mean 'learning_rate'?"]),
    (3, 'args: ["{}"]', ["study.yaml:3 args[0]: '{}' has braces without a name; a brace itself is written {{ or }}"]),
    (3, 'args: ["{units:9999}"]', ["study.yaml:3 args[0]: '{units:9999}' has a format of more than 999 characters"]),
    (3, 'args: ["{units"]', ["study.yaml:3 args[0]: '{units' is no template (expected '}' before end of string); a brace itself is written {{ or }}"]),
    (3, 'args: ["{optimizer:.2f}"]', ["study.yaml:3 args[0]: '{optimizer:.2f}' cannot be written for optimizer = 'adam': Unknown format code 'f' for object of type 'str'"]),
    (3, 'args: ["{learning_rate:d}"]', ["study.yaml:3 args[0]: '{learning_rate:d}' cannot be written for learning_rate = 0.0001: Unknown format code 'd' for object of type 'float'"]),
    (3, 'args: ["--momentum", "{momentum}"]', ["study.yaml:3 args[1]: {momentum} is left out where it does not exist, '--momentum' is not; write '--momentum={momentum}' instead"]),
    (3, "args: [true]", ['study.yaml:3 args[0]: got true, expected text; put it in quotes: "true"']),
    (3, 'env: {LR: "{lr_rate}"}', ["study.yaml:3 env.LR: {lr_rate} is no hyper-parameter; did you mean 'learning_rate'?"]),
    (3, 'env: {"A=B": x}', ["study.yaml:3 env.A=B: is no name of an environment variable; expected letters, digits, '_', '-' and '.'"]),
    (3, "env: {ABOHB_TRIAL_DIR: x}", ["study.yaml:3 env.ABOHB_TRIAL_DIR: names with ABOHB_ are set by abohb itself; choose another"]),
    (4, "metrics: []", ["study.yaml:4 metrics: is empty; give at least one"]),
    (4, "metrics: val_error", ["study.yaml:4 metrics: got 'val_error', expected a list: [val_error]"]),
    (4, "metrics: [size, size]", ["study.yaml:4 metrics[1]: 'size' is listed twice, first as metrics[0]"]),
    (4, "metrics: [{name: size, mode: maxx}]", ["study.yaml:4 metrics[0].mode: got 'maxx', expected min or max; did you mean 'max'?"]),
    (4, "metrics: [{name: sise, mode: mni}]", [
        "study.yaml:4 metrics[0].mode: got 'mni', expected min or max; did you mean 'min'?",
        "study.yaml:5 constraints[0].metric: 'size' is not among the metrics; did you mean 'sise'?",
    ]),
    (4, "metrics: [{name: size, mod: max}]", ["study.yaml:4 metrics[0].mod: is not known here; did you mean 'mode'?"]),
    (5, "constraints: [{metric: sise, max: 1}]", ["study.yaml:5 constraints[0].metric: 'sise' is not among the metrics; did you mean 'size'?"]),
    (5, "constraints: [{metric: size}]", ["study.yaml:5 constraints[0]: has no bound; give min, max or both"]),
    (5, "constraints: [{metric: size, min: 2, max: 1}]", ["study.yaml:5 constraints[0].min: got 2, above max 1; nothing could keep it"]),
    (5, "constraints: [{metric: size, max: .nan}]", ["study.yaml:5 constraints[0].max: got nan, expected a finite number"]),
    (6, "resource: {max: 27, eta: 1}", ["study.yaml:6 resource.eta: got 1, expected at least 2"]),
    (6, "resource: {min: 27, max: 27}", ["study.yaml:6 resource.min: got 27, expected less than max, which is 27"]),
    (6, "resource: {min: 0, max: 2.5}", ["study.yaml:6 resource.min: got 0, expected at least 1", "study.yaml:6 resource.max: got 2.5, expected a whole number"]),
    (6, "resource: {name: epoch}", ["study.yaml:6 resource.max: is missing. Units of a full training run."]),
    (6, "resource: {mx: 27}", ["study.yaml:6 resource.mx: is not known here; did you mean 'max'?"]),
    (6, "resource: 27", ["study.yaml:6 resource: got 27, expected keys and values: name, min, max, eta, resumable"]),
    (6, "resource: {max: 27, resumable: no}", ["study.yaml:6 resource.resumable: got 'no', expected true or false"]),
    (8, "  learning_rate: {type: float, low: 0, high: 1, log: true}", ["study.yaml:8 space.learning_rate.low: got 0, a log scale needs low > 0; raise low (say to 1e-6), or remove log"]),
    (8, "  learning_rate: {type: float, low: 1, high: 1}", ["study.yaml:8 space.learning_rate.low: got 1, expected less than high, which is 1"]),
    (8, "  learning_rate: {type: float, low: 1e-4}", ["study.yaml:8 space.learning_rate.high: is missing. The largest value."]),
    (8, '  learning_rate: {type: float, low: "1e-4", high: 1}', ["study.yaml:8 space.learning_rate.low: got '1e-4', expected a number; write 0.0001 without quotes"]),
    (8, "  learning_rate: {type: float, low: 0, hihg: 1}", ["study.yaml:8 space.learning_rate.hihg: is not known here; did you mean 'high'?"]),
    (8, "  learning_rate: {type: flaot, low: 0, high: 1}", ["study.yaml:8 space.learning_rate.type: got 'flaot', expected float or int or categorical or ordinal; did you mean 'float'?"]),
    (8, "  learning_rate: {typ: float, low: 0, high: 1}", ["study.yaml:8 space.learning_rate.typ: is not known here; did you mean 'type'?"]),
    (8, "  learning_rate: {low: 0, high: 1}", ["study.yaml:8 space.learning_rate.type: is missing; expected float, int, categorical or ordinal"]),
    (8, "  learning_rate: 0.1", ["study.yaml:8 space.learning_rate: got 0.1, expected keys and values: type, low, high, log, when"]),
    (8, "  learning_rate:\n    type: float\n    low: 2\n    high: 1", ["study.yaml:10 space.learning_rate.low: got 2, expected less than high, which is 1"]),
    (9, "  optimizer: {type: categorical, values: [sgd]}", ["study.yaml:9 space.optimizer.values: got ['sgd'], expected at least two values; a value that never changes belongs in args or env"]),
    (9, "  optimizer: {type: ordinal, values: [sgd, 1, 1.0]}", ["study.yaml:9 space.optimizer.values[2]: 1.0 is listed twice"]),
    (9, "  optimizer: {type: categorical, values: [sgd, [1]]}", ["study.yaml:9 space.optimizer.values[1]: got a list, expected a number, a text, true or false"]),
    (10, "  momentum: {type: float, low: 0, high: 1, when: {optimiser: sgd}}", ["study.yaml:10 space.momentum.when.optimiser: is no other hyper-parameter; did you mean 'optimizer'?"]),
    (10, "  momentum: {type: float, low: 0, high: 1, when: {optimizer: [sgd, adm]}}", ["study.yaml:10 space.momentum.when.optimizer: 'adm' is no value of optimizer; did you mean 'adam'?"]),
    (10, "  momentum: {type: float, low: 0, high: 1, when: {learning_rate: 1}}", ["study.yaml:10 space.momentum.when.learning_rate: learning_rate is a float; expected a categorical, an ordinal or an int"]),
    (10, "  momentum: {type: float, low: 0, high: 1, when: {units: 7}}", ["study.yaml:10 space.momentum.when.units: 7 is no value of units; it goes from 8 to 64"]),
    (10, "  momentum: {type: float, low: 0, high: 1, when: {units: 8, optimizer: sgd}}", ["study.yaml:10 space.momentum.when: names 2 hyper-parameters, expected one, e.g. when: {optimizer: sgd}"]),
    (10, "  a: {type: int, low: 0, high: 1, when: {optimizer: sgd}}\n  b: {type: int, low: 0, high: 1, when: {a: 1}}", ["study.yaml:11 space.b.when.a: a has a when itself; only one level is possible"]),
    (11, "  trial: {type: int, low: 8, high: 64}", ["study.yaml:11 space.trial: this name is taken: {trial} in a template is the trial; choose another"]),
    (11, "  a b: {type: int, low: 8, high: 64}", ["study.yaml:11 space.a b: a hyper-parameter's name is a letter or '_', then letters, digits, '_', '-' and '.'"]),
    (11, "  units: {type: int, low: 0, high: 64, log: true}", ["study.yaml:11 space.units.low: got 0, a log scale needs low > 0; raise low (say to 1), or remove log"]),
    (11, "  12: {type: int, low: 8, high: 64}", ["study.yaml:11 space[12]: got 12, expected text; put it in quotes: \"12\""]),
    (11, "  units: {type: int, low: 8.5, high: 64}\ninitial: [{learning_rate: 2, optimizer: adam, units: 9}]", [
        "study.yaml:11 space.units.low: got 8.5, expected a whole number",
        "study.yaml:12 initial[0].learning_rate: got 2, expected a number from 0.0001 to 1.0",
        "study.yaml:14 initial: is given twice, first on line 12; remove one of them",
    ]),
    (12, "method: a-bhob", ["study.yaml:12 method: 'a-bhob' is no method; did you mean 'a-bohb'?"]),
    (12, "method: {name: bayes}", ["study.yaml:12 method.name: 'bayes' is no method; there is random, asha, asha-stop, hyperband, a-bohb, a-bohb-stop"]),
    (12, "method: {name: asha, bracket: 2}", ["study.yaml:12 method.bracket: is no option of asha; did you mean 'brackets'?"]),
    (12, "method: {name: asha, brackets: two}", ["study.yaml:12 method.brackets: got 'two', expected a whole number"]),
    (12, "method: {name: asha, brackets: 9}", ["study.yaml:12 method: brackets is 9; with 4 rungs it may be 1 to 4"]),
    (12, "method: os:nothing_like_it", ["study.yaml:12 method: os has no function 'nothing_like_it'"]),
    (12, "method: {name: random, brackets: 2}", ["study.yaml:12 method.brackets: is no option of random; it takes none"]),
    (12, "method: {brackets: 2}", ["study.yaml:12 method.name: is missing. A method's name, or package.module:factory."]),
    (12, "method: nowhere.at_all:make", ["study.yaml:12 method: 'nowhere.at_all' cannot be imported (No module named 'nowhere'); is it installed, or on PYTHONPATH?"]),
    (12, "method: hpo_engine.methods:a_bhob", ["study.yaml:12 method: hpo_engine.methods has no function 'a_bhob'; did you mean 'a_bohb'?"]),
    (13, "initial:\n  - {learning_rate: 0.1, optimizer: adam, unit: 8}", [
        "study.yaml:14 initial[0].unit: is no hyper-parameter; did you mean 'units'?",
    ]),
    (13, "initial:\n  - {learning_rate: 2, optimizer: adam, momentum: 0, units: 8}", [
        "study.yaml:14 initial[0].learning_rate: got 2, expected a number from 0.0001 to 1.0",
        "study.yaml:14 initial[0].momentum: exists only when optimizer is sgd; leave it out",
    ]),
    (13, "initial:\n  - {learning_rate: 1, optimizer: adam, units: 8}\n  - {learning_rate: 1.0, optimizer: adam, units: 8}", ["study.yaml:15 initial[1]: is the same point as initial[0]; leave one out"]),
    (13, "initial: [{learning_rate: 1, optimizer: adam, units: 8.0}]", ["study.yaml:13 initial[0].units: got 8.0, expected a whole number"]),
    (14, "budget: {}", ["study.yaml:14 budget: has no entry; give at least one of trials, hours, resource, target"]),
    (14, "", ["study.yaml budget: is missing. When the study ends: at whichever of its entries comes first."]),
    (14, "budget: {trials: 0, hours: 0}", ["study.yaml:14 budget.trials: got 0, expected at least 1", "study.yaml:14 budget.hours: got 0, expected more than 0"]),
    (14, "budget: {trials: 9}\nworkers: true", ["study.yaml:15 workers: got true, expected a whole number"]),
    (14, "budget: {trials: 9}\nworkers: 0", ["study.yaml:15 workers: got 0, expected at least 1"]),
    (14, "budget: {trials: 9}\nstall_after: soon", ["study.yaml:15 stall_after: got 'soon', expected seconds or a time such as 90s, 10m or 1h30m"]),
    (14, "budget: {trials: 9}\nstore: s3://Bucket/x", ["study.yaml:15 store: got 's3://Bucket/x', expected s3://bucket/prefix"]),
    (14, "budget: {trials: 9}\nkubernetes: {gpu: 1}", ["study.yaml:15 kubernetes.gpu: is not known here; did you mean 'gpus'?"]),
    (14, "budget: {trials: 9}\nkubernetes: {requests: {memory: 4GB}}", ["study.yaml:15 kubernetes.requests.memory: got '4GB', expected a quantity such as 500m, 2 or 4Gi"]),
    (14, "budget: {trials: 9}\nkubernetes: {node_selector: {pool: '{optimiser}'}}", ["study.yaml:15 kubernetes.node_selector.pool: {optimiser} is no hyper-parameter; did you mean 'optimizer'?"]),
    (14, "budget: {trials: 9}\nkubernetes: {gpus: {by: optimiser, values: {a: 1}}}", ["study.yaml:15 kubernetes.gpus.by: 'optimiser' is no hyper-parameter; did you mean 'optimizer'?"]),
    (14, "budget: {trials: 9}\nkubernetes: {gpus: {by: units, values: {a: 1}}}", ["study.yaml:15 kubernetes.gpus.by: 'units' is int, expected a categorical or an ordinal one"]),
    (14, "budget: {trials: 9}\nkubernetes: {store_endpoint: minio:9000}", ["study.yaml:15 kubernetes.store_endpoint: got 'minio:9000', expected http://host:port or https://host"]),
    (14, "budget: {trials: 9}\nstore: file://runs", ["study.yaml:15 store: got 'file://runs', expected file:///dir, a path or s3://bucket/prefix; did you mean 'file:///runs'?"]),
    (14, "budget: {trials: 9}\nstore: gs://runs", ["study.yaml:15 store: got 'gs://runs', expected file:///dir, a path or s3://bucket/prefix"]),
    (14, "budget: {trials: 9}\nstore: ''", ["study.yaml:15 store: is empty; expected file:///dir, a path or s3://bucket/prefix"]),
    (14, "budget: !!python/object:os.system {}", ["study.yaml:14 budget: got the tag 'tag:yaml.org,2002:python/object:os.system'; a study file has no tags"]),
    (14, "budget: {trials: 9\n", ["study.yaml:15: is not valid YAML: while parsing a flow mapping, expected ',' or '}', but got '<stream end>'; a bracket is opened and not closed"]),
    (14, "budget:\n\ttrials: 9", ["study.yaml:15: is not valid YAML: while scanning for the next token, found character '\\t' that cannot start any token; tabs cannot indent YAML; use spaces"]),
    (14, "budget: {trials: 9}\nfoo: a: b", ["study.yaml:15: is not valid YAML: mapping values are not allowed here; put text that contains ': ' in quotes, or check the indentation"]),
    (14, "budget: {trials: 9}\n---\nname: b", ["study.yaml:15: is not valid YAML: expected a single document in the stream, but found another document; one file holds one study; remove the line ---"]),
]  # fmt: skip


@pytest.mark.parametrize(("number", "line", "expected"), TABLE, ids=[repr(row[1]) for row in TABLE])
def test_a_bad_line_is_told(number, line, expected, tmp_path, monkeypatch):
    assert lines_for(edited(number, line), tmp_path, monkeypatch) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "study.yaml: is empty; a study has at least name, command (or image), metrics, resource, space and budget"),
        ("# nothing yet\n", "study.yaml: is empty; a study has at least name, command (or image), metrics, resource, space and budget"),
        ("- name: a\n", "study.yaml: got a list, expected keys and values, beginning with name: and command:"),
        ("digits", "study.yaml: got 'digits', expected keys and values, beginning with name: and command:"),
        ("[" * 600, "study.yaml: is nested too deep for a study"),
        ("a: &a [*a]", "study.yaml:1 a[0]: got an alias that contains itself"),
        ("\x00", "study.yaml: is not valid YAML: unacceptable character #x0000: special characters are not allowed"),
    ],
)  # fmt: skip
def test_what_is_no_study_at_all(text, expected, tmp_path, monkeypatch):
    assert lines_for(text, tmp_path, monkeypatch)[0] == expected


def test_eight_mistakes_are_told_at_once(tmp_path, monkeypatch):
    text = """\
name: Digits
comand: [python, train.py]
args: ["--lr={lerning_rate}"]
metrics: [val_error]
constraints: [{metric: val_eror, max: 1}]
resource: {max: 27, eta: 1}
space:
  learning_rate: {type: float, low: 0, high: 1, log: true}
  optimizer: {type: categorical, values: [adam, sgd]}
  momentum: {type: float, low: 0, high: 0.99, when: {optimzer: sgd}}
method: {name: a-bohb, sample: 30}
budget: {trials: 100}
"""
    assert lines_for(text, tmp_path, monkeypatch) == [
        "study.yaml:1 name: got 'Digits', expected up to 40 of a-z, 0-9 and '-', which is neither first nor last; 'digits' would do",
        "study.yaml:2 comand: is no field of a study; did you mean 'command'?",
        "study.yaml:3 args[0]: {lerning_rate} is no hyper-parameter; did you mean 'learning_rate'?",
        "study.yaml:5 constraints[0].metric: 'val_eror' is not among the metrics; did you mean 'val_error'?",
        "study.yaml:6 resource.eta: got 1, expected at least 2",
        "study.yaml:8 space.learning_rate.low: got 0, a log scale needs low > 0; raise low (say to 1e-6), or remove log",
        "study.yaml:10 space.momentum.when.optimzer: is no other hyper-parameter; did you mean 'optimizer'?",
        "study.yaml:11 method.sample: is no option of a-bohb; did you mean 'samples'?",
    ]
