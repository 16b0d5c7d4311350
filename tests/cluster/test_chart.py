"""The chart on a real cluster: installed, upgraded, rolled back, taken away: one story, in this order."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.kit import missing, until
from tests.cluster.release import NAME, Release, own_release
from tests.helm.chart import EVERYTHING, VALUES, render, rights

pytestmark = pytest.mark.cluster

DATA = "/data/kept"  # a folder in MinIO's volume


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    if lacks := missing(images=True):
        pytest.skip(f"set {', '.join(lacks)}; see tests/cluster/README.md")
    with own_release() as release:
        began = time.monotonic()
        release.install()
        print(f"\nhelm install: {time.monotonic() - began:.0f} s")
        release.ready()
        print(f"from helm install to ready: {time.monotonic() - began:.0f} s")
        yield release


def kubectl_as(release: Release, account: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
    who = f"--as=system:serviceaccount:{release.cluster.namespace}:{account}"
    command = ["kubectl", "--namespace", release.cluster.namespace, who, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


# -- without an install --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*VALUES, EVERYTHING])
def test_the_api_server_knows_every_field(name: str) -> None:
    """By its own schemas, where an unknown field is an error. `default` stands for all namespaces."""
    made = render("trials.createNamespace=false", values=name)
    known = [one for one in made.objects if one["kind"] != "ServiceMonitor"]  # not of Kubernetes itself
    for one in made.objects:
        if "namespace" in one["metadata"]:
            one["metadata"]["namespace"] = "default"
    if "job.yaml" in made.of("ConfigMap")[f"{NAME}.policy"]["data"]:
        known.append(made.study() | {"metadata": {"name": "study", "namespace": "default"}})
    text = yaml.safe_dump_all(known)
    command = ["kubectl", "apply", "--dry-run=server", "--validate=strict", "--filename=-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(known)


# -- the story -----------------------------------------------------------------------------------------


def allowed(text: str) -> set[tuple[str, str]]:
    """(resource, verb) of what `kubectl auth can-i --list` prints, less what every account of a cluster may.

    A right for single objects has their names: (secrets/abohb-store, get).
    """
    found: set[tuple[str, str]] = set()
    for line in text.splitlines():
        row = re.fullmatch(r"(\S*) +\[(.*)\] +\[(.*)\] +\[(.*)\]", line)
        assert row, line
        resource, addresses, names, verbs = row.groups()
        if addresses or resource.startswith("selfsubject"):  # /healthz and the like
            continue
        kind = resource.split(".")[0]
        objects = [f"{kind}/{name}" for name in names.split()] or [kind]
        found |= {(one, verb) for one in objects for verb in verbs.split()}
    return found


def test_rights_to_single_objects_are_not_overlooked() -> None:
    rows = """\
jobs.batch                                      []                  []              [create get]
secrets                                         []                  [abohb-store]   [get]
selfsubjectreviews.authentication.k8s.io        []                  []              [create]
                                                [/healthz]          []              [get]
