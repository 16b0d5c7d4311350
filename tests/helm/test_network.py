"""Who reaches whom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART, VERSION, WORK_POOL, Rendered, chosen, helm, render

STUDY = {  # as Prefect's worker labels its pod
    "app.kubernetes.io/name": "tune",
    "app.kubernetes.io/instance": "abohb",
    "app.kubernetes.io/component": "study",
}
TRIAL = {"app.kubernetes.io/name": "abohb-trial", "app.kubernetes.io/instance": "abohb"}  # by a patch
NAMESPACES = ('trials.namespace="trials"', 'policy.namespaces=["research", "trials"]')


@pytest.fixture(scope="module")
def plain() -> Rendered:
    return render()


def test_trials_reach_store_and_dns_alone(plain: Rendered) -> None:
    spec = plain.of("NetworkPolicy")["abohb-trials"]["spec"]
    assert spec["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "abohb-trial"}}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == []
    dns, store = spec["egress"]
    assert {one["port"] for one in dns["ports"]} == {53}
    assert dns["to"]
    (peer,) = store["to"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "minio"


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("https://s3.example", 443), ("http://s3.example", 80), ("https://s3.example:9443", 9443)],
)
def test_trials_reach_a_store_outside(endpoint: str, port: int) -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    made = render(
        f'store.endpoint="{endpoint}"', 'networkPolicy.storeTo=[{"ipBlock": {"cidr": "10.0.0.0/8"}}]'
    )
    _, store = made.of("NetworkPolicy")["abohb-trials"]["spec"]["egress"]
    assert store == {"ports": [{"protocol": "TCP", "port": port}], "to": [block]}


def test_trials_never_reach_prefect() -> None:
    for settings in ((), ("ingress.enabled=true", 'ingress.host="tuning.example"')):
        spec = render(*settings).of("NetworkPolicy")["abohb-prefect"]["spec"]
        (rule,) = spec["ingress"]
        ours, *others = rule["from"]
        assert chosen(ours["podSelector"], STUDY)
        assert not chosen(ours["podSelector"], TRIAL)
        for peer in others:
            (expression,) = peer["podSelector"]["matchExpressions"]
            assert expression["operator"] == "NotIn"
            assert expression["values"] == ["abohb-trial"]


def test_the_pod_of_a_study_is_one_of_ours() -> None:
    made = render(*WORK_POOL)
    assert made.of("Service")["abohb-study"]["spec"]["selector"].items() <= STUDY.items()
    policies = {name: one["spec"] for name, one in made.of("NetworkPolicy").items()}
    assert chosen(policies["abohb-controller"]["podSelector"], STUDY)
    for name in ("abohb-prefect", "abohb-minio"):
        (rule,) = policies[name]["ingress"]
        assert chosen(rule["from"][0]["podSelector"], STUDY)


def test_each_pod_of_the_release_is_closed() -> None:
    made = render(values="values-production.yaml")
    policies = [one["spec"] for one in made.of("NetworkPolicy").values()]
    for name, pod in made.pods():
        assert any(chosen(one["podSelector"], pod["metadata"]["labels"]) for one in policies), name
    assert made.of("NetworkPolicy")["abohb-worker"]["spec"]["ingress"] == []


def test_each_namespace_of_trials_has_what_the_first_has() -> None:
    """In those of others by a name that another release has not; and their quota is their own affair."""
    made = render(*NAMESPACES, 'quota.hard={"pods": 9}', 'policy.defaults={"namespace": "usual"}')
    names = {"trials": "abohb-trials", "research": "tuning-abohb-trials", "usual": "tuning-abohb-trials"}
    for kind in ("Role", "RoleBinding", "NetworkPolicy"):
        there = [one["metadata"] for one in made.objects if one["kind"] == kind]
        found = {one["namespace"]: one["name"] for one in there if one["name"] in names.values()}
        assert found == names, kind
    bindings = [one for one in made.objects if one["kind"] == "RoleBinding"]
    assert all(one["roleRef"]["name"] == one["metadata"]["name"] for one in bindings)
    (rule,) = made.of("NetworkPolicy")["abohb-minio"]["spec"]["ingress"]
    (expression,) = rule["from"][1]["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == list(names)
    (quota,) = (one for one in made.objects if one["kind"] == "ResourceQuota")
    assert quota["metadata"]["namespace"] == "trials"
    assert "scopeSelector" not in quota["spec"]


def test_a_quota_does_not_count_our_own_pods() -> None:
    made = render('quota.hard={"pods": 9}', "priorityClasses.create=true")
    (quota,) = (one for one in made.objects if one["kind"] == "ResourceQuota")
    (selected,) = quota["spec"]["scopeSelector"]["matchExpressions"]
    assert selected["values"] == ["tuning-abohb-trials"]


OUTSIDE = 'store.endpoint="http://s3.example:9000"'
THERE = 'networkPolicy.storeTo=[{"ipBlock": {"cidr": "10.0.0.0/8"}}]'


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ((), False),
        ((OUTSIDE,), True),
        ((OUTSIDE, THERE), False),
        ((OUTSIDE, "networkPolicy.enabled=false"), False),
    ],
)
def test_a_store_anywhere_is_warned_of(settings: tuple[str, ...], warned: bool, tmp_path: Path) -> None:
    chart = tmp_path / "abohb"
    shutil.copytree(CHART, chart)
    # `helm template` shows no notes.
    (chart / "templates/notes.yaml").write_text('notes: {{ include "abohb/templates/NOTES.txt" . | quote }}')
    done = helm("template", "abohb", str(chart), VERSION, *(f"--set-json={one}" for one in settings))
    assert done.returncode == 0, done.stderr
    (notes,) = (one["notes"] for one in yaml.safe_load_all(done.stdout) if one and "notes" in one)
    assert "trials run in default" in notes
    assert ("WARNING: trials reach TCP port 9000 of any address" in notes) is warned


def test_the_file_for_production_says_where_the_store_is() -> None:
    _, store = render(values="values-production.yaml").of("NetworkPolicy")["abohb-trials"]["spec"]["egress"]
    assert store["to"]
