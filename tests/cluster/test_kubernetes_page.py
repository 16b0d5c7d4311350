"""docs/kubernetes.md as a platform engineer follows it: from an empty cluster to the best checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kit import ROOT
from tests.cluster.pages import blocks, elsewhere, run

pytestmark = pytest.mark.cluster

PROMISE = 600.0  # seconds; the cluster itself is there already
KIND = 'kind() { if [ "$1" = load ]; then command $ABOHB_TEST_LOAD "${@:3}"; fi; }\n'


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"abohb-page-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait=false"], timeout=60)


@pytest.mark.slow
def test_every_command_of_the_page_works(namespace: str, tmp_path: Path) -> None:
    if not (os.environ.get("KUBECONFIG") and os.environ.get("ABOHB_TEST_LOAD")):
        pytest.skip("set KUBECONFIG and ABOHB_TEST_LOAD; see tests/cluster/README.md")
    (script,) = blocks("docs/kubernetes.md")
    examples = tmp_path / "examples"
    shutil.copytree(ROOT / "examples/kubernetes", examples)
    if image := os.environ.get("ABOHB_TEST_MINIO_IMAGE"):
        store = examples / "minio.yaml"
        store.write_text(store.read_text().replace("quay.io/minio/minio:latest", image))
    shutil.copy(os.environ["KUBECONFIG"], tmp_path / "kubeconfig")  # the page changes its namespace
    script = elsewhere(script, tmp_path, ("best/",), ("9000",))
    script = script.replace("examples/kubernetes", str(examples)).replace(" tuning", f" {namespace}")
    environment = os.environ | {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    began = time.monotonic()
    said = run(KIND + script, environment)
    print(said, f"{time.monotonic() - began:.0f} s")
    assert time.monotonic() - began < PROMISE
    assert "Study digits ended" in said
    assert [*(tmp_path / "best").iterdir()] != []
