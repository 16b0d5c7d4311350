"""What a person takes out of a study's store: the files of a checkpoint, the output of an attempt."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.views.view import Best
from hpo_engine.types import AbohbError
from operators.attempt import log_key, trial_prefix
from operators.checkpoints import Checkpoints
from operators.store import Store

STREAMS = ("log", "stdout", "stderr")  # of a pod, which has one for both; of a process
OVERLAP = 4096  # bytes by which the end of an output that was cut in the middle is found again


def check_target(folder: Path) -> None:
    """AbohbError: something is there already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AbohbError(f"{folder} is not empty; give a new folder, or one without files")


def restore_best(store: Store, study: str, best: Best, folder: Path) -> bool:
    """Lay out the checkpoint with which the best loss was measured; False if there is no whole one.

    `folder` appears with all of its files, or not at all.
    """
    check_target(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        checkpoints = Checkpoints(store, trial_prefix(study, best.trial))
        if checkpoints.restore_at(best.resource, partial) is None:
            return False
        partial.rename(folder)  # an empty one gives way
        return True
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def kept_attempts(store: Store, study: str, trial: int) -> list[int]:
    """The attempts of a trial that have left output, in order."""
    names = (key.rpartition("/")[2] for key in store.list(f"{trial_prefix(study, trial)}logs/"))
    return sorted({int(found[1]) for name in names if (found := re.match(r"(\d+)\.", name))})


@dataclass
class Output:
    """What an attempt has printed so far, stream by stream."""

    store: Store
    study: str
    trial: int
    attempt: int

    def __post_init__(self) -> None:
        self._shown = dict.fromkeys(STREAMS, b"")
        self._last = ""

    @property
    def empty(self) -> bool:
        return not any(self._shown.values())

    def more(self, *, whole_lines: bool = False) -> Iterator[bytes]:
        """What was not there at the last call; headed by its stream if there are several."""
        found = {}
        for stream in STREAMS:
            data = self.store.get(log_key(self.study, self.trial, self.attempt, stream)) or b""
            if whole_lines:
                data = data[: data.rfind(b"\n") + 1]
            found[stream], self._shown[stream] = added(self._shown[stream], data), data
        several = sum(map(bool, self._shown.values())) > 1
        for stream, data in found.items():
            if data and several and stream != self._last:
                yield f"==> {stream} <==\n".encode()
            if data:
                self._last = stream
                yield data if data.endswith(b"\n") else data + b"\n"


def added(before: bytes, now: bytes) -> bytes:
    """What has been added to an output that is kept whole, or without its middle."""
    if now.startswith(before):
        return now[len(before) :]
    end = before[-OVERLAP:]
    at = now.rfind(end)
    return now[at + len(end) :] if at >= 0 else now
