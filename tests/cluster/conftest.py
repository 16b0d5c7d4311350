"""A namespace of our own with a MinIO in it, on the cluster that KUBECONFIG names. Without one: skipped."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.desk import Desk
from tests.cluster.kit import ROOT, Cluster, Json, ObjectStore, minio_in, missing
from tests.flows.conftest import prefect_database, prefect_server  # noqa: F401  fixtures

GONE = 90.0  # seconds after a test in which its last pods may use up their grace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cluster"):
            lacks = missing(images="namespace" in getattr(item, "fixturenames", ()))
            if lacks:
                reason = f"set {', '.join(lacks)}; see tests/cluster/README.md"
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where all is there that tests need, one that is skipped has found out otherwise: it has not passed."""
    report = yield
    if report.skipped and os.environ.get("ABOHB_TEST_REQUIRED"):
        report.outcome, report.longrepr = "failed", f"ABOHB_TEST_REQUIRED is set: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def namespace() -> Iterator[Cluster]:
    """A fresh one that lets only `restricted` pods in."""
    cluster = Cluster(f"abohb-test-{uuid.uuid4().hex[:8]}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": cluster.namespace, "labels": labels}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


@pytest.fixture
def cluster(namespace: Cluster) -> Iterator[Cluster]:
    """The namespace; afterwards nothing may be left in it of any study."""
    yield namespace
    deadline = time.monotonic() + GONE
    while (left := namespace.left()) and time.monotonic() < deadline:
        time.sleep(1)
    if left:
        namespace.remove_left()  # the next test is not to blame
    assert left == []


@pytest.fixture(scope="session")
def running_minio(namespace: Cluster) -> Iterator[ObjectStore]:
    with minio_in(namespace, lasting=True) as minio:
        yield minio


@pytest.fixture
def minio(running_minio: ObjectStore) -> Iterator[ObjectStore]:
    """Running at the start of each test, whatever the one before did to it."""
    yield running_minio
    running_minio.start()


@pytest.fixture
def bucket(minio: ObjectStore) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    minio.client().make_bucket(bucket_name=name)
    return name


@pytest.fixture(scope="session")
def controller_kubeconfig(namespace: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the controllers under test: a service account that may do what operators/rbac.yaml says."""
    documents: list[Json] = list(yaml.safe_load_all((ROOT / "operators/rbac.yaml").read_text()))
    for one in documents:
        for subject in one.get("subjects", ()):
            subject["namespace"] = namespace.namespace
    namespace.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "abohb"}}, *documents)
    token = namespace.kubectl("create", "token", "abohb", "--duration=24h").strip()
    config: Json = yaml.safe_load(
        namespace.kubectl("config", "view", "--minify", "--flatten", "--output=yaml")
    )
    (context,) = config["contexts"]
    context["context"] |= {"namespace": namespace.namespace, "user": "abohb"}
    config["users"] = [{"name": "abohb", "user": {"token": token}}]
    path = tmp_path_factory.mktemp("controller") / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def desk(
    tmp_path: Path,
    cluster: Cluster,
    minio: ObjectStore,
    bucket: str,
    controller_kubeconfig: Path,
    prefect_server: str,  # noqa: F811
) -> Iterator[Desk]:
    """Studies and controllers of one test; the controllers have the rights of operators/rbac.yaml."""
    environment = {
        **minio.environment(),
        "KUBECONFIG": str(controller_kubeconfig),
        "PREFECT_API_URL": prefect_server,
    }
    desk = Desk(tmp_path, cluster, minio, bucket, environment, [])
    yield desk
    desk.close()
