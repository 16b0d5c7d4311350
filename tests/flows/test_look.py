"""Looking at real studies from outside: status, trials, best and logs, as words and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli import main as cli
from flows.cli.look_text import aligned, clipped, trials_text
from flows.controller.run import tune_locally
from flows.outside.fetch import OVERLAP, Output, added
from flows.outside.look import Notes, known, look, rows, state
from flows.study.file import load_study
from flows.study.model import Study
from flows.study.store import open_store
from flows.views.view import Counts, StudyView
from hpo_engine.types import (
    AbohbError,
    AttemptEnded,
    AttemptStarted,
    Event,
    Held,
    Outcome,
    Status,
    Trial,
    Waiting,
)
from operators.store import DirectoryStore
from tests.flows.real_study import TRIAL, controller, write_study
from tests.flows.test_steering import running, until

# Below 0.3 they fail, below 0.4 once, from 0.9 on they diverge; both streams are written to.
ODD = TRIAL.replace(
    "while",
    """echo "rate $rate from $epoch"; echo "warming up" >&2
case $rate in
    0.[012]*) echo "no GPU" >&2; exit 3;;
    0.3*) if [ "$(number config.json attempt)" = 1 ]; then exit 4; fi;;
    0.9*) echo '{"epoch": 1, "loss": NaN, "sum": 0}' >> metrics.jsonl; exit 0;;
