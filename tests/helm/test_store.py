"""The store in the chart: MinIO or the user's own, keys, and what stays after an uninstall."""

from __future__ import annotations

import base64
from typing import Any

import yaml

from tests.helm.chart import Rendered, render

OWN_STORE = ('store.endpoint="https://s3.example:9443"', 'store.existingSecret="keys"')


def test_a_store_of_ones_own() -> None:
    made = render(*OWN_STORE)
    assert "abohb-minio" not in made.of("Deployment") | made.of("PersistentVolumeClaim")
    assert not made.of("Secret")
    env = made.env("abohb-controller")
    assert env["ABOHB_S3_ENDPOINT"] == "https://s3.example:9443"
    assert env["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "keys", "key": "AWS_ACCESS_KEY_ID"}}


def test_aws_by_the_clouds_role() -> None:
    made = render(
        "minio.enabled=false", 'controller.serviceAccount.annotations={"eks.amazonaws.com/role-arn": "a"}'
    )
    env = made.env("abohb-controller")
    assert not {"ABOHB_S3_ENDPOINT", "AWS_ACCESS_KEY_ID"} & env.keys()
    account = made.of("ServiceAccount")["abohb-controller"]
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "a"}


def test_passwords_are_in_secrets_alone(plain: Rendered) -> None:
    again = render()
    secrets = [
        one["data"]["AWS_SECRET_ACCESS_KEY"] for made in (plain, again) for one in made.of("Secret").values()
    ]
    assert len(set(secrets)) == 2  # nobody's password is in the chart
    decoded = base64.b64decode(secrets[0]).decode()
    assert len(decoded) == 40
    others = [one for one in plain.objects if one["kind"] != "Secret"]
    assert decoded not in yaml.safe_dump(others)


def test_data_is_kept_unless_told_otherwise() -> None:
    kept = {"Secret", "PersistentVolumeClaim", "Namespace"}
    both = ("prefect.auth.enabled=true", 'trials.namespace="t"', "trials.createNamespace=true")

    def policies(made: Rendered) -> dict[str, Any]:
        return {
            f"{one['kind']}/{one['metadata']['name']}": (one["metadata"].get("annotations") or {}).get(
                "helm.sh/resource-policy"
            )
            for one in made.objects
        }

    for name, policy in policies(render(*both)).items():
        assert (policy == "keep") is (name.split("/")[0] in kept), name
    assert set(policies(render(*both, "keepData=false")).values()) == {None}
