"""Values that do not go together."""

from __future__ import annotations

import pytest

from tests.helm.chart import CHART, helm, refusal, render

QUOTA = ('quota.hard={"pods": 9}',)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["prefect.replicas=2"],
            "set prefect.database.existingSecret (PostgreSQL) and prefect.redis.existingSecret",
        ),
        (["ingress.enabled=true"], "ingress.host is empty"),
        (["ingress.enabled=true", 'ingress.host="a"', 'prefect.apiUrl="http://p/api"'], "set one of them"),
        (
            ["prefect.auth.enabled=true", 'prefect.apiUrl="http://p/api"'],
            "name it in prefect.auth.existingSecret",
        ),
        (['prefect.redis.existingSecret="redis"'], "set prefect.database.existingSecret (PostgreSQL)"),
        (['prefect.service.type="LoadBalancer"'], "networkPolicy.prefectFrom: ["),
        (['controller.mode="workPool"'], "set admission.enabled to true"),
        ([*QUOTA], "run in default: set trials.namespace"),
        (
            ['quota.hard={"requests.nvidia.com/gpu": 9, "count/jobs.batch": 9}'],
            "priorityClasses.create to true",
        ),
        (["trials.createNamespace=true", 'trials.namespace="default"'], "name another"),
    ],
)
def test_values_that_do_not_go_together(settings: list[str], words: str) -> None:
    assert words in refusal(*settings)


@pytest.mark.parametrize(
    "settings",
    [
        ('prefect.auth.existingSecret="a"', 'prefect.apiUrl="http://p/api"'),
        (
            'prefect.service.type="NodePort"',
            'networkPolicy.prefectFrom=[{"ipBlock": {"cidr": "10.0.0.0/8"}}]',
        ),
        ('prefect.service.type="NodePort"', "networkPolicy.enabled=false"),
        ('controller.mode="workPool"', "controller.workPool.withoutAdmission=true"),
        (*QUOTA, 'trials.namespace="t"'),
        (*QUOTA, "priorityClasses.create=true"),
        ('quota.hard={"requests.nvidia.com/gpu": 9}',),  # the release's own pods have none
    ],
)
def test_what_they_say_to_do_helps(settings: tuple[str, ...]) -> None:
    render(*settings)


def test_admission_needs_its_kubernetes() -> None:
    options = ("template", "abohb", str(CHART), "--set=admission.enabled=true")
    assert "it needs Kubernetes 1.30, this is v1.29.9" in helm(*options, "--kube-version=1.29.9").stderr
    assert helm(*options, "--kube-version=1.30.0").returncode == 0
