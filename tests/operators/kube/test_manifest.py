"""The objects of a study as values: what is in them, what is not, and when two are the same."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flows.study.parts import LONGEST_NAME
from operators.attempt import AttemptSpec, decode_spec
from operators.kube.manifest import ManifestError, config_map, job, job_name, owner_reference, same
from operators.kube.merge import PatchError
from operators.kube.settings import PodSettings, StoreAccess, attempt_of, selector

Object = dict[str, Any]
SPEC = AttemptSpec(
    study="digits",
    trial=17,
    attempt=2,
    config={"lr": 0.1},
    resource="epoch",
    until=9,
    command=("python", "train.py", "--out=$(ABOHB_TRIAL_DIR)"),
    metrics=("val_error",),
    reported=3,
    env={"DATA": "/data", "HOME": "/somewhere"},
)
STORE = StoreAccess("s3://bucket/studies", "http://minio.storage:9000")
SETTINGS = PodSettings("team", "registry.example/digits:1.0", "registry.example/agent:1.0", STORE)
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "se$cret", "AWS_SESSION_TOKEN": "token"}
PINNED = "registry.example/digits@sha256:ab"
OWNER = owner_reference({"metadata": {"name": "abohb-digits", "uid": "u-1"}})


def made(
    spec: AttemptSpec = SPEC,
    settings: PodSettings = SETTINGS,
    keys: dict[str, str] | None = KEYS,
    owner: Object = OWNER,
) -> Object:
    return job(spec, settings, keys, owner, PINNED)


def pod(thing: Object) -> Object:
    found: Object = thing["spec"]["template"]["spec"]
    return found


def containers(thing: Object) -> dict[str, Object]:
    return {item["name"]: item for item in (*pod(thing)["initContainers"], *pod(thing)["containers"])}


def env(container: Object) -> Object:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def reads(value: str, known: dict[str, str]) -> str:
    """What a container gets: $(NAME) is filled in, $$ is $."""
    return re.sub(
        r"\$(?:\$|\((\w+)\))",
        lambda found: "$" if found[1] is None else known.get(found[1], found[0]),
        value,
    )


def test_the_whole_of_it_at_a_glance() -> None:
    """One attempt, one Job that never tries twice, one pod, three containers."""
    it = made()
    spec = {key: value for key, value in it["spec"].items() if key != "template"}
    assert it["metadata"]["name"] == "digits-17-2"
    assert it["metadata"]["namespace"] == "team"
    assert it["metadata"]["ownerReferences"] == [OWNER]
    assert spec == {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "ttlSecondsAfterFinished": 21600,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "trial", "operator": "NotIn", "values": [0]},
                },
            ]
        },
    }
    assert [item["name"] for item in pod(it)["initContainers"]] == ["agent", "prepare"]
    assert [item["name"] for item in pod(it)["containers"]] == ["trial"]
    assert pod(it)["restartPolicy"] == "Never"
    assert pod(it)["terminationGracePeriodSeconds"] == 60
    assert pod(it)["activeDeadlineSeconds"] == 259200  # of the pod, not of the Job, which may wait for long
    assert pod(it)["automountServiceAccountToken"] is False
    assert pod(it)["enableServiceLinks"] is False


def test_job_and_pod_carry_the_same_labels_and_nobody_reads_names() -> None:
    it = made()
    labels = {"abohb.dev/study": "digits", "abohb.dev/trial": "17", "abohb.dev/attempt": "2"}
    for thing in (it, it["spec"]["template"]):
        assert labels.items() <= thing["metadata"]["labels"].items()
        assert attempt_of(thing) == (17, 2)
    assert selector("digits") == "abohb.dev/study=digits"
    assert attempt_of({"metadata": {"labels": {"abohb.dev/trial": "x", "abohb.dev/attempt": "1"}}}) is None
    assert attempt_of({"metadata": {}}) is None
    assert not [name for name in it["metadata"]["labels"] if "prefect" in name]


@pytest.mark.parametrize("study", ["d", "a" * LONGEST_NAME])
def test_names_fit(study: str) -> None:
    name = job_name(study, 99999, 9999)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 52
    with pytest.raises(ManifestError, match="longer than 52"):
        job_name("a" * LONGEST_NAME, 10**9, 10**3)


def test_the_owner_of_all_is_a_config_map() -> None:
    assert config_map("digits", "s3://b/p")["metadata"]["name"] == "abohb-digits"
    assert config_map("digits", "s3://b/p")["metadata"]["labels"]["abohb.dev/study"] == "digits"
    assert OWNER == {
        "apiVersion": "v1", "kind": "ConfigMap", "name": "abohb-digits", "uid": "u-1",
        "controller": False, "blockOwnerDeletion": False,
    }  # fmt: skip


# -- who gets what -----------------------------------------------------------------------------------


def test_only_the_agents_have_credentials() -> None:
    it = made()
    for name in ("agent", "prepare"):
        assert {key: reads(env(containers(it)[name])[key], {}) for key in KEYS} == KEYS
    assert "se" not in json.dumps(pod(it)["containers"][0]["env"]).replace("/somewhere", "")
    assert not [name for name in env(containers(it)["trial"]) if name.startswith("AWS")]
    mounts = [item["mountPath"] for item in containers(it)["trial"]["volumeMounts"]]
    assert mounts == ["/abohb", "/dev/shm"]  # not the directory of the agents
    for name in ("agent", "prepare"):
        assert [item["mountPath"] for item in containers(it)[name]["volumeMounts"]] == [
            "/abohb",
            "/abohb-agent",
        ]


def test_an_agent_can_get_its_keys_from_a_secret() -> None:
    it = made(settings=replace(SETTINGS, store=replace(STORE, secret="minio-keys")), keys=None)
    for name in ("agent", "prepare"):
        variables = env(containers(it)[name])
        assert variables["AWS_ACCESS_KEY_ID"] == {
            "secretKeyRef": {"name": "minio-keys", "key": "AWS_ACCESS_KEY_ID"}
        }
        assert variables["AWS_SESSION_TOKEN"]["secretKeyRef"]["optional"] is True
    assert "minio-keys" not in json.dumps(containers(it)["trial"])


def test_an_agent_can_trust_another_authority() -> None:
    it = made(settings=replace(SETTINGS, store=replace(STORE, authority="company")))
    assert {"name": "ca", "configMap": {"name": "company"}} in pod(it)["volumes"]
    for name in ("agent", "prepare"):
        agent = containers(it)[name]
        (mount,) = (item for item in agent["volumeMounts"] if item["name"] == "ca")
        assert env(agent)["AWS_CA_BUNDLE"] == f"{mount['mountPath']}/ca.crt"
    assert "ca.crt" not in json.dumps(containers(it)["trial"])
    assert "AWS_CA_BUNDLE" not in env(containers(made())["agent"])


def test_the_agents_know_their_attempt_and_their_store_as_they_are() -> None:
    spec = replace(SPEC, command=("sh", "-c", "echo $$ $(ABOHB_STORE) $HOME"))
    for name in ("agent", "prepare"):
        variables = env(containers(made(spec))[name])
        attempt = reads(variables["ABOHB_ATTEMPT"], {"ABOHB_STORE": "wrong"})
        assert decode_spec(attempt.encode()) == spec
        assert variables["ABOHB_STORE"] == "s3://bucket/studies"
        assert variables["ABOHB_S3_ENDPOINT"] == "http://minio.storage:9000"
        assert variables["AWS_REGION"] == "us-east-1"
        assert variables["ABOHB_POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}


def test_the_training_code_has_its_directory_its_command_and_the_studys_variables() -> None:
    trial = containers(made())["trial"]
    assert trial["image"] == PINNED
    assert trial["command"][:3] == ["/abohb/init", "-g", "--"]  # process 1 would hear no SIGTERM
    assert trial["command"][3:] == [
        "python",
        "train.py",
        "--out=$(ABOHB_TRIAL_DIR)",
    ]  # Kubernetes fills it in
    variables = env(trial)
    assert variables["ABOHB_TRIAL_DIR"] == "/abohb/trial"
    assert (variables["HOME"], variables["DATA"]) == ("/somewhere", "/data")
    assert next(iter(variables)) == "ABOHB_TRIAL_DIR"  # first: a reference sees only what is before it
    assert "workingDir" not in trial


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--out=$(ABOHB_TRIAL_DIR)/x", "--out=/abohb/trial/x"),
        ("echo $$", "echo $$"),  # the shell's own number
        ("x=$(date); echo $x", "x=$(date); echo $x"),
        ("$$$(ABOHB_TRIAL_DIR)", "$$/abohb/trial"),
        ("100$", "100$"),
    ],
)
def test_a_word_means_what_it_means_on_one_machine(word: str, expected: str) -> None:
    trial = containers(made(replace(SPEC, command=(word,), env={"X": word})))["trial"]
    known = {"ABOHB_TRIAL_DIR": "/abohb/trial"}
    assert reads(trial["command"][-1], known) == expected
    assert reads(env(trial)["X"], known) == expected


def test_the_images_own_entrypoint_can_be_used() -> None:
    trial = containers(made(settings=replace(SETTINGS, command_is_args=True)))["trial"]
    assert trial["args"] == list(SPEC.command)
    assert "command" not in trial
    none = containers(made(replace(SPEC, command=())))["trial"]
    assert "command" not in none
    assert "args" not in none


def test_the_agent_lets_the_trial_begin_and_end() -> None:
    it = containers(made())
    assert it["agent"]["restartPolicy"] == "Always"
    assert "restartPolicy" not in it["prepare"]
    assert (it["agent"]["args"], it["prepare"]["args"]) == (["follow"], ["prepare"])
    probe = it["trial"]["livenessProbe"]
    assert probe["httpGet"] == {"path": "/trial", "port": 8471}
    assert probe["terminationGracePeriodSeconds"] == 5
    assert "initialDelaySeconds" not in probe


# -- settings ----------------------------------------------------------------------------------------


def test_gpus_are_asked_for_as_they_are_limited() -> None:
    settings = replace(SETTINGS, gpus=2, requests={"cpu": "4", "memory": "8Gi"}, limits={"memory": "16Gi"})
    it = made(settings=settings)
    assert containers(it)["trial"]["resources"] == {
        "requests": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "2"},
    }
    assert pod(it)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "gpu" not in json.dumps([containers(it)["agent"], containers(it)["prepare"]])
    assert "tolerations" not in pod(made(settings=replace(settings, tolerate_gpu_taint=False)))


@pytest.mark.parametrize(
    ("resource", "taint"),
    [("nvidia.com/mig-3g.20gb", "nvidia.com/gpu"), ("amd.com/gpu", "amd.com/gpu")],
)
def test_a_part_of_a_gpu_is_on_nodes_that_are_tainted_like_others(resource: str, taint: str) -> None:
    it = made(settings=replace(SETTINGS, gpus=1, gpu_resource=resource))
    assert pod(it)["tolerations"][0]["key"] == taint
    assert containers(it)["trial"]["resources"]["limits"] == {resource: "1"}


def test_without_gpus_there_is_no_word_of_them() -> None:
    assert "gpu" not in json.dumps(made())


def test_what_the_study_says_of_its_pods() -> None:
    settings = replace(
        SETTINGS,
        node_selector={"zone": "a"},
        tolerations=({"key": "spot", "operator": "Exists"},),
        pull_secrets=("registry",),
        service_account="trainer",
        priority_class="low",
        pull_policy="Always",
        user=2000,
        shm="8Gi",
        grace=120.0,
    )
    it = made(settings=settings)
    body = pod(it)
    assert body["nodeSelector"] == {"zone": "a"}
    assert body["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert body["imagePullSecrets"] == [{"name": "registry"}]
    assert (body["serviceAccountName"], body["priorityClassName"]) == ("trainer", "low")
    assert {item["imagePullPolicy"] for item in containers(it).values()} == {"Always"}
    assert {body["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {2000}
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in body["volumes"]
    assert body["terminationGracePeriodSeconds"] == 120


def test_a_queue_has_priorities_of_its_own() -> None:
    it = made(settings=replace(SETTINGS, queue_name="gpus", priority_class="low"))
    assert it["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert it["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"
    assert "priorityClassName" not in pod(it)
    assert "suspend" not in it["spec"]  # Kueue's word, never ours


def test_no_mesh_puts_a_proxy_into_the_pod() -> None:
    metadata = made()["spec"]["template"]["metadata"]
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["annotations"]["linkerd.io/inject"] == "disabled"


# -- the patch ---------------------------------------------------------------------------------------


def patched(patch: Object) -> Object:
    return made(settings=replace(SETTINGS, patch=patch))


def test_a_patch_changes_the_pod() -> None:
    it = patched(
        {
            "metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}},
            "spec": {
                "containers": [{"name": "trial", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "digits"}}],
            },
        }
    )
    assert it["spec"]["template"]["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"
    assert [item["name"] for item in pod(it)["volumes"]] == ["data", "trial", "agent", "shm"]
    assert len(containers(it)["trial"]["volumeMounts"]) == 3
    assert env(containers(it)["agent"])["AWS_ACCESS_KEY_ID"] == "key"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"spec": {"containers": [{"name": "trial", "$patch": "delete"}]}}, "container 'trial' must stay"),
        ({"spec": {"initContainers": [{"$patch": "replace"}]}}, "container 'agent' must stay"),
        ({"spec": {"initContainers": [{"name": "prepare", "$patch": "delete"}]}}, "'prepare' must stay"),
        ({"spec": {"containers": [{"name": "trial", "image": None}]}}, "container 'trial' must stay"),
        ({"spec": {"initContainers": [{"name": "agent", "restartPolicy": None}]}}, "restartPolicy: Always"),
        ({"spec": {"restartPolicy": "OnFailure"}}, "restartPolicy: Never"),
        ({"spec": None}, "must stay"),
        ({"metadata": {"labels": {"abohb.dev/trial": "3"}}}, "labels abohb.dev/study"),
        ({"metadata": {"labels": None}}, "labels abohb.dev/study"),
    ],
)
def test_a_patch_may_not_undo_what_all_else_relies_on(patch: Object, message: str) -> None:
    with pytest.raises(ManifestError) as refused:
        patched(patch)
    assert message in str(refused.value)


def test_a_patch_that_cannot_be_applied_is_told_with_its_place() -> None:
    with pytest.raises(PatchError, match=re.escape("spec.containers[0]: lacks name")):
        patched({"spec": {"containers": [{"image": "x"}]}})


# -- the same or another -----------------------------------------------------------------------------


def answered(it: Object) -> Object:
    """As the API server would have it: with more in it."""
    found = copy.deepcopy(it)
    found["metadata"] |= {"uid": "j-1", "creationTimestamp": "2026-11-21T12:00:00Z"}
    found["metadata"]["labels"]["team"] = "vision"
    found["status"] = {"active": 1}
    return found


@pytest.mark.parametrize(
    "again",
    [
        lambda: made(),
        lambda: made(keys={**KEYS, "AWS_ACCESS_KEY_ID": "another", "ABOHB_KEYS_EXPIRE": "17"}),
        lambda: made(replace(SPEC, until=27, command=("python", "train.py", "--until=27"), reported=9)),
        lambda: made(settings=replace(SETTINGS, ttl=60.0)),
    ],
    ids=["told twice", "new credentials", "another order", "another time to keep it"],
)
def test_a_namesake_that_is_this_attempt_is_the_same(again: Callable[[], Object]) -> None:
    assert same(answered(made()), again()) == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: made(replace(SPEC, study="other")), "abohb.dev/study is 'digits', expected 'other'"),
        (lambda: made(replace(SPEC, attempt=3)), "abohb.dev/attempt is '2', expected '3'"),
        (lambda: made(replace(SPEC, config={"lr": 0.2})), "other settings"),
        (lambda: made(settings=replace(SETTINGS, gpus=1)), "other settings"),
        (lambda: made(settings=replace(SETTINGS, store=StoreAccess("s3://other/x"))), "other settings"),
        (lambda: job(SPEC, SETTINGS, KEYS, OWNER, "registry.example/digits:2.0"), "other settings"),
        (lambda: patched({"spec": {"nodeSelector": {"a": "b"}}}), "other settings"),
        (lambda: made(owner={**OWNER, "uid": "u-2"}), "an earlier object of the study"),
    ],
)
def test_a_namesake_that_is_another_is_told_apart(other: Callable[[], Object], words: str) -> None:
    assert words in same(answered(made()), other())


def test_a_namesake_that_goes_away_is_none() -> None:
    going = answered(made())
    going["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    assert same(going, made()) == "it is being deleted"
    assert "abohb.dev/study is None" in same({"metadata": {"name": "digits-17-2"}}, made())


def test_nothing_is_shared_between_two_jobs() -> None:
    one, two = made(), made()
    one["spec"]["podFailurePolicy"]["rules"].clear()
    pod(one)["containers"][0]["securityContext"]["capabilities"]["drop"].clear()
    pod(one)["initContainers"][0]["env"].clear()
    assert two == made()
    assert pod(two)["initContainers"][1]["env"]
