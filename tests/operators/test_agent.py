"""What an agent makes of training code: every case is a real process beside a real agent."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from hpo_engine.types import Outcome
from operators.attempt import Order, encode_order, order_key
from tests.operators.trials import backend as workers_of
from tests.operators.trials import reached, reports, run, spec, store, wait


def test_a_trial_that_obeys(tmp_path: Path) -> None:
    verdict = run(tmp_path, spec("print('hello'); obey()"))
    assert (verdict.outcome, verdict.units, verdict.started_at) == (Outcome.OK, 3, 0)
    assert [(r.resource, r.metrics, r.checkpoint) for r in reports(tmp_path)] == [
        (1, {"loss": 1.0}, True),
        (2, {"loss": 0.5}, True),
        (3, {"loss": 1 / 3}, True),
    ]
    assert store(tmp_path).get("s/trials/00000000/logs/0001.stdout") == b"hello\n"


def test_what_the_trial_is_told(tmp_path: Path) -> None:
    show = "print(open('config.json').read(), open('order.json').read(), sorted(os.listdir('.'))); obey()"
    run(tmp_path, spec(show))
    said = (store(tmp_path).get("s/trials/00000000/logs/0001.stdout") or b"").decode()
    config, order, files = said.split("\n ")
    about = {"study": "s", "trial": 0, "attempt": 1, "resource": "epoch", "from": 0}
    assert json.loads(config) == {**about, "hyperparameters": {"lr": 0.5}}
    assert json.loads(order) == {"until": 3, "stop": False}
    assert files == "['config.json', 'order.json']\n"  # no checkpoint/ at the start


ENDS = {
    "exits early": ("line(1)", Outcome.NO_METRIC, "exited 0 after epoch 1, ordered until 3"),
    "never reports": ("", Outcome.NO_METRIC, "exited 0 after epoch 0, ordered until 3"),
    "fails": ("line(1); sys.exit(3)", Outcome.USER_ERROR, "exited 3 after epoch 1"),
    "raises": ("raise ValueError('no such layer')", Outcome.USER_ERROR, "exited 1 after epoch 0"),
    "fails after its last report": ("obey(); sys.exit(3)", Outcome.OK, ""),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", Outcome.KILLED, "SIGKILL after epoch 0"),
    "gets a signal without a name": ("os.kill(os.getpid(), 42)", Outcome.KILLED, "signal 42 after epoch 0"),
    "its child is killed": ("sys.exit(137)", Outcome.KILLED, "exited 137"),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", Outcome.USER_ERROR, "SIGSEGV after epoch 0"),
    "partial last line": ('line(1); write(\'{"epoch": 2, "loss"\')', Outcome.NO_METRIC, "after epoch 1"),
    "no JSON": ("write('epoch 1\\n'); time.sleep(9)", Outcome.NO_METRIC, "line 1: this is no JSON: epoch 1"),
    "gap": ("line(1); line(3); time.sleep(9)", Outcome.NO_METRIC, "line 2: epoch 3 where 2 is next"),
    "twice": ("line(1); line(1)", Outcome.NO_METRIC, "line 2: epoch 1 where 2 is next"),
    "misspelt": ("write('{\"los\": 1}\\n')", Outcome.NO_METRIC, "among los; the nearest is 'los'"),
    "no number": ('write(\'{"loss": "low"}\\n\')', Outcome.NO_METRIC, 'loss is "low", not a number'),
    "a bad line after its last": ("obey(); write('bye\\n')", Outcome.OK, "line 4: this is no JSON: bye"),
    "no checkpoint at the end": (
        "line(1); line(2); line(3, checkpoint='c')",
        Outcome.NO_METRIC,
        "line 3: che",
    ),
    "no checkpoint": ("line(1, checkpoint='ckpt')", Outcome.NO_METRIC, "checkpoint 'ckpt' does not exist"),
    "outside": ("line(1, checkpoint='../lock')", Outcome.NO_METRIC, "is not below the trial's directory"),
    "leads outside": (
        "save(1); os.symlink('/etc/hostname', 'ckpt-1/h'); line(1, checkpoint='ckpt-1')",
        Outcome.NO_METRIC,
        "'h' in checkpoint 'ckpt-1' is no file of that directory",
    ),
    "same name again": (
        "line(1, checkpoint=save(1)); time.sleep(0.2); line(2, checkpoint='ckpt-1')",
        Outcome.NO_METRIC,
        "line 2: checkpoint 'ckpt-1' again",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_an_attempt_ends(tmp_path: Path, case: str) -> None:
    script, outcome, message = ENDS[case]
    verdict = run(tmp_path, spec(script))
    assert verdict.outcome is outcome
    assert message in verdict.evidence.get("message", "")


def test_evidence_has_the_code_and_the_last_lines(tmp_path: Path) -> None:
    verdict = run(tmp_path, spec("print('epoch 1'); raise ValueError('no such layer')"))
    assert verdict.evidence["exit code"] == "1"
    assert verdict.evidence["log"].endswith("ValueError: no such layer")
    assert run(tmp_path, spec("os.abort()", attempt=2)).evidence["signal"] == "SIGABRT"


def test_a_command_that_cannot_be_run(tmp_path: Path) -> None:
    verdict = run(tmp_path, spec("", workdir="/nowhere"))
    assert verdict.outcome is Outcome.USER_ERROR
    assert "/nowhere" in verdict.evidence["message"]


def test_nan_and_infinity_in_any_spelling(tmp_path: Path) -> None:
    line = """{"loss": NaN, "a": "-Infinity", "b": "nan", "note": "x"}"""
    run(tmp_path, spec(f"write('{line}\\n'); line(2); line(3)"))
    assert str(reports(tmp_path)[0].metrics) == "{'loss': nan, 'a': -inf, 'b': nan}"


def test_a_resumed_trial_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, spec("obey()"))
    script = "line(start + 1, was=float(open('checkpoint/weights').read()))"
    verdict = run(tmp_path, spec(script, attempt=2, until=4, reported=3))
    assert (verdict.outcome, verdict.units, verdict.started_at) == (Outcome.OK, 1, 3)
    assert reports(tmp_path)[-1].metrics["was"] == 3
    assert reached(tmp_path) == [1, 2, 3, 4]


def test_one_that_cannot_resume_starts_over(tmp_path: Path) -> None:
    run(tmp_path, spec("obey()"))
    script = "assert not os.path.exists('checkpoint'); [line(epoch) for epoch in (1, 2, 3, 4)]"
    verdict = run(tmp_path, spec(script, attempt=2, until=4, resumable=False))
    assert (verdict.outcome, verdict.units, verdict.started_at) == (Outcome.OK, 4, 0)


def test_a_report_that_was_never_sent_is_told_by_the_next_attempt(tmp_path: Path) -> None:
    run(tmp_path, spec("obey()", until=2))
    store(tmp_path).delete("s/inbox/00000000-0001-00000002.json")  # the agent died before it
    verdict = run(tmp_path, spec("sys.exit(1)", attempt=2, until=2, reported=1))
    assert verdict.outcome is Outcome.OK  # and the training code was not even started
    assert [(r.attempt, r.resource, r.metrics) for r in reports(tmp_path)] == [
        (1, 1, {"loss": 1.0}),
        (2, 2, {"loss": 0.5}),
    ]


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path: Path) -> None:
    run(tmp_path, spec("obey()"))
    manifest = json.loads(store(tmp_path).get("s/trials/00000000/checkpoints/00000003.json") or b"")
    blob = tmp_path / "store/s/trials/00000000/blobs" / manifest["files"][0]["sha256"]
    blob.write_text("4")  # the same size
    verdict = run(tmp_path, spec("obey()", attempt=2))
    assert (verdict.outcome, verdict.started_at, verdict.units) == (Outcome.OK, 2, 1)
    assert "00000003.json: weights is not what was committed" in verdict.evidence["torn checkpoints"]
    assert blob.read_text() == "3"  # uploaded again


def test_one_that_ignores_until_is_ended_with_its_work_kept(tmp_path: Path) -> None:
    verdict = run(tmp_path, spec("obey(pause=0.05, until=1000)"))
    assert (verdict.outcome, reached(tmp_path)) == (Outcome.OK, [1, 2, 3])
    assert verdict.evidence["message"] == "it went on past its order and was ended"
    assert store(tmp_path).get("s/trials/00000000/checkpoints/00000003.json") is not None


def test_one_that_does_not_exit_at_until_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    verdict = run(tmp_path, spec("signal.signal(signal.SIGTERM, signal.SIG_IGN); obey(); time.sleep(60)"))
    assert verdict.outcome is Outcome.OK
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("script", ["obey(pause=0.1)", "obey(pause=0.1, until=1000)"])
def test_stop_while_running(tmp_path: Path, script: str) -> None:
    workers = workers_of(tmp_path)
    workers.launch(spec(script, until=500))
    wait(lambda: len(reached(tmp_path)) >= 2)
    store(tmp_path).put(order_key("s", 0), encode_order(Order(500, stop=True)))
    wait(lambda: not workers.observe()[0, 1].running)
    verdict = workers.observe()[0, 1].verdict
    assert verdict is not None
    assert verdict.outcome is Outcome.OK
    assert 2 <= len(reached(tmp_path)) < 20


def test_an_order_that_is_raised_in_time_is_followed(tmp_path: Path) -> None:
    workers = workers_of(tmp_path, patience=5.0)
    workers.launch(spec("obey(); wait = 0\nwhile order()['until'] < 5: time.sleep(0.01)\nstart = 3; obey()"))
    wait(lambda: reached(tmp_path) == [1, 2, 3])
    store(tmp_path).put(order_key("s", 0), encode_order(Order(5)))
    wait(lambda: not workers.observe()[0, 1].running)
    assert reached(tmp_path) == [1, 2, 3, 4, 5]


def test_a_stalled_trial_is_killed(tmp_path: Path) -> None:
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); line(1); time.sleep(60)"
    verdict = run(tmp_path, spec(script, stall_after=0.3))
    assert verdict.outcome is Outcome.STALLED
    assert verdict.evidence["message"].startswith("no line in metrics.jsonl for 0.3 s after epoch 1")


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_SECRET_X", "KEPT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    show = "e = os.environ; print(sorted(e), e['OMP_NUM_THREADS'], e['HERE'], sys.argv[1]); obey()"
    workers = workers_of(tmp_path)
    workers.threads = 2
    attempt = spec(show, env={"HERE": "$(ABOHB_TRIAL_DIR)/x", "OWN_SECRET": "1"})
    workers.launch(spec(show, command=(*attempt.command, "$(ABOHB_TRIAL_DIR)"), env=attempt.env))
    wait(lambda: not workers.observe()[0, 1].running)
    said = (store(tmp_path).get("s/trials/00000000/logs/0001.stdout") or b"").decode()
    folder = str(tmp_path / "store/s/work/0-1/trial")
    assert said.endswith(f" 2 {folder}/x {folder}\n")
    assert "KEPT" in said
    assert "OWN_SECRET" in said  # the study's own
    assert "PREFECT" not in said
    assert "AWS" not in said
    assert "MY_SECRET" not in said


def test_many_small_reports(tmp_path: Path) -> None:
    assert run(tmp_path, spec("[line(epoch) for epoch in range(1, 201)]", until=200)).units == 200
    assert reached(tmp_path) == list(range(1, 201))
