"""The one-file helper, driven through a trial directory as any agent would make it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HELPER = Path(__file__).parents[2] / "images/trial/abohb_trial.py"


@pytest.fixture
def helper() -> ModuleType:
    """The file itself, not an installed copy of it."""
    module = ModuleType("abohb_trial")
    exec(compile(HELPER.read_text(), HELPER, "exec"), module.__dict__)
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABOHB_TRIAL_DIR", str(tmp_path))
    config = {
        "study": "s",
        "trial": 7,
        "attempt": 2,
        "hyperparameters": {"lr": 0.5},
        "resource": "epoch",
        "from": 0,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    order(tmp_path, 3)
    return tmp_path


def order(folder: Path, until: int, stop: bool = False) -> None:
    (folder / "order.json").write_text(json.dumps({"until": until, "stop": stop}))


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_file_that_old_pythons_can_run() -> None:
    text = HELPER.read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
    assert len(text.splitlines()) < 120


def test_a_whole_trial(helper: ModuleType, folder: Path) -> None:
    trial = helper.Trial(defaults={"lr": 1.0, "layers": 2})
    assert (trial.config, trial.checkpoint, trial.id) == ({"lr": 0.5, "layers": 2}, None, 7)
    for epoch in trial.epochs():
        path = trial.checkpoint_path("model")
        Path(path).write_text(str(epoch))
        trial.report(loss=1 / epoch, checkpoint=os.path.dirname(path))  # noqa: PTH120
    assert lines(folder) == [
        {"epoch": 1, "loss": 1.0, "checkpoint": "checkpoint-1"},
        {"epoch": 2, "loss": 0.5, "checkpoint": "checkpoint-2"},
        {"epoch": 3, "loss": 1 / 3, "checkpoint": "checkpoint-3"},
    ]


def test_it_goes_on_where_the_checkpoint_is(helper: ModuleType, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "from": 2, "resource": "step"}))
    (folder / "checkpoint").mkdir()
    trial = helper.Trial()
    assert trial.checkpoint == str(folder / "checkpoint")
    for _ in trial.epochs():
        trial.report(loss=1)
    assert lines(folder) == [{"step": 3, "loss": 1.0}]


@pytest.mark.parametrize(("until", "stop", "ran"), [(3, True, 2), (2, False, 2), (5, False, 5)])
def test_the_order_is_read_again_after_each_report(
    helper: ModuleType, folder: Path, until: int, stop: bool, ran: int
) -> None:
    trial = helper.Trial()
    for epoch in trial.epochs():
        trial.report(loss=1)
        if epoch == 2:
            order(folder, until, stop)
    assert len(lines(folder)) == ran


def test_a_forgotten_report_is_said(helper: ModuleType, folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"epoch 1 ended without trial.report"):
        for _ in helper.Trial().epochs():
            pass


def test_a_report_too_many_is_said(helper: ModuleType, folder: Path) -> None:
    trial = helper.Trial()
    with pytest.raises(RuntimeError, match="once in each turn"):
        trial.report(loss=1)
    next(trial.epochs())
    trial.report(loss=1)
    with pytest.raises(RuntimeError, match="once in each turn"):
        trial.report(loss=1)


def test_what_float_takes_is_a_metric(helper: ModuleType, folder: Path) -> None:
    numpy = pytest.importorskip("numpy")
    order(folder, 1)
    trial = helper.Trial()
    for _ in trial.epochs():
        trial.report(a=numpy.float32(0.5), b=numpy.array(2), c=float("nan"))
    assert str(lines(folder)) == "[{'epoch': 1, 'a': 0.5, 'b': 2.0, 'c': nan}]"


def test_a_module_level_trial_is_made_when_asked_for(folder: Path) -> None:
    code = "import abohb_trial as a; from abohb_trial import trial; assert a.trial is trial; print(trial.id)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HELPER.parent, capture_output=True, text=True)
    assert done.stdout == "7\n", done.stderr


def test_by_hand_it_prints_what_it_reports(tmp_path: Path) -> None:
    code = """if 1:
        from abohb_trial import Trial
        trial = Trial(defaults={"lr": 0.1}, epochs=2)
        for epoch in trial.epochs():
            trial.report(loss=trial.config["lr"], checkpoint=trial.checkpoint_path())
    """
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    out = subprocess.check_output([sys.executable, "-c", code], cwd=HELPER.parent, env=env, text=True)
    first, *rest = out.splitlines()
    assert first.startswith("no ABOHB_TRIAL_DIR: running by hand in ")
    assert [json.loads(line)["epoch"] for line in rest] == [1, 2]
