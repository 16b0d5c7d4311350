"""Steering real studies that run, and those that do not: stop, pause, resume, set workers=N."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.cli import main as cli
from flows.controller.inbox import Inbox, steer_prefix
from flows.controller.session import open_study, replay
from flows.outside.steering import Answer, Clocks, let_go, pending, steer, withdraw
from flows.study.file import load_study
from flows.study.model import Study
from flows.study.store import open_store
from hpo_engine.history import History
from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Failed,
    Finished,
    Outcome,
    Report,
    Status,
    Steered,
    Stop,
    Trial,
)
from operators.lease import PATIENCE, Heartbeat, Lookout, Owner, host_id, process_started
from tests.flows.invariants import check_journal
from tests.flows.real_study import ROOT, controller, trial_processes, write_study
from tests.flows.stand_ins import MemoryStore
from tests.flows.test_loop import World
from tests.flows.test_loop_crash import make_study

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
LONG = 100_000  # trials: it does not end by itself


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def history(study: Study) -> History:
    return replay(study, open_store(study)).engine.history


def asked(study: Study) -> list[str]:
    return pending(open_store(study), study.name)


@contextmanager
def running(path: Path, study: Study) -> Iterator[subprocess.Popen[str]]:
    """A controller at work, its first reports in the journal."""
    process = controller(path)
    try:
        until(lambda: len(open_store(study).list(f"{study.name}/journal/")) > 8)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code of a command, and what it says."""
    code = cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert said.err == ""
    return code, said.out


# -- a study that runs -------------------------------------------------------------------------------


@on_linux
def test_pause_and_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, study = write_study(tmp_path, trials=LONG)
    with running(path, study) as process:
        code, said = run(capsys, "pause", path)
        assert code == 0
        assert said.startswith("Study killed is paused.")
        assert said.endswith(f"To go on: abohb resume {path}\n")
        until(lambda: not history(study).live)
        assert trial_processes(tmp_path) == []
        before = history(study)
        held = [trial for trial in before.trials if trial.held]
        assert all(trial.checkpoint == trial.resource for trial in held), "each has what it needs to go on"
        assert run(capsys, "status", path)[1].startswith(
            f"Study killed is paused (tuned by process {process.pid}"
        )
        time.sleep(1)
        assert history(study).length == before.length
        assert run(capsys, "pause", path)[0] == 0, "again: the same"

        assert run(capsys, "resume", path) == (0, "Study killed goes on with 4 workers.\n")
        until(lambda: history(study).units > before.units + 5)
        assert all(history(study).trials[trial.id].resource > trial.resource for trial in held)
        assert asked(study) == []
    events = check_journal(study, open_store(study))
    assert not [event for event in events if isinstance(event, (Stop, Failed))]


@on_linux
def test_fewer_workers_drain_and_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, study = write_study(tmp_path, trials=LONG)
    with running(path, study):
        until(lambda: len(history(study).live) == 4)
        code, said = run(capsys, "set", path, "workers=1")
        assert code == 0
        assert said.startswith("Study killed has 1 worker now, 4 before.")
        until(lambda: len(history(study).live) <= 1)
        drained = history(study)
        held = [trial for trial in drained.trials if trial.held]
        until(lambda: len(trial_processes(tmp_path)) <= 2)  # one, and perhaps its successor
        until(lambda: history(study).units > drained.units)  # the one goes on
        assert run(capsys, "set", path, "workers=6")[1] == "Study killed has 6 workers now, 1 before.\n"
        until(lambda: len(history(study).live) == 6)
        until(lambda: all(history(study).trials[trial.id].resource > trial.resource for trial in held))
    events = check_journal(study, open_store(study))
    ends = [event for event in events if isinstance(event, AttemptEnded)]
    assert {end.outcome for end in ends} <= {
        Outcome.OK,
        Outcome.INTERRUPTED,
    }  # interrupted: by the end of the test
    reports = [event for event in events if isinstance(event, Report)]
    for trial in held:
        resources = [report.resource for report in reports if report.trial == trial.id]
        assert resources == list(range(1, len(resources) + 1)), "it went on where it was"


