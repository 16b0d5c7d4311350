"""The commands of a page of docs/, run as they stand, in one shell."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.kit import ROOT

LIMIT = 600.0  # seconds
# The last line: which command failed. Whatever happens, a port-forward ends with the shell.
SHELL = """\
set -euo pipefail
trap 'code=$?; kill $(jobs -p) 2>/dev/null || true; exit $code' EXIT
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
"""


def blocks(page: str) -> list[str]:
    """Those of a shell."""
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), flags=re.S | re.M)


def elsewhere(script: str, folder: Path, names: tuple[str, ...], ports: tuple[str, ...]) -> str:
    """Files that it writes go to `folder`, and ports that it takes are free ones."""
    for name in names:
        script = script.replace(f" {name}", f" {folder}/{name}")
    for port in ports:
        free = _free_port()
        script = script.replace(f"{port}:{port}", f"{free}:{port}")
        script = script.replace(f"localhost:{port}", f"localhost:{free}")
    return script


def run(script: str, environment: Mapping[str, str]) -> str:
    """What it says. AssertionError: a command has failed."""
    done = subprocess.run(
        ["bash", "-c", SHELL + script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
