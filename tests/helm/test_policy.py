"""The admin's policy in the chart, and what trials get."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.policy.apply import read_policy
from flows.policy.model import Policy
from flows.study.kubernetes import Kubernetes
from tests.helm.chart import VALUES, Rendered, refusal, render, schema, values


def test_trials_in_a_namespace_of_their_own() -> None:
    made = render('trials.namespace="trials"', "trials.createNamespace=true", 'quota.hard={"pods": 9}')
    labels = made.of("Namespace")["trials"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for kind in ("Role", "RoleBinding", "NetworkPolicy", "ResourceQuota"):
        assert made.of(kind)["abohb-trials"]["metadata"]["namespace"] == "trials"
    assert made.env("abohb-controller")["ABOHB_TRIALS_NAMESPACE"] == "trials"


def test_priorities() -> None:
    made = render("priorityClasses.create=true", 'quota.hard={"pods": 9}')
    classes = made.of("PriorityClass")
    assert classes["tuning-abohb-trials"]["value"] < 0 < classes["tuning-abohb-server"]["value"]
    assert made.policy()["defaults"]["priority_class"] == "tuning-abohb-trials"
    assert made.pod("abohb-controller")["priorityClassName"] == "tuning-abohb-server"
    (scope,) = made.of("ResourceQuota")["abohb-trials"]["spec"]["scopeSelector"]["matchExpressions"]
    assert scope["values"] == ["tuning-abohb-trials"]
    mine = (
        "priorityClasses.create=true",
        'quota.hard={"pods": 9}',
        'policy.defaults={"priority_class": "batch"}',
    )
    (scope,) = render(*mine).of("ResourceQuota")["abohb-trials"]["spec"]["scopeSelector"]["matchExpressions"]
    assert scope["values"] == ["batch"], "the one that trials have"
    apart = render(*mine, 'trials.namespace="theirs"').of("ResourceQuota")["abohb-trials"]
    assert "scopeSelector" not in apart["spec"], "all that is there"


def test_defaults_are_those_of_a_study() -> None:
    known = schema()["properties"]["policy"]["properties"]["defaults"]["properties"]
    assert known.keys() == Kubernetes.model_fields.keys()
    assert "requets" in refusal('policy.defaults={"requets": {"memory": "4Gi"}}')
    assert "memory" in refusal('policy.defaults={"requests": {"memory": "4Gb"}}')
    render('policy.defaults={"requests": {"memory": "4Gi", "cpu": 1.5, "nvidia.com/gpu": 1}}')


def test_a_bucket_of_digits_is_a_name() -> None:
    (container,) = render('store.url="s3://2024/studies"').pod("abohb-minio")["containers"]
    assert {"name": "BUCKET", "value": "2024"} in container["env"]


def test_the_policy_is_as_the_values_say() -> None:
    made = render('policy.registries=["registry.example/ml"]', 'policy.defaults={"requests": {"cpu": "2"}}')
    given = {"registries": ["registry.example/ml"], "defaults": {"requests": {"cpu": "2"}}}
    without = {name: value for name, value in values()["policy"].items() if name != "stores"}
    assert made.policy() == without | given  # no stores: that of the controller alone
    assert made.env("abohb-controller")["ABOHB_POLICY"] == "/etc/abohb/policy.yaml"


@pytest.mark.parametrize("name", VALUES)
def test_the_controller_can_read_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(render(values=name).policy()))
    policy = read_policy({"ABOHB_POLICY": str(tmp_path / "policy.yaml")})
    assert policy is not None
    assert policy.max_gpus == 8


def test_each_part_of_a_policy_is_a_value() -> None:
    assert set(Policy.model_fields) == set(values()["policy"])


def test_null_and_empty_are_no_limit(plain: Rendered) -> None:
    assert not {"registries", "stores"} & plain.policy().keys()
    assert (
        not {"max_gpus", "max_workers"}
        & render("policy.max_gpus=null", "policy.max_workers=null").policy().keys()
    )


def test_another_policy_restarts_the_controller(plain: Rendered) -> None:
    def mark(made: Rendered) -> str:
        template = made.of("Deployment")["abohb-controller"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/policy"])

    assert mark(plain) == mark(render())
    assert mark(plain) != mark(render("policy.max_gpus=1"))


def test_the_api_server_holds_the_policy_if_told_so() -> None:
    made = render(
        "admission.enabled=true",
        'policy.registries=["registry.example/ml/"]',
        'policy.secrets=["pull"]',
        "policy.max_gpus=3",
    )
    policy = made.of("ValidatingAdmissionPolicy")["tuning-abohb-trials"]["spec"]
    (condition,) = policy["matchConditions"]
    assert '"system:serviceaccount:tuning:abohb-controller"' in condition["expression"]
    text = " ".join(one["expression"] for one in policy["validations"])
    assert '["registry.example/ml"]' in text
    assert "variables.devices <= 3" in text
    assert policy["failurePolicy"] == "Fail"
    (binding,) = made.of("ValidatingAdmissionPolicyBinding").values()
    assert binding["spec"] == {"policyName": "tuning-abohb-trials", "validationActions": ["Deny"]}