@on_linux
def test_a_trial_is_cancelled_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, study = write_study(tmp_path, trials=LONG)

    def worst() -> Trial:  # paused, and never promoted
        waiting = [trial for trial in history(study).trials if trial.status is Status.PAUSED]
        return max(waiting, key=lambda trial: float(trial.config["rate"]))

    with running(path, study):
        until(lambda: history(study).counts[Status.PAUSED] > 3)
        victim = worst().id
        assert run(capsys, "cancel", path, victim) == (0, f"Trial {victim} of study killed is cancelled.\n")
        assert history(study).trials[victim].status is Status.STOPPED
        for trial, why in ((victim, "has ended already: cancelled by a person"), (LONG, "there is no trial")):
            assert cli.main(["cancel", str(path), str(trial)]) == 2
            assert why in capsys.readouterr().err
    events = check_journal(study, open_store(study))
    assert [event.trial for event in events if isinstance(event, Stop)] == [victim]


@on_linux
def test_stop_ends_the_trials_and_the_study_goes_on_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, study = write_study(tmp_path, trials=LONG)
    with running(path, study) as process:
        code, said = run(capsys, "stop", path)
        assert trial_processes(tmp_path) == []
        assert (code, said.splitlines()) == (
            0,
            [
                "Study killed stops: its trials are being ended.",
                f"Study killed has stopped. To go on: abohb tune {path}",
            ],
        )
        out, err = process.communicate(timeout=30)
        assert (out, err) == ("stopped by `abohb stop`\n", "")
    now = history(study)
    assert (now.live, now.finished) == ({}, None)
    assert run(capsys, "stop", path) == (0, "Nobody is tuning study killed now. There is nothing to stop.\n")
    assert asked(study) == []

    document = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**document, "budget": {"trials": len(now.trials) + 2}}))
    out, _ = controller(path).communicate(timeout=120)
    assert out == f"the budget of {len(now.trials) + 2} trials is used\n"
    events = check_journal(load_study(path), open_store(study))
    assert [event.value for event in events if isinstance(event, Steered)] == [1, 0]
    assert isinstance(events[-1], Finished)
    assert run(capsys, "stop", path)[1].endswith("trials is used. There is nothing to stop.\n")
    code, said = run(capsys, "pause", path)
    assert code == 1
    assert said.endswith("It cannot be steered any more.\n")


def test_a_stopped_command_says_so_and_exits_with_4(tmp_path: Path, prefect_server: str) -> None:
    path, study = write_study(tmp_path, trials=LONG)
    env = {**os.environ, "PREFECT_API_URL": prefect_server}
    command = [sys.executable, "-m", "flows.cli.main", "tune", str(path), "--json"]
    tune = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: len(open_store(study).list("killed/journal/")) > 8)
    assert cli.main(["stop", str(path)]) == 0
    out, err = tune.communicate(timeout=60)
    assert tune.returncode == 4
    assert "Study killed was stopped by `abohb stop`." in err
    assert json.loads(out)["ended"] is None


# -- a study that nobody tunes -----------------------------------------------------------------------


