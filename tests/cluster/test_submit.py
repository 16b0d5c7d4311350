"""`abohb submit` to deployments that are served for real."""

from __future__ import annotations

from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.ui.server import patience
from operators.kube.settings import selector
from tests.cluster.desk import Desk
from tests.cluster.kit import image
from tests.cluster.serving import serving

pytestmark = pytest.mark.cluster

WITHIN = 5.0  # seconds from the run to its failure, when the study is wrong


def test_a_study_file_runs_in_the_cluster_and_is_followed(desk: Desk) -> None:
    path, study = desk.study("shell", {"name": "handed-in", "budget": {"trials": 2}, "resource": {"max": 3}})
    with serving(desk):
        run = desk.abohb("submit", path)
        assert run.wait(within=240) == 0, run.text()
        lines = run.text().splitlines()
        assert lines[0].startswith("Study handed-in was submitted: http")
        assert "  trial-0 to epoch 1: running" in lines
        assert any(line.startswith("  trial-1 to epoch 1: completed, ") for line in lines)
        assert any(line.startswith("Completed. ") for line in lines)
        again = desk.abohb("submit", path, "--json")  # it has ended: its result is shown
        assert again.wait(within=60) == 0, again.text()
        assert again.result()["state"] == "Completed"
    desk.events(study)


def test_a_study_that_is_wrong_ends_at_once_and_starts_nothing(desk: Desk, prefect_server: str) -> None:
    policy = desk.folder / "policy.yaml"
    ours = {"registries": [image("x").rpartition("/")[0]], "store_endpoints": [desk.minio.inside]}
    policy.write_text(yaml.safe_dump({**ours, "max_workers": 2}))
    patch = {"spec": {"hostPID": True}}
    path, study = desk.study("shell", {"name": "too-much", "workers": 9, "kubernetes": {"patch": patch}})
    with serving(desk, ABOHB_POLICY=str(policy)):
        run = desk.abohb("submit", path, "--json")
        assert run.wait(within=60) == 2, run.text()
    told = run.result()
    assert (told["state"], told["begun"]) == ("Failed", False)
    assert "workers: got 9; the policy allows 2" in told["message"]
    with patience(prefect_server), get_client(sync_client=True) as client:
        ended = client.read_flow_run(UUID(told["run"]))
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[ended.id]))
        (artifact,) = client.read_artifacts(artifact_filter=of_run)
    assert ended.end_time is not None
    assert ended.created is not None
    took = (ended.end_time - ended.created).total_seconds()
    print(f"\nthe mistakes were there {took:.1f} s after the run was made")
    assert took < WITHIN
    assert artifact.key == "mistakes"
    assert "| workers | got 9; the policy allows 2 |" in str(artifact.data)
    assert "sets hostPID, which no policy allows" in str(artifact.data)
    assert desk.cluster.list("jobs", selector(study.name)) == []
