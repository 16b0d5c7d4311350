"""What a newcomer's machine may be like."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.flows.real_study import ROOT, write_study

TABLE = ROOT / "benchmarks" / "tables" / "digits.npz"


def abohb(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, cwd=ROOT)


def test_python_is_the_one_that_runs_us_where_path_has_none(tmp_path: Path) -> None:
    path, _ = write_study(tmp_path)
    (tmp_path / "train.py").touch()
    path.write_text(path.read_text().replace("[sh, trial.sh]", "[python, train.py]"))
    bare = {"PATH": "/nowhere", "HOME": str(tmp_path)}
    assert abohb("check", str(path), env=bare).returncode == 0
    path.write_text(path.read_text().replace("[python, train.py]", "[pyhton, train.py]"))
    refused = abohb("check", str(path), env=bare)
    assert refused.returncode == 2
    assert "'pyhton' is not found on PATH" in refused.stderr


def test_a_simulation_can_be_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.cli.main", "simulate", "--blackbox", str(TABLE), "--hours", "5"]
    process = subprocess.Popen(
        [*command, "--method", "a-bohb", "--seeds", "4", "--out", str(tmp_path / "r.png")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate(timeout=15)
    assert process.returncode == 4


def test_a_picture_of_no_known_kind_is_refused_before_the_work(tmp_path: Path) -> None:
    refused = abohb("simulate", "--blackbox", str(TABLE), "--out", str(tmp_path / "regret.txt"))
    assert refused.returncode == 2
    assert ".png" in refused.stderr
