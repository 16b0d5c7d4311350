"""The work directory tells the truth about an attempt, whoever was killed and when; nobody outlives us."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpo_engine.types import Outcome
from operators.attempt import encode_spec
from operators.local import LocalBackend
from tests.operators.trials import alive, backend, reached, run, spec, store, wait

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc and PR_SET_PDEATHSIG")

# Stubborn training code with a child in its group and one in a session of its own; it says who they are.
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", sleep])
astray = subprocess.Popen([sys.executable, "-I", "-S", "-c", sleep], start_new_session=True)
line(1, checkpoint=save(1))
open("pids.new", "w").write(f"[{os.getpid()}, {child.pid}, {astray.pid}]")
os.rename("pids.new", "pids")
time.sleep(60)
"""

CONTROLLER = """
import sys, time
from pathlib import Path
from operators.attempt import decode_spec
from tests.operators.trials import backend
backend(Path(sys.argv[1])).launch(decode_spec(sys.argv[2].encode()))
print("launched", flush=True)
time.sleep(60)
"""


def pids(root: Path, name: str = "0-1") -> list[int]:
    """The training code's processes, once they are all there."""
    path = root / f"store/s/work/{name}/trial/pids"
    wait(path.exists)
    found: list[int] = json.loads(path.read_text())
    return found


def agent_of(root: Path) -> int:
    return int((root / "store/s/work/0-1/lock").read_text())


def ended(workers: LocalBackend) -> Outcome:
    wait(lambda: not workers.observe()[0, 1].running)
    verdict = workers.observe()[0, 1].verdict
    assert verdict is not None
    return verdict.outcome


def test_launch_is_idempotent_by_name(tmp_path: Path) -> None:
    workers = backend(tmp_path)
    for _ in range(3):
        workers.launch(spec("print('once'); obey(0.05)"))
        backend(tmp_path).launch(spec("print('another controller')"))
    assert workers.observe()[0, 1].running
    assert ended(workers) is Outcome.OK
    workers.launch(spec("print('again')"))  # it has ended, and is not forgotten
    assert ended(workers) is Outcome.OK
    assert store(tmp_path).get("s/trials/00000000/logs/0001.stdout") == b"once\n"
    workers.forget(0, 1)
    workers.forget(0, 1)
    assert workers.observe() == {}
    assert list(workers.work.iterdir()) == []


@LINUX
def test_nothing_outlives_an_end(tmp_path: Path) -> None:
    workers = backend(tmp_path)
    workers.launch(spec(STUBBORN))
    family = pids(tmp_path)
    assert all(map(alive, family))
    workers.end(0, 1)
    workers.end(0, 1)
    assert ended(workers) is Outcome.INTERRUPTED
    assert not any(map(alive, family))
    assert reached(tmp_path) == [1]
    workers.end(0, 1)
    workers.end(7, 1)  # never was


def test_what_was_complete_is_committed_at_an_end(tmp_path: Path) -> None:
    workers = backend(tmp_path)
    last_words = "signal.signal(signal.SIGTERM, lambda *_: (line(2, checkpoint=save(2)), sys.exit(0)))"
    workers.launch(spec(f"{last_words}; line(1)\nwhile True: time.sleep(0.01)"))
    wait(lambda: reached(tmp_path) == [1])
    workers.end(0, 1)
    assert ended(workers) is Outcome.INTERRUPTED
    assert reached(tmp_path) == [1, 2]
    assert run(tmp_path, spec("line(3)", attempt=2)).started_at == 2


@LINUX
def test_a_killed_controller_leaves_no_process(tmp_path: Path) -> None:
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path), encode_spec(spec(STUBBORN)).decode()],
        stdout=subprocess.DEVNULL,
    )
    family = [*pids(tmp_path), agent_of(tmp_path)]
    began = time.monotonic()
    controller.kill()
    wait(lambda: not any(map(alive, family)), 3)
    assert time.monotonic() - began < 2
    controller.wait()
    assert ended(backend(tmp_path)) is Outcome.INTERRUPTED  # what the next controller finds


@LINUX
def test_another_controller_can_end_what_it_did_not_launch(tmp_path: Path) -> None:
    first = backend(tmp_path)
    first.launch(spec(STUBBORN))
    family = pids(tmp_path)
    second = backend(tmp_path)
    assert second.observe()[0, 1].running
    second.end(0, 1)
    assert ended(second) is Outcome.INTERRUPTED
    assert ended(first) is Outcome.INTERRUPTED
    assert not any(map(alive, family))


@LINUX
def test_a_killed_agent_takes_its_trial_along_and_is_lost(tmp_path: Path) -> None:
    workers = backend(tmp_path)
    workers.launch(spec(STUBBORN))
    family = pids(tmp_path)
    wait(lambda: reached(tmp_path) == [1])
    os.kill(agent_of(tmp_path), signal.SIGKILL)
    wait(lambda: not alive(family[0]))  # the command itself, at once
    assert ended(workers) is Outcome.LOST
    wait(lambda: not any(map(alive, family)))  # the rest, before it is called lost
    assert run(tmp_path, spec("line(2); line(3)", attempt=2)).started_at == 1