@on_linux
def test_what_is_asked_of_nobody_counts_when_it_is_tuned_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, study = write_study(tmp_path, trials=LONG)
    with running(path, study) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    began = time.monotonic()
    assert run(capsys, "stop", path)[1] == "Nobody is tuning study killed now. There is nothing to stop.\n"
    assert asked(study) == [], "the next one is not stopped by it"
    for command in (("pause",), ("set", "workers=2")):
        code, said = run(capsys, command[0], path, *command[1:])
        later = f"This takes effect when it is tuned again: abohb tune {path}"
        assert (code, said) == (0, f"Nobody is tuning study killed now. {later}\n")
    assert time.monotonic() - began < 10, "a dead one on this host is seen at once"
    assert asked(study) == ["paused=1", "workers=2"]
    assert (
        "Asked for, takes effect when it is tuned again: paused=1, workers=2"
        in run(capsys, "status", path)[1]
    )

    process = controller(path)
    until(lambda: history(study).settings.get("paused") and not history(study).live)
    assert "is paused" in run(capsys, "set", path, "workers=3")[1]
    assert run(capsys, "resume", path) == (0, "Study killed goes on with 3 workers.\n")
    until(lambda: len(history(study).live) == 3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    check_journal(study, open_store(study))


# -- the loop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["it winds up", "killed while it does"])
def test_the_loop_stops_and_the_next_one_goes_on(killed: bool) -> None:
    world = World(make_study("asha"))
    session = world.open()
    world.run(session, 3)
    world.steer("stopped", 1)
    if killed:
        assert world.step(session) is None
        world.workers.die()
    else:
        ending = world.run(session)
        assert ending is not None
        assert (ending.reason, ending.final, ending.failed) == ("stopped by `abohb stop`", False, False)
        assert not session.controller.history.live
    starts = sum(isinstance(event, AttemptStarted) for event in world.journal())
    session = world.open()
    ending = world.run(session)
    assert ending is not None
    assert ending.reason == "the budget of 9 trials is used"
    events = world.events()
    assert [event.value for event in events if isinstance(event, Steered)] == [1, 0]
    assert sum(isinstance(event, AttemptStarted) for event in events) > starts


# -- the objects -------------------------------------------------------------------------------------


class Virtual:
    """Clocks that move when somebody sleeps; `then` happens at a time."""

    def __init__(self, wall: float = 1000.0) -> None:
        self.now, self.wall = 0.0, wall
        self.then: list[tuple[float, Callable[[], object]]] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at, action in [entry for entry in self.then if entry[0] <= self.now]:
            self.then.remove((at, action))
            action()

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.now, self.sleep)


def owned(store: MemoryStore, **other: object) -> None:
    """By this process, unless told otherwise."""
    me = {
        "epoch": 1,
        "host": host_id(),
        "pid": os.getpid(),
        "started": process_started(os.getpid()),
        "beat": 1,
    }
    store.data["s/owner.json"] = json.dumps({**me, "released": False, **other}).encode()


def test_it_waits_until_the_controller_has_taken_it() -> None:
    store, virtual = MemoryStore(), Virtual()
    owned(store)
    virtual.then.append((3.0, lambda: store.delete(store.list("s/steer/")[0])))
    answer = steer(store, "s", "workers", 2, wait=30, clocks=virtual.clocks)
    assert answer.folded
    assert 3.0 <= virtual.now < 3.5
    answer = steer(store, "s", "workers", 3, wait=5, clocks=virtual.clocks)
    assert (answer.folded, answer.owner.alive) == (False, True)
    assert json.loads(store.data[answer.key]) == {"setting": "workers", "value": 3}
    withdraw(store, answer)
    assert store.list("s/steer/") == []


ELSEWHERE = {"host": "node-7/boot/namespace"}


@pytest.mark.parametrize(
    ("owner", "seconds", "alive"),
    [
        ({"released": True}, 0.0, False),
        ({"pid": 4_000_000, "started": "1"}, 0.0, False),
        (ELSEWHERE, PATIENCE, False),
        ({**ELSEWHERE, "released": True}, 0.0, False),
    ],
    ids=["it has let go", "dead, on this host", "silent, on another host", "elsewhere, and has let go"],
)
def test_whom_it_does_not_wait_for(owner: dict[str, object], seconds: float, alive: bool | None) -> None:
    store, virtual = MemoryStore(), Virtual()
    owned(store, **owner)
    answer = steer(store, "s", "paused", 1, wait=60, clocks=virtual.clocks)
    assert (answer.folded, answer.owner.alive) == (False, alive)
    assert seconds <= virtual.now <= seconds + 1


def test_a_heart_that_beats_elsewhere_is_waited_for() -> None:
    store, virtual = MemoryStore(), Virtual()
    owned(store, **ELSEWHERE)
    for beat in range(2, 9):
        virtual.then.append((5.0 * beat, lambda beat=beat: owned(store, **ELSEWHERE, beat=beat)))  # type: ignore[misc]
    answer = steer(store, "s", "paused", 1, wait=35, clocks=virtual.clocks)
    assert answer == Answer(False, Owner("process " + str(os.getpid()) + " on node-7", True), answer.key)
    assert virtual.now >= 35
    virtual.then.append((50.0, lambda: owned(store, **ELSEWHERE, beat=20, released=True)))
    assert let_go(store, "s", wait=60, clocks=virtual.clocks)
    assert 50 <= virtual.now < 51


