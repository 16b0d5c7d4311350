# ruff: noqa: E501
"""The policy of the platform: what an attacker who fills in the form, or writes a study file, is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.controller.kubernetes import KubernetesPlace
from flows.controller.places import place_for
from flows.deployment.form import Form
from flows.deployment.form_study import study_of
from flows.policy.apply import PolicyError, apply, filled, most_workers, read_policy
from flows.policy.images import allowed, repository
from flows.policy.model import Policy
from flows.policy.patch import fields_set, written
from flows.study.file import StudyError, parse_study
from flows.study.kubernetes import Kubernetes, amount_of

ENV = {
    "ABOHB_STORE": "s3://tuning/studies",
    "ABOHB_AGENT_IMAGE": "registry.example/agent:1",
    "ABOHB_S3_ENDPOINT": "http://minio:9000",
    "ABOHB_TRIALS_NAMESPACE": "trials",
}
STUDY: dict[str, Any] = {
    "name": "digits",
    "image": "registry.example/team/digits:1",
    "metrics": ["val_error"],
    "resource": {"max": 9},
    "space": {
        "lr": {"type": "float", "low": 0.1, "high": 1},
        "gpu": {"type": "categorical", "values": ["a", "b"]},
    },
    "budget": {"trials": 3},
    "store": "s3://tuning/studies",
}
POLICY: dict[str, Any] = {
    "registries": ["registry.example/team", "docker.io/library"],
    "patch_fields": ["spec.affinity", "spec.containers[trial].env", "metadata.annotations"],
    "secrets": ["wandb"],
    "service_accounts": ["trainer"],
    "priority_classes": ["low"],
    "tolerations": ["example.com/spot"],
    "max_gpus": 2,
    "max_workers": 4,
    "defaults": {
        "limits": {"memory": "2Gi"},
        "pull_secrets": ["regcred"],
        "gpus": {"resource": "amd.com/gpu"},
    },
}
WIDE = {**POLICY, "patch_fields": ["metadata", "spec"]}  # an engineer who was careless


def refused(policy: dict[str, Any] = POLICY, **fields: Any) -> list[str]:
    study = parse_study({**STUDY, **fields})
    return [problem.text() for problem in apply(study, Policy.model_validate(policy), ENV)[1]]


def test_a_study_within_the_policy_may_run_with_its_defaults() -> None:
    section = {
        "pull_secrets": ["wandb"], "service_account": "trainer", "priority_class": "low", "gpus": 2,
        "store_endpoint": "http://minio:9000", "namespace": "trials", "agent_image": "registry.example/agent:1",
        "tolerations": [{"key": "example.com/spot", "operator": "Exists"}],
        "patch": {"spec": {"affinity": {"nodeAffinity": {}}, "containers": [{"name": "trial", "env": [
            {"name": "K", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "k"}}}]}]}},
    }  # fmt: skip
    study = parse_study({**STUDY, "workers": 4, "store": "s3://tuning/studies/mine", "kubernetes": section})
    study, found = apply(study, Policy.model_validate(POLICY), ENV)
    assert found == []
    assert study.kubernetes.limits == {"memory": "2Gi"}
    assert study.kubernetes.gpus.resource == "amd.com/gpu"
    again, found = apply(study, Policy.model_validate(POLICY), ENV)
    assert (again, found) == (study, [])


# (fields of a study, words of what is told)
ATTACKS: list[tuple[dict[str, Any], str]] = [
    ({"image": "evil.example/team/digits:1"}, "image: 'evil.example/team/digits:1' is not allowed by the policy; it allows images of registry.example/team, docker.io/library"),
    ({"image": "registry.example/team-evil/digits"}, "image: "),
    ({"image": "registry.example.evil.example/team/x"}, "image: "),
    ({"image": "registry.example:5000/team/x"}, "image: "),
    ({"image": "registry.example/team/../other/x"}, "is not the name of an image"),
    ({"image": "someone/digits:1"}, "image: 'someone/digits:1', which is docker.io/someone/digits, is not allowed"),
    ({"image": "evil.example/x@sha256:" + 64 * "a"}, "image: "),
    ({"workers": 5}, "workers: got 5; the policy allows 4"),
    ({"store": "s3://tuning/other"}, "store: 's3://tuning/other' is not allowed by the policy; it allows s3://tuning/studies"),
    ({"store": "s3://tuning/studies-of-others"}, "store: "),
    ({"store": "s3://tuning/studies/../others"}, "store: "),
    ({"store": "s3://tuning/studies/%2e%2e/others"}, "store: "),
    ({"store": "s3://other-bucket/studies"}, "store: "),
    ({"kubernetes": {"namespace": "kube-system"}}, "kubernetes.namespace: 'kube-system' is not allowed by the policy; it allows trials"),
    ({"kubernetes": {"agent_image": "registry.example/team/agent"}}, "kubernetes.agent_image: 'registry.example/team/agent' is not allowed by the policy; it allows registry.example/agent:1"),
    ({"kubernetes": {"pull_secrets": ["others"]}}, "kubernetes.pull_secrets: 'others' is not allowed by the policy; it allows wandb, regcred"),
    ({"kubernetes": {"store_secret": "others"}}, "kubernetes.store_secret: "),
    ({"kubernetes": {"store_endpoint": "http://evil.example"}}, "kubernetes.store_endpoint: 'http://evil.example' is not allowed by the policy; it allows http://minio:9000"),
    ({"kubernetes": {"store_role": "arn:aws:iam::1:role/admin"}}, "kubernetes.store_role: "),
    ({"kubernetes": {"service_account": "default"}}, "kubernetes.service_account: 'default' is not allowed by the policy; it allows trainer"),
    ({"kubernetes": {"priority_class": "system-node-critical"}}, "kubernetes.priority_class: "),
    ({"kubernetes": {"tolerations": [{"operator": "Exists"}]}}, "kubernetes.tolerations[0]: 'every taint' is not allowed by the policy; it allows example.com/spot"),
    ({"kubernetes": {"gpus": 3}}, "kubernetes.gpus: asks for 3 GPUs for a trial; the policy allows 2"),
    ({"kubernetes": {"gpus": {"by": "gpu", "values": {"a": 1, "b": 8}}}}, "kubernetes.gpus: asks for 8 GPUs"),
    ({"kubernetes": {"limits": {"nvidia.com/gpu": 8}}}, "kubernetes.limits: asks for 8 GPUs"),
    ({"kubernetes": {"limits": {"nvidia.com/mig-1g.5gb": "8k"}}}, "kubernetes.limits: asks for "),
    ({"kubernetes": {"gpus": 2, "limits": {"nvidia.com/mig-1g.5gb": 2}}}, "kubernetes.limits: asks for 4 GPUs"),
    ({"kubernetes": {"requests": {"nvidia.com/gpu": 2}, "limits": {"nvidia.com/mig-1g.5gb": 1}}}, "kubernetes.limits: asks for 3 GPUs"),
    ({"kubernetes": {"patch": {"spec": {"hostNetwork": True}}}}, "kubernetes.patch: sets spec.hostNetwork, which the policy does not allow; it allows spec.affinity, spec.containers[trial].env, metadata.annotations"),
    ({"kubernetes": {"patch": {"spec": {"$patch": "replace", "containers": []}}}}, "sets spec, which the policy does not allow"),
    ({"kubernetes": {"patch": {"$patch": "replace"}}}, "sets the whole pod, which the policy does not allow"),
    ({"kubernetes": {"patch": {"spec": None}}}, "sets spec, which the policy does not allow"),
    ({"kubernetes": {"patch": {"spec": {"containers": [{"name": "trial", "image": "evil.example/x"}]}}}}, "sets spec.containers[trial].image, which the policy does not allow"),
    ({"kubernetes": {"patch": {"spec": {"containers": [{"name": "other", "env": []}]}}}}, "sets spec.containers[other].env, which the policy does not allow"),
    ({"kubernetes": {"patch": {"spec": {"containers": [{"name": "trial", "$patch": "delete"}]}}}}, "sets spec.containers[trial], which the policy does not allow"),
    ({"kubernetes": {"patch": {"spec": {"containers": [{"$patch": "replace"}]}}}}, "sets spec.containers, which the policy does not allow"),
    ({"kubernetes": {"patch": {"spec": {"containers": [{"name": "trial", "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "others", "key": "k"}}}]}]}}}}, "the Secret 'others' is not allowed by the policy; it allows"),
    ({"kubernetes": {"patch": {"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/trial": "unconfined"}}}}}, "sets the annotation container.apparmor"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "told"), ATTACKS, ids=lambda value: str(value)[:60])
def test_what_the_policy_does_not_allow_is_refused(fields: dict[str, Any], told: str) -> None:
    found = refused(**fields)
    assert any(told in line for line in found), found


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def trial(**fields: Any) -> dict[str, Any]:
    return spec(containers=[{"name": "trial", **fields}])


# (patch, words of what is told), though the engineer has allowed a patch to set all of `spec`
NEVER: list[tuple[dict[str, Any], str]] = [
    (spec(hostNetwork=True), "sets hostNetwork, which no policy allows"),
    (spec(hostPID=True), "sets hostPID"),
    (spec(shareProcessNamespace=True), "sets shareProcessNamespace"),
    (spec(hostAliases=[{"ip": "6.6.6.6", "hostnames": ["minio"]}]), "sets hostAliases"),
    (spec(dnsPolicy="None", dnsConfig={"nameservers": ["6.6.6.6"]}), "sets dnsConfig"),
    (spec(dnsPolicy="Default"), "sets dnsPolicy"),
    (spec(automountServiceAccountToken=True), "mounts a service account's token"),
    (spec(automountServiceAccountToken=None), "mounts a service account's token"),
    (spec(serviceAccountName="admin"), "serviceAccountName 'admin' is not allowed"),
    (spec(serviceAccount="admin"), "serviceAccount 'admin' is not allowed"),
    (spec(priorityClassName="system-node-critical"), "priorityClassName 'system-node-critical' is not allowed"),
    (spec(imagePullSecrets=[{"name": "others"}]), "the Secret 'others' is not allowed"),
    (spec(volumes=[{"name": "h", "hostPath": {"path": "/"}}]), "the volume h is a hostPath, which no policy allows"),
    (spec(volumes=[{"name": "trial", "emptyDir": None, "hostPath": {"path": "/"}}]), "the volume trial is a hostPath"),
    (spec(volumes=[{"name": "n", "nfs": {"server": "x", "path": "/"}}]), "the volume n is a nfs"),
    (spec(volumes=[{"name": "c", "csi": {"driver": "secrets-store.csi.k8s.io"}}]), "the volume c is a csi"),
    (spec(volumes=[{"name": "i", "image": {"reference": "evil.example/x"}}]), "the volume i is a image"),
    (spec(volumes=[{"name": "s", "secret": {"secretName": "others"}}]), "the Secret 'others' is not allowed"),
    (spec(volumes=[{"name": "p", "projected": {"sources": [{"secret": {"name": "others"}}]}}]), "the Secret 'others' is not allowed"),
    (spec(volumes=[{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]), "the volume p holds a serviceAccountToken"),
    (spec(volumes=[{"name": "agent", "emptyDir": None, "persistentVolumeClaim": {"claimName": "x"}}]), "changes the volume 'agent'"),
    (spec(volumes=[{"name": "p", "projected": "odd"}]), "makes no pod that could be looked at"),
    (spec(securityContext={"runAsUser": 0}), "lets the pod run as root"),
    (spec(securityContext={"runAsNonRoot": None}), "lets the pod run as root"),
    (spec(securityContext={"seccompProfile": {"type": "Unconfined"}}), "sets seccompProfile of the pod to Unconfined"),
    (spec(securityContext={"sysctls": [{"name": "kernel.x", "value": "1"}]}), "sets sysctls of the pod"),
    (trial(securityContext={"privileged": True}), "the container trial must keep securityContext"),
    (trial(securityContext={"allowPrivilegeEscalation": None}), "the container trial must keep securityContext"),
    (trial(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}), "the container trial must keep securityContext"),
    (trial(securityContext={"capabilities": {"drop": []}}), "the container trial must keep securityContext"),
    (trial(securityContext={"procMount": "Unmasked"}), "the container trial must keep securityContext"),
    (trial(securityContext={"runAsUser": 0}), "lets the container trial run as root"),
    (trial(securityContext={"windowsOptions": {"hostProcess": True}}), "sets windowsOptions of the container trial"),
    (trial(image="evil.example/x"), "the container trial: 'evil.example/x' is not allowed"),
    (trial(envFrom=[{"secretRef": {"name": "others"}}]), "the Secret 'others' is not allowed"),
    (trial(volumeMounts=[{"name": "agent", "mountPath": "/keys"}]), "the container trial mounts the volume 'agent'"),
    (trial(ports=[{"containerPort": 80, "hostPort": 80}]), "the container trial opens a hostPort"),
    (trial(lifecycle={"postStart": {"httpGet": {"host": "6.6.6.6", "port": 80}}}), "has a probe of another host"),
    (trial(resources={"limits": {"nvidia.com/gpu": 8}}), "asks for 8 GPUs for a trial"),
    (spec(containers=[{"name": "two", "image": "evil.example/x"}]), "the container two: 'evil.example/x' is not allowed"),
    (spec(containers=[{"name": "two", "image": "python"}]), "the container two must keep securityContext"),
    (spec(containers=[{"name": "agent", "image": "evil.example/x"}]), "the container agent: 'evil.example/x' is not allowed"),
    (spec(resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "all"}]), "asks for devices by resourceClaims"),
    (spec(initContainers=[{"name": "first", "image": "evil.example/x"}]), "the container first: 'evil.example/x' is not allowed"),
    (spec(initContainers=[{"name": "agent", "image": "registry.example/team/x"}]), "changes image of the container agent"),
    (spec(initContainers=[{"name": "agent", "env": [{"name": "HTTP_PROXY", "value": "http://evil"}]}]), "changes env of the container agent, which holds keys"),
    (spec(initContainers=[{"name": "prepare", "command": ["sh"]}]), "changes command of the container prepare"),
    (spec(initContainers=[{"$patch": "replace"}, {"name": "agent", "image": "evil.example/x"}]), "changes image of the container agent"),
    (spec(**{"$patch": "replace", "containers": [{"name": "trial", "image": "python"}]}), "mounts a service account's token"),
    ({"metadata": {"labels": {"app.kubernetes.io/name": None}}}, "changes the label app.kubernetes.io/name"),
    ({"metadata": {"labels": {"$patch": "replace"}}}, "changes the label app.kubernetes.io/name"),
]  # fmt: skip


@pytest.mark.parametrize(("patch", "told"), NEVER, ids=lambda value: str(value)[:60])
def test_no_policy_lets_a_patch_out_of_its_pod(patch: dict[str, Any], told: str) -> None:
    found = refused(WIDE, kubernetes={"patch": patch})
    assert any(told in line for line in found), found


def test_an_agent_is_only_reached_by_a_field_that_names_it() -> None:
    env = spec(initContainers=[{"name": "agent", "env": [{"name": "TZ", "value": "UTC"}]}])
    assert refused(WIDE, kubernetes={"patch": env}) != []
    named = {**POLICY, "patch_fields": ["spec.initContainers[agent].env"]}
    assert refused(named, kubernetes={"patch": env}) == []


def test_what_an_ordinary_patch_does_is_allowed_where_its_field_is() -> None:
    patch = spec(
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        containers=[{"name": "trial", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    )
    fields = ["spec.volumes", "spec.containers[trial].volumeMounts"]
    assert refused({**POLICY, "patch_fields": fields}, kubernetes={"patch": patch}) == []


def test_one_annotation_can_be_allowed() -> None:
    one = {**POLICY, "patch_fields": ["metadata.annotations[example.com/team]"]}
    assert refused(one, kubernetes={"patch": {"metadata": {"annotations": {"example.com/team": "a"}}}}) == []
    told = refused(one, kubernetes={"patch": {"metadata": {"annotations": {"vault.example/role": "admin"}}}})
    assert [line.partition(", which")[0] for line in told] == [
        "kubernetes.patch: sets metadata.annotations[vault.example/role]"
    ]


def test_the_fields_that_a_patch_sets() -> None:
    patch = {
        "metadata": {"labels": {"a": "b", "c": None}},
        "spec": {
            "affinity": {},
            "tolerations": [{"key": "a"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w"}, "odd"],
            "containers": [{"name": "trial", "env": [{"name": "A", "value": "1"}], "args": ["x"]}],
        },
    }
    assert [written(steps) for steps in fields_set(patch)] == [
        "metadata.labels.a", "metadata.labels.c", "spec.affinity", "spec.tolerations", "spec.volumes[v].emptyDir",
        "spec.volumes[w]", "spec.volumes", "spec.containers[trial].env[A].value", "spec.containers[trial].args",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("digits", "docker.io/library/digits"),
        ("me/digits:1", "docker.io/me/digits"),
        ("docker.io/digits", "docker.io/library/digits"),
        ("index.docker.io/me/digits", "docker.io/me/digits"),
        ("localhost/digits", "localhost/digits"),
        ("localhost:5000/digits:dev", "localhost:5000/digits"),
        ("registry.example/a/b@sha256:" + 64 * "0", "registry.example/a/b"),
        ("registry.example/a/../b", None),
        ("registry.example//b", None),
        ("registry.example/a/b:", None),
        ("registry.example/a\n", None),
        ("registry.example/é", None),
        ("", None),
    ],
)
def test_the_full_name_of_an_image(image: str, full: str | None) -> None:
    assert repository(image) == full


def test_a_registry_may_be_named_in_short() -> None:
    assert allowed("me/digits", ["me"])
    assert allowed("me/digits", ["docker.io/me/digits"])
    assert allowed("localhost:5000/x", ["localhost:5000"])
    assert not allowed("registry.example/me/digits", ["me"])
    assert not allowed("x", [])


# -- defaults -------------------------------------------------------------------------------------------


def test_defaults_fill_what_a_study_does_not_say() -> None:
    defaults = Kubernetes.model_validate(
        {
            "requests": {"cpu": "500m"},
            "limits": {"memory": "2Gi", "cpu": 2},
            "queue_name": "team",
            "shm": "2Gi",
        }
    )
    none = filled(Kubernetes.model_validate({}), defaults)
    assert (none.requests, none.limits) == ({"cpu": "500m", "memory": "1Gi"}, {"memory": "2Gi", "cpu": "2"})
    assert (none.queue_name, none.shm) == ("team", "2Gi")
    some = filled(Kubernetes.model_validate({"requests": {"memory": "3Gi"}, "shm": "1Gi"}), defaults)
    assert some.requests == {"cpu": "500m", "memory": "3Gi"}
    assert some.limits == {"memory": "3Gi", "cpu": "2"}  # no lower than what is requested
    assert some.shm == "1Gi"


def test_quantities_compare() -> None:
    assert (
        amount_of("500m")
        < amount_of("1")
        < amount_of("1k")
        < amount_of("1Ki")
        < amount_of("1M")
        < amount_of("1Mi")
    )
    assert amount_of("1G") < amount_of("1Gi") == 2**30
    assert amount_of("1E") < amount_of("1Ei")
    assert amount_of("2e3") == 2000


# -- the file -------------------------------------------------------------------------------------------


def test_no_variable_no_policy() -> None:
    assert read_policy({}) is None
    assert most_workers({}) is None


def test_a_policy_that_cannot_be_read_lets_nothing_start(tmp_path: Path) -> None:
    missing = {**ENV, "ABOHB_POLICY": str(tmp_path / "policy.yaml")}
    with pytest.raises(PolicyError, match=r"ABOHB_POLICY: .*policy.yaml: there is no such file"):
        study_of(Form(study="a", image="registry.example/team/a"), missing)
    (tmp_path / "policy.yaml").write_text(
        "registires: [a]\nmax_gpus: -1\nregistries: ['a b']\npatch_fields: [affinity]\ndefaults: {request: {}}\nstores: [/x]\n"
    )
    with pytest.raises(PolicyError) as caught:
        read_policy(missing)
    assert [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()] == [
        "policy.yaml:1 registires: is not known here; did you mean 'registries'?",
        "policy.yaml:2 max_gpus: got -1, expected at least 0",
        "policy.yaml:3 registries[0]: got 'a b', expected a registry or a part of one, without tag: registry.example/team",
        "policy.yaml:4 patch_fields[0]: got 'affinity', expected a field of a pod: spec.affinity, spec.containers[trial].env",
        "policy.yaml:5 defaults.request: is not known here; did you mean 'requests'?",
        "policy.yaml:6 stores[0]: got '/x', expected s3://bucket or s3://bucket/prefix",
        "Nothing starts without the policy.",
    ]


@pytest.fixture
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text("registries: [registry.example/team]\nmax_workers: 3\nmax_gpus: 0\n")
    for name, value in {**ENV, "ABOHB_POLICY": str(file), "KUBECONFIG": str(tmp_path / "none")}.items():
        monkeypatch.setenv(name, value)
    return file


def test_every_way_into_a_cluster_asks_the_policy(policy_file: Path) -> None:
    """Before the cluster and the store are spoken to: here are neither."""
    study = parse_study({**STUDY, "image": "evil", "workers": 9})
    for enter in (lambda: place_for(study, "kubernetes"), lambda: KubernetesPlace.connect(study, None)):
        with pytest.raises(StudyError) as caught:
            enter()
        assert [problem.path for problem in caught.value.problems] == ["workers", "image"]
    assert most_workers() == 3


def test_the_controller_runs_no_trials_beside_itself(policy_file: Path, tmp_path: Path) -> None:
    study = parse_study({**STUDY, "command": ["true"], "store": str(tmp_path)})
    with pytest.raises(StudyError, match="the policy allows no trials here"):
        place_for(study, "local")
    policy_file.write_text("local: true\n")
    assert place_for(study, "local").study == study


def test_the_form_tells_the_policy_with_its_own_names_and_all_else(policy_file: Path) -> None:
    advanced = (
        "kubernetes:\n  service_account: admin\n  patch: {spec: {hostPID: true}}\nstore: s3://others/x\n"
    )
    with pytest.raises(StudyError) as caught:
        study_of(Form(study="a", image="evil:1", workers=9, gpus=1, eta=1, advanced=advanced))
    assert str(caught.value).splitlines() == [
        "image: 'evil:1', which is docker.io/library/evil, is not allowed by the policy; it allows images of registry.example/team",
        "eta: got 1, expected at least 2",
        "workers: got 9; the policy allows 3",
        "gpus: asks for 1 GPU for a trial; the policy allows 0",
        "advanced, line 2, kubernetes.service_account: 'admin' is not allowed by the policy; it allows none",
        "advanced, line 3, kubernetes.patch: sets spec.hostPID, which the policy does not allow; it allows none",
        "advanced, line 3, kubernetes.patch: sets hostPID, which no policy allows; leave it out",
        "advanced, line 4, store: 's3://others/x' is not allowed by the policy; it allows s3://tuning/studies",
    ]


# -- docs/policy.md -------------------------------------------------------------------------------------

DOC = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
EXAMPLE, GREEDY = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOC, re.S))


def test_the_document_has_a_row_and_an_example_for_each_field() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", DOC, re.M)
    assert rows == list(EXAMPLE) == list(Policy.model_fields)


def test_the_document_shows_what_a_user_is_told() -> None:
    (told,) = re.findall(r"is told\n\n```\n(.*?)```", DOC, re.S)
    _, found = apply(parse_study(GREEDY), Policy.model_validate(EXAMPLE), {})
    assert [problem.text() for problem in found] == told.splitlines()