def test_close_ends_everything(tmp_path: Path) -> None:
    workers = backend(tmp_path)
    for trial in range(3):
        workers.launch(spec("obey(until=10000, pause=0.05)", trial=trial, until=10000))
    wait(lambda: len(reached(tmp_path)) > 3)
    workers.close(grace=5.0)
    assert [seen.running for seen in workers.observe().values()] == [False] * 3
    outcomes = {seen.verdict.outcome for seen in workers.observe().values() if seen.verdict}
    assert outcomes == {Outcome.INTERRUPTED}


@LINUX
def test_close_kills_an_agent_that_hangs(tmp_path: Path) -> None:
    workers = backend(tmp_path)
    workers.launch(spec(STUBBORN))
    family = pids(tmp_path)
    os.kill(agent_of(tmp_path), signal.SIGSTOP)
    workers.close(grace=0.2)
    wait(lambda: not any(map(alive, family)))
    assert ended(workers) is Outcome.LOST


def work_directory(root: Path, *, locked: bool, verdict: bytes | None, name: str = "0-1") -> int:
    """One as an agent or a controller left it; the descriptor of its lock."""
    folder = root / "store/s/work" / name
    folder.mkdir(parents=True)
    (folder / "spec.json").write_bytes(encode_spec(spec("")))
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    if locked:
        fcntl.flock(lock, fcntl.LOCK_EX)
    if verdict is not None:
        (folder / "verdict.json").write_bytes(verdict)
    return lock


OK = b'{"event": "AttemptEnded", "trial": 0, "attempt": 1, "outcome": "ok"}'
STATES = {  # whatever was killed just then: (lock held, verdict written) -> running, outcome
    "launched, the agent is starting": (True, None, True, None),
    "the controller died before it started the agent": (False, None, False, Outcome.LOST),
    "the agent was killed": (False, None, False, Outcome.LOST),
    "the verdict is written, the agent still there": (True, OK, True, None),
    "ended": (False, OK, False, Outcome.OK),
    "ended, and the machine lost power": (False, b"", False, Outcome.LOST),
}


@pytest.mark.parametrize("state", STATES)
def test_states_of_a_work_directory(tmp_path: Path, state: str) -> None:
    locked, verdict, running, outcome = STATES[state]
    lock = work_directory(tmp_path, locked=locked, verdict=verdict)
    workers = backend(tmp_path)
    seen = workers.observe()[0, 1]
    assert (seen.running, seen.verdict and seen.verdict.outcome) == (running, outcome)
    assert backend(tmp_path).observe()[0, 1] == seen  # looking changes nothing
    os.close(lock)


def test_what_is_not_ours_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "store/s/work/notes").mkdir(parents=True)
    (tmp_path / "store/s/work/file").write_text("")
    assert backend(tmp_path).observe() == {}


def test_half_made_and_half_removed_directories_are_swept(tmp_path: Path) -> None:
    os.close(work_directory(tmp_path, locked=False, verdict=None, name=".0-1-abcd"))
    busy = work_directory(tmp_path, locked=True, verdict=None, name=".0-2-abcd")  # being made just now
    assert backend(tmp_path).observe() == {}
    assert [path.name for path in (tmp_path / "store/s/work").iterdir()] == [".0-2-abcd"]
    os.close(busy)


def test_killed_at_any_moment_an_attempt_is_classified(tmp_path: Path) -> None:
    """Agents killed at eight moments of their lives: each ends as lost or as ok, and none runs on."""
    workers = backend(tmp_path)
    for trial in range(8):
        workers.launch(spec("obey()", trial=trial))
        time.sleep(0.02 * trial)
        workers._agents[f"{trial}-1"].kill()
    wait(lambda: not any(seen.running for seen in workers.observe().values()))
    outcomes = [seen.verdict.outcome for seen in workers.observe().values() if seen.verdict]
    assert len(outcomes) == 8
    assert outcomes[0] is Outcome.LOST
    assert set(outcomes) <= {Outcome.LOST, Outcome.OK}
    for trial in range(8):
        assert run(tmp_path, spec("obey()", trial=trial, attempt=2)).outcome is Outcome.OK
        assert sorted(set(reached_by(tmp_path, trial))) == [1, 2, 3]


def reached_by(root: Path, trial: int) -> list[int]:
    keys = store(root).list("s/inbox/")
    return [int(key[-13:-5]) for key in keys if f"/{trial:08d}-" in key]


def test_an_agent_needs_only_the_standard_library() -> None:
    code = "import sys; sys.path[:0] = ['.']; import operators.worker; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-I", "-S", "-c", code], text=True).split()
    assert "operators.worker" in modules
    assert not {"numpy", "scipy", "yaml", "pydantic", "prefect"} & set(modules)