"""
    assert allowed(rows) == {("jobs", "create"), ("jobs", "get"), ("secrets/abohb-store", "get")}


def can(release: Release, account: str) -> set[tuple[str, str]]:
    code, text = kubectl_as(release, account, "auth", "can-i", "--list", "--no-headers")
    assert code == 0, text
    return allowed(text)


def test_the_controller_may_do_what_the_document_says(release: Release) -> None:
    found = can(release, f"{NAME}-controller")
    assert ("jobs", "create") in found
    assert found == rights("The controller")


def test_the_notes_can_be_followed(release: Release) -> None:
    notes = release.helm("get", "notes", NAME)
    commands = [line.strip() for line in notes.splitlines() if line.strip().startswith("kubectl ")]
    wait, forward, label = commands
    assert "port-forward" in forward
    for command in (wait, f"{label} --overwrite"):
        done = subprocess.run(command.split(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    (service,) = re.findall(r"service/(\S+)", forward)
    assert release.cluster.get("service", service)["spec"]["ports"][0]["port"] == 4200


def test_the_ui_is_served_and_asks_its_own_address(release: Release) -> None:
    address = f"/api/v1/namespaces/{release.cluster.namespace}/services/{NAME}-prefect:http/proxy"
    assert "<!DOCTYPE html>" in release.cluster.kubectl("get", f"--raw={address}/")
    assert json.loads(release.cluster.kubectl("get", f"--raw={address}/ui-settings"))["api_url"] == "/api"


def test_both_deployments_are_there(release: Release) -> None:
    found = release.prefect("deployments/filter", {})
    assert {one["name"] for one in found} == {"tune", "steer"}


def test_an_upgrade_and_a_rollback_keep_passwords_data_and_a_running_study(release: Release) -> None:
    """Jobs run on while there is no controller, and the next one adopts them: no leg is lost."""
    run = release.begin("kept", trials=8)
    until("two trials run", lambda: len(release.jobs()) >= 2, 60)
    secret, store, jobs = release.secret("store"), release.pods("minio"), release.jobs()
    controllers = release.pods("controller")
    release.upgrade("policy.max_workers=8")
    assert jobs.keys() & release.jobs().keys()
    release.ready("controller")
    assert release.policy()["max_workers"] == 8
    controllers += release.pods("controller")  # it reads the policy when it starts
    release.helm("rollback", NAME, str(release.revision() - 1))
    release.ready("controller")
    assert release.policy()["max_workers"] == 64
    controllers += release.pods("controller")
    assert len(set(controllers)) == 3
    assert release.secret("store") == secret
    assert release.pods("minio") == store
    release.wait(run, "COMPLETED", 300)
    legs = {leg["name"]: leg["state_type"] for leg in release.legs(run)}
    assert len(legs) >= 8
    assert set(legs.values()) == {"COMPLETED"}, legs
    until("its Jobs are gone", lambda: not release.jobs(), 60)


def test_a_pod_for_each_study(release: Release) -> None:
    release.upgrade("controller.mode=workPool", "admission.enabled=true")
    release.ready("worker", "controller")
    assert can(release, f"{NAME}-worker") == rights("The worker")
    run = release.begin("alone", trials=2)
    until("its pod is there", lambda: len(release.pods("study")) == 1, 60)
    until("its metrics are found", lambda: release.addresses("study"), 30)
    release.wait(run, "COMPLETED", 300)


def test_an_uninstall_keeps_the_data_and_the_next_install_finds_it(release: Release) -> None:
    secret = release.secret("store")
    release.cluster.kubectl("exec", f"deployment/{NAME}-minio", "--", "mkdir", DATA)
    release.prefect("flows/", {"name": "kept"})
    release.helm("uninstall", NAME, "--wait")
    left = release.cluster.list("deployments,services,roles,configmaps", f"app.kubernetes.io/instance={NAME}")
    assert left == []
    release.install("prefect.auth.enabled=true")
    release.ready()
    assert release.secret("store") == secret
    release.cluster.kubectl("exec", f"deployment/{NAME}-minio", "--", "ls", DATA)
    assert release.prefect("flows/name/kept")["name"] == "kept"


def test_prefect_asks_for_the_password_that_was_made_once(release: Release) -> None:
    """The controller is ready, so it has given it."""
    url = f"/api/v1/namespaces/{release.cluster.namespace}/services/{NAME}-prefect:http/proxy/api"
    release.cluster.kubectl("get", f"--raw={url}/health")  # of the probes
    with pytest.raises(AssertionError, match="asked for the client to provide credentials"):
        release.cluster.kubectl("get", f"--raw={url}/admin/version")
    password = release.secret("auth")
    release.upgrade("prefect.auth.enabled=true", "policy.max_gpus=3")
    assert release.secret("auth") == password


def test_all_goes_if_told_so(release: Release) -> None:
    release.upgrade("prefect.auth.enabled=true", "keepData=false")
    release.helm("uninstall", NAME, "--wait")
    left = release.cluster.list("secrets,persistentvolumeclaims", f"app.kubernetes.io/instance={NAME}")
    assert [one["metadata"]["name"] for one in left if "deletionTimestamp" not in one["metadata"]] == []
