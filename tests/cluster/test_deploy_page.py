"""docs/deploy.md as a newcomer follows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kit import missing
from tests.cluster.pages import blocks, elsewhere, run

pytestmark = pytest.mark.cluster

PROMISE = 360  # seconds from `helm install` to the first finished study


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"abohb-deploy-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait=false"], timeout=60)


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
    settings, *commands = blocks("docs/deploy.md")
    assert set(re.findall(r"(\w+)=", settings)) == {"REGISTRY", "TAG", "NAMESPACE"}
    script = elsewhere("\n".join(commands), tmp_path, ("second.yaml", "best/", "mine.yaml"), ("4200", "9000"))
    environment = os.environ | {
        "REGISTRY": os.environ["ABOHB_TEST_REGISTRY"],
        "TAG": os.environ["ABOHB_TEST_TAG"],
        "NAMESPACE": namespace,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    assert "Completed" in run(ours(tmp_path) + script, environment)
    assert seconds(tmp_path) < PROMISE
    assert [*(tmp_path / "best").iterdir()] != []
