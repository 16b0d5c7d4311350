"""Small runs of the benchmarks on a cluster: what a leg costs the API server, how soon it is followed up."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import cluster_latency, cluster_scale
from benchmarks._report import Figure
from tests.cluster.kit import Cluster, ObjectStore

pytestmark = pytest.mark.cluster

FAKE_NODES = "ABOHB_TEST_FAKE_NODES"  # a command: makes as many nodes of kwok as it is told
JOBS, NODES = 100, 2  # 110 pods fit on a node


def nodes(cluster: Cluster) -> list[str]:
    found = json.loads(cluster.kubectl("get", "nodes", "--selector=type=kwok", "--output=json"))["items"]
    return [one["metadata"]["name"] for one in found]


@pytest.fixture
def fake_nodes(cluster: Cluster) -> Iterator[None]:
    """Those that are there; else made, and removed: other tests read how many nodes a scheduler has tried."""
    if nodes(cluster):
        yield
        return
    command = shlex.split(os.environ.get(FAKE_NODES, ""))
    if not command:
        pytest.skip(f"set {FAKE_NODES}, or add nodes of kwok; see tests/cluster/README.md")
    subprocess.run([*command, str(NODES)], check=True, timeout=120)
    try:
        yield
    finally:
        cluster.kubectl("delete", "nodes", "--selector=type=kwok", "--wait=false")


def by_name(figures: list[Figure]) -> dict[str, float]:
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}")
    return {figure.name: figure.value for figure in figures}


@pytest.mark.slow
def test_a_hundred_jobs_at_once(
    cluster: Cluster, minio: ObjectStore, controller_kubeconfig: Path, tmp_path: Path, fake_nodes: None
) -> None:
    found = by_name(
        cluster_scale.measure(
            cluster, minio.environment(), controller_kubeconfig, tmp_path, jobs=JOBS, legs=60, seconds=12
        )
    )
    assert found["legs"] >= 60
    assert found["pods at once"] >= 0.8 * JOBS
    assert 3 <= found["API calls per leg, by us"] <= 6  # made, read, deleted
    assert found["calls by the server"] >= found["calls by us, but logs"]  # it has seen all of them
    assert found["controller, most memory"] < 500


def test_the_next_decision_follows_soon(
    cluster: Cluster, minio: ObjectStore, controller_kubeconfig: Path, tmp_path: Path
) -> None:
    found = by_name(
        cluster_latency.measure(
            cluster, minio, controller_kubeconfig, tmp_path, jobs=6, legs=8, seconds=(5.0, 15.0)
        )
    )
    assert found["legs that ended by themselves"] >= 6
    assert found["next decision in the same batch"] >= 0.5 * found["legs that ended by themselves"]
    assert found["from there to the decision, 99th percentile"] <= 1  # the kubelet's part is not ours
    assert found["end to decision, median"] <= 3
    assert 3 <= found["API calls per leg, by us"] <= 6  # made, read, deleted
    assert found["API calls per leg but logs, by the server"] <= 6
