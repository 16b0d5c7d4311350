"""Each study in a pod of its own: begun, its pod killed, cancelled; by the chart in mode workPool."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster.kit import missing, until
from tests.cluster.release import NAME, Release, own_release

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    if lacks := missing(images=True):
        pytest.skip(f"set {', '.join(lacks)}; see tests/cluster/README.md")
    with own_release() as release:
        release.install("controller.mode=workPool", "admission.enabled=true", "prefect.auth.enabled=true")
        release.ready("minio", "prefect", "controller", "worker", within=400)
        yield release


def states(release: Release, run: str) -> list[str]:
    found = release.prefect(f"flow_run_states/?flow_run_id={run}")
    return [one["name"] for one in sorted(found, key=lambda one: str(one["timestamp"]))]


def begin(release: Release, study: str, **more: object) -> str:
    """Prefect on SQLite is busy at times, and says 503."""
    for _ in range(5):
        try:
            return release.begin(study, **more)
        except AssertionError as error:
            if "503" not in str(error):
                raise
            time.sleep(2)
    raise AssertionError("Prefect is busy all the time")


def studies(release: Release) -> list[str]:
    """The pods of studies that run."""
    selector = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component=study"
    pods = release.cluster.list("pods", selector)
    return [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"]


def trials_run(release: Release) -> int:
    return sum(pod["status"].get("phase") == "Running" for pod in release.cluster.list("pods"))


def test_a_pod_that_is_killed_is_followed_by_another_with_the_same_jobs(release: Release) -> None:
    began = time.monotonic()
    run = begin(release, "pooled", trials=3, resource_min=6)
    until("two trials run", lambda: trials_run(release) == 2, 180)
    print(f"two trials ran {time.monotonic() - began:.0f} s after the run was made")
    (pod,) = studies(release)
    before = release.jobs()
    release.cluster.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
    killed = time.monotonic()
    until("another pod has it", lambda: [one for one in studies(release) if one != pod], 120)
    print(f"another pod ran {time.monotonic() - killed:.0f} s after the first was killed")
    until("it runs again", lambda: states(release, run)[-1] in ("Running", "Retrying"), 60)
    print(before.keys() & release.jobs().keys())
    release.wait(run, "COMPLETED", 240)
    print(states(release, run))


def test_a_mistake_shows_at_once_also_when_a_worker_was_quicker(release: Release) -> None:
    began = time.monotonic()
    run = begin(release, "pooled-2", search_space="x: {typ: float}")
    release.wait(run, "FAILED", 30)
    print(f"a mistake showed after {time.monotonic() - began:.1f} s: {states(release, run)}")
    assert "Running" not in states(release, run)


def test_cancelled_no_job_is_left(release: Release) -> None:
    run = begin(release, "pooled-3", trials=20)
    until("two trials run", lambda: trials_run(release) == 2, 180)
    began = time.monotonic()
    release.prefect(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    until("no Job is left", lambda: not release.jobs(), 30)
    print(f"no Job was left {time.monotonic() - began:.0f} s after the cancellation")
    until("Cancelled", lambda: states(release, run)[-1] == "Cancelled", 60)
