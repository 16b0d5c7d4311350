"""Values that reach every pod they should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helm.chart import EVERYTHING, Json, Rendered, render

SERVICES = ('prefect.database.existingSecret="postgres"', 'prefect.redis.existingSecret="redis"')
OURS = ("abohb-prefect", "abohb-prefect-services", "abohb-controller", "abohb-worker", "job.yaml")
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "PREFECT_API_SSL_CERT_FILE")


@pytest.fixture(scope="module")
def made() -> Rendered:
    return render(*SERVICES, values=EVERYTHING)


def containers(pod: Json) -> list[Json]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def test_all_pods_are_here(made: Rendered) -> None:
    assert {name for name, _ in made.pods()} == {*OURS, "abohb-minio"}


def test_all_may_pull_and_run_where_they_should(made: Rendered) -> None:
    for name, pod in made.pods():
        spec = pod["spec"]
        assert spec["imagePullSecrets"] == [{"name": "regcred"}], name
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}, name
        assert spec["tolerations"][0]["key"] == "example.com/service", name
        assert "nodeAffinity" in spec["affinity"], name
        assert spec["priorityClassName"] == "tuning-abohb-server", name


@pytest.mark.parametrize("name", OURS)
def test_certificates_and_proxy_reach_all_of_ours(made: Rendered, name: str) -> None:
    pod = made.pod(name)
    (volume,) = (one for one in pod["volumes"] if one["name"] == "ca")
    assert volume["configMap"] == {"name": "company"}
    for container in containers(pod):
        env = {one["name"]: one.get("value") for one in container["env"]}
        for way in ("http", "https"):
            assert env[f"{way}_proxy"] == env[f"{way.upper()}_PROXY"] == "http://proxy.example:3128"
        assert env["NO_PROXY"] == env["no_proxy"]
        assert str(env["NO_PROXY"]).endswith(",$(KUBERNETES_SERVICE_HOST),.example")
        assert {env[one] for one in CERTIFICATES} == {"/etc/abohb-ca/ca.crt"}
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts["ca"] == "/etc/abohb-ca"


def test_a_study_has_what_the_controller_has(made: Rendered) -> None:
    (study,) = made.pod("job.yaml")["containers"]
    names = {one["name"] for one in study["env"]}
    assert made.env("abohb-controller").keys() - names == {"ABOHB_MAX_STUDIES"}
    assert {"TEAM", "NODE", "TOKEN"} <= names
    assert made.env("abohb-controller")["ABOHB_TRIALS_CA"] == "company"  # for the agents


def test_one_proxy_is_enough() -> None:
    env = render('proxy.https="http://proxy:3128"').env("abohb-prefect")
    assert "HTTP_PROXY" not in env
    assert env["HTTPS_PROXY"] == "http://proxy:3128"


def test_volumes_that_one_has() -> None:
    made = render(values=EVERYTHING)
    assert not made.of("PersistentVolumeClaim")
    for name, claim in (("prefect", "history"), ("minio", "checkpoints")):
        (volume,) = (one for one in made.pod(f"abohb-{name}")["volumes"] if one["name"] == "data")
        assert volume["persistentVolumeClaim"] == {"claimName": claim}


def kinds(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, type) of each value, lists and maps gone through."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from kinds(value, f"{path}.{key}")
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from kinds(value, f"{path}[{number}]")
    else:
        yield path, type(document).__name__


def test_a_name_of_digits_alone_is_a_name() -> None:
    def named(name: str) -> list[tuple[str, str]]:
        made = render(
            f'prefect.database.existingSecret="{name}"',
            f'prefect.redis.existingSecret="{name}"',
            f'prefect.auth.existingSecret="{name}"',
            f'minio.storage.existingClaim="{name}"',
            f'store.existingSecret="{name}"',
            f'image.pullSecrets=["{name}"]',
            f'ca.existingConfigMap="{name}"',
            f'ingress.host="{name}"',
            f'ingress.className="{name}"',
            f'ingress.tlsSecret="{name}"',
            f'trials.namespace="{name}0"',
            f'policy.namespaces=["{name}1"]',
            values=EVERYTHING,
            namespace=name,
        )
        small = render(
            f'prefect.storage.existingClaim="{name}"',
            f'minio.storage.existingClaim="{name}"',
            namespace=name,
        )
        return [*kinds(made.objects), *kinds(made.study()), *kinds(small.objects)]

    assert named("2024") == named("letters")
