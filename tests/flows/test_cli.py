"""The command as a user has it: a process, its exit code, and what it prints where."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from flows.study.file import load_study
from flows.study.model import Study
from flows.study.store import open_store
from hpo_engine.types import AttemptEnded, AttemptStarted
from tests.flows.invariants import check_journal
from tests.flows.real_study import ROOT, TRIAL, trial_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

LONG = 100_000  # trials: it does not end by itself


def write(folder: Path, name: str, **more: object) -> Path:
    (folder / "trial.sh").write_text(TRIAL.replace("sleep 0.05", "sleep 0.02"))
    study: dict[str, object] = {
        "name": name,
        "command": ["sh", "trial.sh"],
        "metrics": ["loss", "sum"],
        "resource": {"min": 1, "max": 3, "eta": 3},
        "space": {"rate": {"type": "float", "low": 0.0, "high": 1.0}},
        "method": "asha",
        "workers": 2,
        "budget": {"trials": 4},
        "store": "./runs",
        **more,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def change(path: Path, **more: object) -> Study:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **more}))
    return load_study(path)


def abohb(url: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli.main", *map(str, arguments)]
    env = {**os.environ, "PREFECT_API_URL": url}
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ran(url: str, *arguments: str | Path) -> tuple[int, str, str]:
    return ended(abohb(url, *arguments))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def batches(study: Study) -> int:
    return len(open_store(study).list(f"{study.name}/journal/"))


def all_ended(study: Study) -> None:
    events = check_journal(study, open_store(study))
    started = sum(isinstance(event, AttemptStarted) for event in events)
    assert sum(isinstance(event, AttemptEnded) for event in events) == started > 0


NOWHERE = "http://127.0.0.1:9/api"  # nothing answers there: what never asks Prefect does not notice


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> tuple[Path, tuple[int, str, str]]:
    path = write(tmp_path_factory.mktemp("done"), "done", metrics=[{"name": "loss", "mode": "max"}, "sum"])
    return path, ran(prefect_server, "tune", path, "--json")


# -- without Prefect -----------------------------------------------------------------------------------


def test_check_shows_what_would_run(tmp_path: Path) -> None:
    path = write(tmp_path, "fine")
    code, out, err = ran(NOWHERE, "check", path, "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict)
    code, out, err = ran(NOWHERE, "check", path)
    assert (code, err) == (0, "")
    assert "fine" in out
    assert not (tmp_path / "runs").exists()


def test_a_study_for_a_cluster_is_checked_without_one(tmp_path: Path) -> None:
    path = write(tmp_path, "pods", command=[], image="registry.example/x:1")
    code, out, err = ran(NOWHERE, "check", path)
    assert (code, err) == (0, "")
    assert "registry.example/x:1" in out
    code, _, err = ran(NOWHERE, "tune", path)
    assert code == 2
    assert "an image runs with --on kubernetes" in err


@pytest.mark.parametrize("command", ["check", "tune"])
def test_all_mistakes_at_once(tmp_path: Path, command: str) -> None:
    path = write(tmp_path, "wrong", method="asho", workers=0)
    code, out, err = ran(NOWHERE, command, path, "--json")
    assert (code, out) == (2, "")
    assert "method" in err
    assert "asha" in err
    assert "workers" in err


def test_the_command_must_run_here(tmp_path: Path) -> None:
    code, _, err = ran(NOWHERE, "tune", write(tmp_path, "lost", command=["sh", "nowhere.sh"]))
    assert code == 2
    assert "nowhere.sh" in err
    assert ran(NOWHERE, "tune")[0] == 2


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    code, out, err = ran(NOWHERE, "tune", write(tmp_path, "filed"), "--json")
    assert (code, out) == (5, "")
    assert f"{tmp_path}/runs is a file" in err
    code, _, err = ran(NOWHERE, "tune", write(tmp_path, "below", store="./runs/below"))
    assert code == 5
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "data",
    [
        "{",
        '{"schema": 99}',
        '{"schema": 1, "number": 1, "epoch": 1, "time": 0, "events": [{"event": "Released", "trial": 1}]}',
    ],
    ids=["torn", "of a newer version", "of no trial"],
)
def test_a_journal_that_cannot_be_read(tmp_path: Path, data: str) -> None:
    journal = tmp_path / "runs/torn/journal"
    journal.mkdir(parents=True)
    (journal / "00000001.json").write_text(data)
    code, out, err = ran(NOWHERE, "tune", write(tmp_path, "torn"))
    assert (code, out) == (5, "")
    assert "Traceback" not in err
    assert "torn" in err


# -- with Prefect --------------------------------------------------------------------------------------


def test_json_is_one_object_and_nothing_else(done: tuple[Path, tuple[int, str, str]]) -> None:
    path, (code, out, err) = done
    assert code == 0, err
    result = json.loads(out)
    assert result["ended"] == "the budget of 4 trials is used"
    assert result["mode"] == "max"
    best = result["best"]
    assert best["value"] == best["config"]["rate"] == best["metrics"]["loss"]
    assert max(row["best"] for row in result["rungs"] if row["best"]) == best["value"]
    assert Path(best["checkpoint"], "sum").read_text() == f"{best['metrics']['sum']:g}\n"
    assert result["trials"]["started"] == 4
    assert result["again"].endswith(str(path))
    all_ended(load_study(path))


def test_again_it_shows_the_result_at_once_and_without_prefect(
    done: tuple[Path, tuple[int, str, str]],
) -> None:
    path, (_, first, _) = done
    began = os.times()
    code, out, err = ran(NOWHERE, "tune", path, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(first)
    spent = os.times().children_user - began.children_user  # of a processor: other tests may run beside this
    assert spent < 3.0
    print(f"shown again in {spent:.1f} s of a processor, {os.times().elapsed - began.elapsed:.1f} s in all")
    script = (
        "import sys; from flows.cli.main import main; main(sys.argv[1:]); sys.exit('prefect' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, "tune", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, "Prefect was imported"
    assert "Study done ended: the budget of 4 trials is used" in shown.stdout
    assert f"To see this again: abohb tune {path}" in shown.stdout


def test_a_changed_study_is_refused_with_a_list(done: tuple[Path, tuple[int, str, str]]) -> None:
    path, _ = done
    other = path.with_name("other.yaml")
    other.write_text(path.read_text())
    change(other, seed=5)
    code, out, err = ran(NOWHERE, "tune", other)
    assert (code, out) == (2, "")
    assert "seed: was 0, is 5" in err


def test_a_study_that_fails(tmp_path: Path, prefect_server: str) -> None:
    path = write(
        tmp_path,
        "fails",
        command=["sh", "-c", "echo no GPU >&2; exit 3"],
        max_failed_trials=2,
        max_failures=0,
        workers=1,
    )
    code, out, err = ran(prefect_server, "tune", path, "--json")
    assert code == 1, err
    result = json.loads(out)
    assert result["best"] is None
    assert result["ended"].startswith("2 trials in a row failed; the last failure: user error: exited 3")
    assert result["failures"][0]["last_line"] == "exited 3 after epoch 0, ordered until 1 | no GPU"


def cancel(url: str, name: str) -> None:
    def run_ids() -> list[str]:
        wanted = {"flow_runs": {"name": {"any_": [name]}, "state": {"type": {"any_": ["RUNNING"]}}}}
        return [run["id"] for run in httpx.post(f"{url}/flow_runs/filter", json=wanted).json()]

    until(run_ids)
    for id in run_ids():
        httpx.post(
            f"{url}/flow_runs/{id}/set_state", json={"state": {"type": "CANCELLING"}}
        ).raise_for_status()


def test_refused_interrupted_cancelled_and_gone_on(tmp_path: Path, prefect_server: str) -> None:
    path = write(tmp_path, "long", budget={"trials": LONG})
    study = load_study(path)
    first = abohb(prefect_server, "tune", path)
    until(lambda: batches(study) > 5)

    began = time.monotonic()
    code, out, err = ran(NOWHERE, "tune", path, "--json")
    print(f"refused in {time.monotonic() - began:.1f} s")
    assert (code, out) == (3, "")
    assert f"process {first.pid}" in err
    assert "--take-over" in err
    assert first.poll() is None

    first.send_signal(signal.SIGINT)
    code, out, err = ended(first)
    assert code == 4, err
    assert f"The same command goes on where it was: abohb tune {path}" in err
    assert "Traceback" not in err
    assert trial_processes(tmp_path) == []
    all_ended(study)

    before = batches(study)
    second = abohb(prefect_server, "tune", path, "--json")
    until(lambda: batches(study) > before + 5)
    cancel(prefect_server, "long")
    code, out, err = ended(second)
    assert code == 4, err
    result = json.loads(out)
    assert result["ended"] is None
    assert result["again"] == f"abohb tune {path}"
    assert trial_processes(tmp_path) == []
    all_ended(study)

    started = result["trials"]["started"]
    change(path, budget={"trials": started + 2})
    code, out, err = ran(prefect_server, "tune", path, "--json")
    assert code == 0, err
    assert json.loads(out)["trials"]["started"] == started + 2
    all_ended(load_study(path))


class Door:
    """A way to a server that can be shut for good, as if that had been killed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}{parts.path}"
        self._server, self._open = (parts.hostname or "", parts.port or 0), [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, server = self.listener.accept()[0], socket.create_connection(self._server)
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_prefect_gone_in_the_middle(tmp_path: Path, prefect_server: str) -> None:
    server = Door(prefect_server)
    path = write(tmp_path, "alone", budget={"resource": 60}, resource={"min": 1, "max": 9, "eta": 3})
    study = load_study(path)
    process = abohb(server.url, "tune", path, "--json")
    until(lambda: batches(study) > 5)
    server.shut()
    began = time.monotonic()
    assert process.poll() is None
    code, out, err = ended(process)
    print(f"ended {time.monotonic() - began:.1f} s after Prefect had gone")
    assert code == 0, err
    assert json.loads(out)["ended"] == "the budget of 60 epochs is used"
    assert "Prefect" in err
    assert "Traceback" not in err
    all_ended(study)


def test_interrupted_it_says_so_even_before_it_began(tmp_path: Path) -> None:
    path = write(tmp_path, "early", budget={"trials": LONG})
    script = (
        "import signal, sys, threading\n"
        "from flows.cli import main as cli\n"
        "from flows.controller import session\n"
        "session.replay = lambda *_: signal.raise_signal(signal.SIGINT)\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, "tune", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 4
    assert "goes on where it was" in shown.stderr
