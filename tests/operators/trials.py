"""Real agents on a directory store, with small training scripts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpo_engine.types import AttemptEnded, Report
from operators.attempt import AttemptSpec, decode_report, inbox_prefix
from operators.local import LocalBackend
from operators.store import DirectoryStore

PREAMBLE = """
import json, os, signal, subprocess, sys, time
os.chdir(os.environ["ABOHB_TRIAL_DIR"])
start = json.load(open("config.json"))["from"]
def order():
    return json.load(open("order.json"))
def write(text):
    with open("metrics.jsonl", "a") as file:
        file.write(text)
def line(epoch, **more):
    write(json.dumps({"epoch": epoch, "loss": 1 / epoch, **more}) + "\\n")
def save(epoch, text="w"):
    os.mkdir(f"ckpt-{epoch}")
    open(f"ckpt-{epoch}/weights", "w").write(text)
    return f"ckpt-{epoch}"
def obey(pause=0.0, until=None):
    epoch = start
    while epoch < (until or order()["until"]) and not order()["stop"]:
        epoch += 1
        line(epoch, checkpoint=save(epoch, str(epoch)))
        time.sleep(pause)
"""

SPEC = AttemptSpec("s", 0, 1, {"lr": 0.5}, "epoch", 3, (), ("loss",))


def spec(script: str, **changes: object) -> AttemptSpec:
    """One that runs `script` after PREAMBLE."""
    command = (sys.executable, "-I", "-S", "-c", PREAMBLE + script)
    return replace(SPEC, **{"command": command, **changes})  # type: ignore[arg-type]


def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root / "store")


def backend(root: Path, grace: float = 0.3, patience: float = 0.3) -> LocalBackend:
    return LocalBackend(root / "store/s/work", f"file://{root}/store", grace=grace, patience=patience)


def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


def run(root: Path, attempt: AttemptSpec, seconds: float = 30.0, **options: float) -> AttemptEnded:
    """The verdict of an attempt, run to its end."""
    workers = backend(root, **options)
    workers.launch(attempt)
    key = (attempt.trial, attempt.attempt)
    wait(lambda: not workers.observe()[key].running, seconds)
    verdict = workers.observe()[key].verdict
    workers.forget(*key)
    assert verdict is not None
    return verdict


def reports(root: Path) -> list[Report]:
    """The inbox, in the order of its keys."""
    files = store(root)
    return [decode_report(files.get(key) or b"") for key in files.list(inbox_prefix("s"))]


def reached(root: Path) -> list[int]:
    return [report.resource for report in reports(root)]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
