"""docs/deploy.md as a newcomer follows it: each of its commands is run as it stands, in one shell."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kit import ROOT, missing

pytestmark = pytest.mark.cluster

PAGE = ROOT / "docs/deploy.md"
LIMIT = 600.0  # seconds
PROMISE = 360  # seconds from `helm install` to the first finished study
# The last line: which command failed. Whatever happens, the port-forward ends with the shell.
SHELL = """\
set -euo pipefail
trap 'code=$?; kill $(jobs -p) 2>/dev/null || true; exit $code' EXIT
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
"""


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), flags=re.S | re.M)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"abohb-deploy-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait=false"], timeout=60)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def ours(folder: Path) -> str:
    """What is different here: the image of MinIO, which this cluster may not be able to pull; and a clock."""
    image = os.environ.get("ABOHB_TEST_MINIO_IMAGE")
    more = f"set -- install --set minio.image={image} " + '"${@:2}"' if image else ":"
    return f"""\
helm() {{ if [ "$1" = install ]; then date +%s >> {folder}/installed; {more}; fi; command helm "$@"; }}
abohb() {{ command abohb "$@" && date +%s >> {folder}/done; }}
"""


def seconds(folder: Path) -> int:
    """From the first `helm install` to the end of the first study."""
    began, ended = (int((folder / name).read_text().split()[0]) for name in ("installed", "done"))
    return ended - began


def test_every_command_of_the_page_works(namespace: str, tmp_path: Path) -> None:
    if lacks := missing(images=True):
        pytest.skip(f"set {', '.join(lacks)}; see tests/cluster/README.md")
    if not (shutil.which("buildah") or shutil.which("docker")):
        pytest.skip("the page builds images: put buildah or docker on PATH")
    settings, *commands = blocks()
    assert set(re.findall(r"(\w+)=", settings)) == {"REGISTRY", "TAG", "NAMESPACE"}
    script = SHELL + ours(tmp_path) + "\n".join(commands)
    for port in ("4200", "9000"):
        free = free_port()
        script = script.replace(f"{port}:{port}", f"{free}:{port}").replace(
            f"localhost:{port}", f"localhost:{free}"
        )
    for name in ("second.yaml", "best/", "mine.yaml"):
        script = script.replace(f" {name}", f" {tmp_path}/{name}")
    environment = os.environ | {
        "REGISTRY": os.environ["ABOHB_TEST_REGISTRY"],
        "TAG": os.environ["ABOHB_TEST_TAG"],
        "NAMESPACE": namespace,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert "Completed" in done.stdout
    assert seconds(tmp_path) < PROMISE
    assert [*(tmp_path / "best").iterdir()] != []