def test_a_lookout_tells_what_it_knows() -> None:
    store = MemoryStore()
    lookout = Lookout(store, "s")
    assert lookout.look(0) == Owner("", False)
    owned(store, **ELSEWHERE, pid=12)
    assert lookout.look(1) == Owner("process 12 on node-7", None)
    assert lookout.look(5) == Owner("process 12 on node-7", None)
    owned(store, **ELSEWHERE, pid=12, beat=2)
    assert lookout.look(6).alive is True
    store.data["s/owner.json"] = b"{torn"
    assert lookout.look(7).alive is True, "what cannot be read says nothing"
    owned(store, **ELSEWHERE, pid=12, beat=2)
    assert lookout.look(6 + PATIENCE - 1).alive is True
    assert lookout.look(6 + PATIENCE).alive is False


def test_an_interrupt_takes_it_back() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    store = MemoryStore()
    owned(store)
    with pytest.raises(KeyboardInterrupt):
        steer(store, "s", "paused", 1, wait=9, clocks=Clocks(lambda: 1.0, lambda: 0.0, interrupt))
    assert store.list("s/steer/") == []


@given(st.lists(st.tuples(st.floats(0, 4e9), st.integers(0, 9)), min_size=1, max_size=8))
def test_what_was_said_last_is_folded_last_whatever_the_clocks_say(said: list[tuple[float, int]]) -> None:
    store = MemoryStore()
    for wall, value in said:
        steer(store, "s", "workers", value, wait=0, clocks=Virtual(wall).clocks)
    assert [event.value for event in Inbox(store, "s").read().steered] == [value for _, value in said]  # type: ignore[arg-type]


def test_strange_keys_are_no_hindrance() -> None:
    store = MemoryStore()
    for name, data in (("x", b"{}"), ("note.json", b"[]"), ("7", b"{"), ("zz", b"null")):
        store.data[steer_prefix("s") + name] = data
    steer(store, "s", "paused", 1, wait=0, clocks=Virtual().clocks)
    assert pending(store, "s") == ["paused=1"]


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("worker=2", "set: 'worker' cannot be changed while a study runs; did you mean 'workers'?"),
        ("wrokers=2", "did you mean 'workers'?"),
        (
            "budget=2",
            "'budget' cannot be changed while a study runs; workers can. For the rest: stop the study",
        ),
        ("workers=0", "expected workers=N with N at least 1; to run none: abohb pause"),
        ("workers=-1", "got 'workers=-1', expected workers=N"),
        ("workers=two", "got 'workers=two', expected workers=N"),
        ("workers", "got 'workers', expected workers=N"),
    ],
)
def test_settings_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path, study = write_study(tmp_path)
    assert cli.main(["set", str(path), text]) == 2
    assert said in capsys.readouterr().err
    assert not Path(study.store).exists()


@pytest.mark.parametrize("command", [["stop"], ["pause"], ["resume"], ["set", "workers=2"]], ids=" ".join)
def test_a_study_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    path, study = write_study(tmp_path)
    assert cli.main([command[0], str(path), *command[1:]]) == 2
    said = f"nothing is known of study 'killed' in {study.store}: it has not been tuned yet\n"
    assert capsys.readouterr().err == said
    assert not Path(study.store).exists()


def test_a_controller_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, study = write_study(tmp_path, trials=2)
    controller(path).communicate(timeout=60)
    path.write_text(path.read_text().replace("trials: 2", "trials: 3"))
    with opened(load_study(path)):
        code, said = run(capsys, "pause", path, "--wait", "1")
        assert code == 1
        assert said.startswith(f"Asked for, but process {os.getpid()} on ")
        assert (
            f"has not taken it within 1 s. It will when it looks at the store again; see abohb status {path}"
            in said
        )
        assert asked(study) == ["paused=1"]
        code, said = run(capsys, "stop", path, "--wait", "0")
        assert code == 1
        assert asked(study) == ["paused=1", "stopped=1"]


@contextmanager
def opened(study: Study) -> Iterator[None]:
    """Somebody has the study, and does nothing."""
    store = open_store(study)
    session = open_study(study, store, World(study).workers)
    heartbeat = Heartbeat(store, study.name, session.epoch)
    yield
    heartbeat.stop()