esac
while""",
    1,
).replace("sleep 0.05", "sleep 0.01")


RATES = (0.5, 0.1, 0.35, 0.95, 0.6, 0.7, 0.45, 0.2, 0.8, 0.55, 0.65, 0.75, 0.85, 0.99)


class Ran:
    """A study that has ended, and what commands say of it."""

    def __init__(self, folder: Path, **more: object) -> None:
        self.path, _ = write_study(folder)
        (folder / "trial.sh").write_text(ODD)
        document = yaml.safe_load(self.path.read_text())
        document |= {
            "name": "odd",
            "max_failures": 1,
            "max_failed_trials": 50,
            "budget": {"trials": len(RATES)},
            "initial": [{"rate": rate} for rate in RATES],
            **more,
        }
        self.path.write_text(yaml.safe_dump(document))
        self.study = load_study(self.path)
        tune_locally(self.study, [])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("odd"))


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capfdbinary: pytest.CaptureFixture[bytes]) -> Said:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


def files(study: Study) -> dict[str, float]:
    return {key: (study.store_path() / key).stat().st_mtime for key in open_store(study).list("odd/")}


# -- reading -----------------------------------------------------------------------------------------


def test_looking_leaves_everything_as_it_is(ran: Ran, said: Said, tmp_path: Path) -> None:
    before = files(ran.study)
    for command in (["status"], ["status", "--json"], ["status", "--watch"], ["trials"], ["best"]):
        code, out, err = said(command[0], ran.path, *command[1:])
        assert (code, err) == (0, "")
        assert out
    assert said("logs", ran.path, 0)[0] == 0
    assert said("best", ran.path, "--to", tmp_path / "best")[0] == 0
    assert files(ran.study) == before


@pytest.mark.parametrize("command", [["status"], ["trials"], ["best"], ["logs", "0"]], ids=" ".join)
def test_a_study_that_is_not_there(tmp_path: Path, said: Said, command: list[str]) -> None:
    path, study = write_study(tmp_path)
    expected = f"nothing is known of study 'killed' in {study.store}: it has not been tuned yet\n"
    assert said(command[0], path, *command[1:]) == (2, "", expected)
    assert not Path(study.store).exists()
    code, _, err = said(command[0], tmp_path / "stduy.yaml", *command[1:])
    assert code == 2
    assert "did you mean" in err
    (tmp_path / "runs").write_text("")
    assert said(command[0], path, *command[1:])[0] == 5


def test_a_study_is_shown_as_it_runs_whatever_its_file_says_now(ran: Ran, said: Said, tmp_path: Path) -> None:
    document = yaml.safe_load(ran.path.read_text()) | {"store": str(ran.study.store_path())}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(document | {"budget": {"trials": 99}, "workers": 7}))
    code, out, _ = said("status", other)
    assert code == 0
    assert "14 of 14 trials" in out
    assert "The study file has changed: workers, budget. That counts when it is tuned again.\n" in out
    other.write_text(yaml.safe_dump(document | {"seed": 5}))
    code, out, _ = said("status", other)
    assert code == 0
    assert "of another study, which cannot be tuned under this name:\n  seed: was 0, is 5\n" in out
    assert "changed" not in said("status", ran.path)[1]


# -- status ------------------------------------------------------------------------------------------


def test_the_status_of_a_study_that_has_ended(ran: Ran, said: Said) -> None:
    _, out, _ = said("status", ran.path)
    assert out.startswith("Study odd ended: the budget of 14 trials is used (")
    assert "\nFailed attempts, user error: 5, e.g. trial " in out
    assert "exited" in out
    assert f"Store: {ran.study.store_path().as_uri()}/odd\n" in out
    assert "worker" not in out


STATUS = {
    "study": str, "method": str, "objective": str, "mode": str, "unit": str, "seconds": float, "ended": str,
    "best": dict, "trials": dict, "rungs": list, "units": int, "full_units": int, "saved": float,
    "failures": list, "messages": list, "store": str, "again": str, "state": str, "controller": dict,
    "workers": int, "paused": bool, "asked": list, "waits": list, "changed": list, "slots": list,
}  # fmt: skip


def types(document: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in document.items()}


def test_the_schema_of_a_status(ran: Ran, said: Said) -> None:
    document = json.loads(said("status", ran.path, "--json")[1])
    assert types(document) == {**STATUS, "controller": type(None)}
    assert document["state"] == "ended"
    assert document["again"] == f"abohb tune {ran.path}"
    best = document["best"]
    assert open_store(ran.study).get(best["checkpoint"].removeprefix(ran.study.store_path().as_uri() + "/"))
    lines = said("status", ran.path, "--json", "--watch")[1].splitlines()
    assert [json.loads(line) for line in lines] == [document]


def test_the_status_of_a_study_that_runs_and_is_killed(tmp_path: Path, said: Said) -> None:
    path, study = write_study(tmp_path, trials=100_000)
    with running(path, study) as process:
        document = json.loads(said("status", path, "--json")[1])
        assert types(document) == {**STATUS, "ended": type(None)}
        assert document["state"] == "running"
        assert document["controller"]["alive"] is True
        assert 1 <= len(document["slots"]) <= 4
        code, out, _ = said("status", path)
        assert code == 0
        assert out.startswith(f"Study killed is running, tuned by process {process.pid} on ")
        assert "worker trial epoch" in out

        threading.Timer(3, process.kill).start()
        lines = said("status", path, "--watch", "--json")[1].splitlines()  # until nobody tunes it any more
        seen = [json.loads(line) for line in lines]
        assert len(seen) > 1
        assert [entry["state"] for entry in seen[:-1]] == ["running"] * (len(seen) - 1)
        assert seen[-1]["state"] == "interrupted"
        assert seen[-1]["units"] >= seen[0]["units"]
    code, out, _ = said("status", path)
    gone = f"process {process.pid} on {os.uname().nodename} has gone"
    first = f"Study killed has not ended. Nobody is tuning it ({gone}); to go on: abohb tune {path}\n"
    assert out.startswith(first)


def test_a_heart_on_another_host_is_listened_for(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, study = write_study(tmp_path, trials=100_000)
    with running(path, study) as process:
        process.kill()
    store = open_store(study)
    owner = {"epoch": 1, "host": "node-7/b/n", "pid": 12, "started": "1", "released": False}

    def beat(number: int) -> None:
        store.put("killed/owner.json", json.dumps({**owner, "beat": number}).encode())

    beat(1)
    timer = threading.Timer(2, beat, [2])
    timer.start()
    assert said("status", path)[1].startswith("Study killed is running, tuned by process 12 on node-7.")
    timer.join()
    monkeypatch.setattr("flows.cli.look.SILENCE", 0.3)
    assert "Nobody is tuning it (process 12 on node-7 has gone)" in said("status", path)[1]


@pytest.mark.parametrize(
    ("settings", "live", "alive", "word"),
    [
        ({}, True, True, "running"),
        ({}, False, True, "running"),
        ({"paused": 1}, True, True, "pausing"),
        ({"paused": 1}, False, True, "paused"),
        ({"paused": 1, "stopped": 1}, True, True, "stopping"),
        ({"paused": 0, "stopped": 0, "workers": 3}, True, True, "running"),
        ({"paused": 1}, False, False, "interrupted"),
        ({}, True, False, "interrupted"),
    ],
)
def test_the_state_in_one_word(
    ran: Ran, settings: dict[str, int], live: bool, alive: bool, word: str
) -> None:
    looked = look(ran.study, open_store(ran.study))
    assert state(looked, alive=alive) == "ended"
    looked.history.finished = None
    looked.history.settings.update(settings)
    looked.history.live.update({0: None} if live else {})
    assert state(looked, alive=alive) == word


# -- trials ------------------------------------------------------------------------------------------


def test_the_table_of_trials(ran: Ran, said: Said) -> None:
    _, out, _ = said("trials", ran.path)
    lines = out.splitlines()
    assert lines[0].split() == [
        "trial",
        "status",
        "epoch",
        "loss",
        "attempts",
        "failures",
        "why",
        "configuration",
    ]
    assert len(lines) == 1 + 14 + 2
    assert lines[-1].startswith("Trials: 14 started, ")
    looked = look(ran.study, open_store(ran.study))
    for line, trial in zip(lines[1:], looked.history.trials, strict=False):
        words = line.split()
        assert words[:3] == [str(trial.id), trial.status, f"{trial.resource}/{trial.until}"]
        assert words[4:6] == [str(trial.attempt), str(trial.failures)]
        assert words[-1] == f"rate={trial.config['rate']:.6g}"


def test_the_schema_of_trials_and_what_is_said_of_each(ran: Ran, said: Said) -> None:
    document = json.loads(said("trials", ran.path, "--json")[1])
    assert types(document) == {"study": str, "objective": str, "mode": str, "unit": str, "trials": list}
    names = [
        "trial",
        "status",
        "resource",
        "until",
        "value",
        "metrics",
        "attempts",
        "failures",
        "disruptions",
    ]
    names += ["why", "checkpoint", "units", "origin", "config"]
    assert [list(trial) for trial in document["trials"]] == [names] * 14
    seen = set()
    for trial in document["trials"]:
        rate = trial["config"]["rate"]
        seen.add(trial["status"])
        if rate < 0.3:
            assert (trial["status"], trial["failures"], trial["value"]) == ("failed", 2, None)
            assert trial["why"] == "user error: exited 3 after epoch 0, ordered until 1 (attempt 2)"
        elif rate >= 0.9:
            assert (trial["status"], trial["value"]) == ("stopped", None)
            assert trial["why"] == "diverged at 1"
            assert trial["metrics"]["loss"] is None
        else:
            once = "attempt 1: user error: exited 4 after epoch 0, ordered until 1 | warming up"
            assert trial["why"] == (once if rate < 0.4 else "")
            seen.add(trial["why"])
            assert trial["value"] == trial["metrics"]["loss"] == rate
            assert trial["checkpoint"] == trial["resource"] == trial["units"]
    assert seen >= {"failed", "stopped", "paused", "completed", "", once}


@pytest.mark.parametrize(
    ("arguments", "statuses"),
    [
        (["--status", "failed"], {"failed"}),
        (["--status", "failed", "--status", "Paused"], {"failed", "paused"}),
        (["--status", "failed,completed"], {"failed", "completed"}),
        (["--status", "running"], set()),
        ([], {"failed", "paused", "completed", "stopped"}),
    ],
)
def test_trials_by_status(ran: Ran, said: Said, arguments: list[str], statuses: set[str]) -> None:
    document = json.loads(said("trials", ran.path, "--json", *arguments)[1])
    assert {trial["status"] for trial in document["trials"]} == statuses
    assert said("trials", ran.path, *arguments)[0] == 0


def test_a_status_that_is_none(ran: Ran, said: Said) -> None:
    code, _, err = said("trials", ran.path, "--status", "fialed")
    assert (code, err) == (2, "--status: a trial is never 'fialed'; did you mean 'failed'?\n")
    assert said("trials", ran.path, "--status", "xyz")[2].endswith(
        "; there is running, paused, completed, stopped, failed\n"
    )


RUNNING = {"trial": 3, "live": True}
FAILURE = AttemptEnded(3, 1, Outcome.OUT_OF_MEMORY, evidence={"message": "limit 2Gi", "log": "a\nlast line"})


@pytest.mark.parametrize(
    ("events", "trial", "why"),
    [
        ([], Trial(3, {}, 9, live=True, attempt=1), ""),
        ([], Trial(3, {}, 9), "waits for a worker"),
        (
            [Waiting(3, 1, "unschedulable: cpu")],
            Trial(3, {}, 9, live=True, attempt=1),
            "waits: unschedulable: cpu",
        ),
        ([Waiting(3, 1, "unschedulable: cpu"), Waiting(3, 1, "")], Trial(3, {}, 9, live=True, attempt=1), ""),
        (
            [Held(3, "workers=1")],
            Trial(3, {}, 9, live=True, held=True),
            "pauses at its next report, workers=1",
        ),
        ([Held(3, "paused")], Trial(3, {}, 9, held=True), "held, paused"),
        ([AttemptEnded(3, 1, Outcome.INTERRUPTED)], Trial(3, {}, 9, attempt=1), "interrupted"),
        (
            [AttemptEnded(3, 1, Outcome.INTERRUPTED), AttemptStarted(3, 2)],
            Trial(3, {}, 9, attempt=2, live=True),
            "",
        ),
        (
            [FAILURE, AttemptStarted(3, 2)],
            Trial(3, {}, 9, attempt=2, live=True),
            "attempt 1: out of memory: limit 2Gi | last line",
        ),
        (
            [FAILURE, AttemptStarted(3, 2), AttemptEnded(3, 2, Outcome.OK)],
            Trial(3, {}, 9, attempt=2, status=Status.PAUSED),
            "attempt 1: out of memory: limit 2Gi | last line",
        ),
        (
            [FAILURE],
            Trial(3, {}, 9, status=Status.FAILED, reason="out of memory (attempt 1)"),
            "out of memory (attempt 1)",
        ),
        ([AttemptEnded(3, 1, Outcome.LOST)], Trial(3, {}, 9, status=Status.PAUSED), "attempt 1: lost"),
        (
            [AttemptEnded(3, 1, Outcome.OK)],
            Trial(3, {}, 9, status=Status.STOPPED, reason="diverged at 1"),
            "diverged at 1",
        ),
    ],
)
def test_why_a_trial_is_as_it_is(events: list[Event], trial: Trial, why: str) -> None:
    notes = Notes()
    for event in events:
        notes.saw(event, 0.0)
    assert notes.why(trial) == why


def test_a_table_is_cut_at_the_width_of_the_terminal() -> None:
    table = [["trial", "status", "why"], ["7", "paused", "it\nhas two lines"]]
    assert aligned(table, None) == "trial  status  why\n    7  paused  it\nhas two lines\n"
    assert aligned(table, 20) == "trial  status  why\n    7  paused  it h…\n"
    assert clipped("abc", 3) == "abc"
    view = StudyView("s", "asha", counts=Counts())
    assert trials_text(view, [], None) == (
        "trial  status  epoch  loss  attempts  failures  configuration\n\nTrials: 0 started.\n"
    )


# -- the best ----------------------------------------------------------------------------------------


def test_the_best_and_its_files(ran: Ran, said: Said, tmp_path: Path) -> None:
    looked = look(ran.study, open_store(ran.study))
    least = min(row.value for row in rows(looked) if row.value is not None and row.value == row.value)
    code, out, _ = said("best", ran.path)
    assert code == 0
    assert f"in the store; to have its files: abohb best {ran.path} --to DIR" in out
    document = json.loads(said("best", ran.path, "--json")[1])
    assert types(document) == {
        "study": str, "objective": str, "mode": str, "unit": str, "ended": str, "trial": int, "value": float,
        "resource": int, "config": dict, "metrics": dict, "checkpoint": str, "folder": type(None),
    }  # fmt: skip
    assert document["value"] == document["config"]["rate"] == least

    folder = tmp_path / "new" / "best"
    code, out, _ = said("best", ran.path, "--to", folder)
    assert code == 0
    assert f"checkpoint  {folder}\n" in out
    assert (folder / "sum").read_text() == f"{document['metrics']['sum']:g}\n"
    assert os.listdir(folder.parent) == ["best"]
    (tmp_path / "empty").mkdir()
    assert json.loads(said("best", ran.path, "--json", "--to", tmp_path / "empty")[1])["folder"] == str(
        tmp_path / "empty"
    )
    assert os.listdir(tmp_path / "empty") == ["sum"]


@pytest.mark.parametrize("there", ["file", "folder"])
def test_what_is_there_is_not_overwritten(ran: Ran, said: Said, tmp_path: Path, there: str) -> None:
    target = tmp_path / "mine"
    inside = target / "thesis" if there == "folder" else target
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("ten years")
    code, _, err = said("best", ran.path, "--to", target)
    assert (code, err) == (2, f"{target} is not empty; give a new folder, or one without files\n")
    assert inside.read_text() == "ten years"


def test_a_best_without_a_checkpoint_and_a_study_without_a_best(tmp_path: Path, said: Said) -> None:
    (tmp_path / "one").mkdir()
    ran = Ran(tmp_path / "one", budget={"trials": 1}, initial=[{"rate": 0.5}])
    store = open_store(ran.study)
    for key in store.list("odd/trials/"):
        if "/checkpoints/" in key:
            store.delete(key)
    code, out, err = said("best", ran.path, "--to", tmp_path / "there")
    assert (code, err) == (
        1,
        f"Trial 0 has written none: there is no checkpoint to put into {tmp_path}/there.\n",
    )
    assert "none was written" in out
    assert not (tmp_path / "there").exists()

    (tmp_path / "two").mkdir()
    ran = Ran(tmp_path / "two", budget={"trials": 1}, initial=[{"rate": 0.1}])
    assert said("best", ran.path, "--json") == (1, "", "Study odd has no usable result yet.\n")
    assert said("status", ran.path)[1].startswith(
        "Study odd failed: the budget of 1 trials is used, and there is no "
    )


# -- logs --------------------------------------------------------------------------------------------


def test_what_a_trial_has_printed(ran: Ran, said: Said) -> None:
    looked = look(ran.study, open_store(ran.study))
    failed = next(trial.id for trial in looked.history.trials if trial.status is Status.FAILED)
    rate = f"{looked.history.trials[failed].config['rate']}"
    code, out, err = said("logs", ran.path, failed)
    assert (code, err) == (0, f"(trial {failed}, attempt 2 of 2)\n")
    assert out == f"==> stdout <==\nrate {rate} from 0\n==> stderr <==\nwarming up\nno GPU\n"
    assert said("logs", ran.path, failed, "--attempt", 1)[2] == f"(trial {failed}, attempt 1 of 2)\n"
    assert said("logs", ran.path, failed, "--follow")[1] == out, "it has ended"
    assert said("logs", ran.path, failed, "--attempt", 3) == (
        2, "", f"trial {failed} has had attempts 1 to 2; there is no attempt 3\n",
    )  # fmt: skip
    assert said("logs", ran.path, 14) == (2, "", "study 'odd' has no trial 14; they are 0 to 13\n")


def test_output_that_is_not_there(tmp_path: Path, said: Said) -> None:
    path, study = write_study(tmp_path, trials=1)
    tune_locally(study, [])
    assert said("logs", path, 0) == (1, "", "Of trial 0, attempt 1, no output is kept.\n")


def test_following_a_trial_to_its_end(tmp_path: Path, said: Said) -> None:
    path, study = write_study(tmp_path, trials=1)
    (tmp_path / "trial.sh").write_text(TRIAL.replace("sleep 0.05", "echo working; sleep 3"))
    process = controller(path)
    try:
        until(
            lambda: open_store(study).list("killed/journal/") and look(study, open_store(study)).history.live
        )
        began = time.monotonic()
        assert said("logs", path, 0, "--follow") == (0, "working\n", "(trial 0, attempt 1 of 1)\n")
        assert time.monotonic() - began > 0.5
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_pod_has_one_stream_and_it_grows(tmp_path: Path) -> None:
    store = open_store(write_study(tmp_path)[1])
    output, key = Output(store, "killed", 4, 2), "killed/trials/00000004/logs/0002.log"
    assert list(output.more()) == []
    assert output.empty
    store.put(key, b"one\ntw")
    assert list(output.more(whole_lines=True)) == [b"one\n"]
    store.put(key, b"one\ntwo\n")
    assert list(output.more(whole_lines=True)) == [b"two\n"]
    store.put(key, b"one\ntwo\nthree")
    assert list(output.more()) == [b"three\n"]


LONG = b"".join(b"%d\n" % number for number in range(9000))


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        (b"", b"a\n", b"a\n"),
        (b"a\n", b"a\n", b""),
        (b"a\n", b"a\nb\n", b"b\n"),
        (LONG, LONG[:99] + b"\n[... 9 bytes left out ...]\n" + LONG[-OVERLAP - 9 :] + b"new\n", b"new\n"),
        (b"a\n", b"all other", b"all other"),
    ],
)
def test_what_has_been_added_to_an_output(before: bytes, now: bytes, new: bytes) -> None:
    assert added(before, now) == new


# -- the page ----------------------------------------------------------------------------------------


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    (commands,) = (
        action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    yield from commands.choices.items()


@pytest.mark.parametrize(
    ("name", "parser"), parsers(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_page_of_commands_names_each_with_its_options(name: str, parser: argparse.ArgumentParser) -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    assert f"abohb {name}" in page
    section = page[page.index(f"abohb {name}") :]
    if name != "simulate":  # it has a page of its own
        options = {
            option for action in parser._actions for option in action.option_strings if option[:2] == "--"
        }
        assert [option for option in options - {"--help"} if option not in section] == []


@pytest.mark.parametrize("name", ["digits/trials/00000000/checkpoints/x", "../digits", "Digits", ""])
def test_a_name_that_is_none_leads_nowhere_in_the_store(tmp_path: Path, name: str) -> None:
    """What a trial has written below its own prefix could look like a journal."""
    with pytest.raises(AbohbError, match="study: got"):
        known(name, DirectoryStore(tmp_path), "the store")
