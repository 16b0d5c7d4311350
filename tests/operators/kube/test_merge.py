"""A strategic merge patch by hand, and against what `kubectl patch --local` makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kube.merge import PatchError, merge

KUBECTL = shutil.which("kubectl")


def variable(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1", "env": "x"}, "finalizers": ["a/x"]},
    "spec": {
        "restartPolicy": "Never",
        "nodeSelector": {"ports": "many", "zone": "z1"},
        "securityContext": {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "s1"}],
        "initContainers": [{"name": "agent", "image": "agent:1", "env": [{"name": "K", "value": "v"}]}],
        "containers": [
            {
                "name": "trial",
                "image": "digits:1",
                "args": ["--lr=1"],
                "env": [variable("A", "1"), variable("B", "2"), variable("C", "3")],
                "ports": [{"containerPort": 80, "name": "web"}],
                "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": "1"}},
                "volumeMounts": [
                    {"name": "trial", "mountPath": "/abohb"}, {"name": "shm", "mountPath": "/dev/shm"}
                ],
            },
            {"name": "second", "image": "other:1"},
        ],
        "volumes": [{"name": "trial", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory"}}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}],
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
        ],
    },
}  # fmt: skip


def container(patch: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "trial", **patch}]}}


PATCHES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a label": {"metadata": {"labels": {"team": "vision"}}},
    "a label named like a list": {"metadata": {"labels": {"env": "prod", "volumes": "v"}}},
    "a label less": {"metadata": {"labels": {"a": None, "unknown": None}}},
    "finalizers are united": {"metadata": {"finalizers": ["b/y", "a/x"]}},
    "a value": {"spec": {"restartPolicy": "OnFailure", "priorityClassName": "low"}},
    "a nested value": {"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}},
    "a map replaced": {"spec": {"securityContext": {"$patch": "replace", "runAsNonRoot": True}}},
    "a map deleted": {"spec": {"securityContext": {"$patch": "delete"}}},
    "a map nulled": {"spec": {"securityContext": None}},
    "a selector": {"spec": {"nodeSelector": {"ports": "few", "gpu": "a100"}}},
    "tolerations are replaced": {"spec": {"tolerations": [{"key": "spot", "operator": "Exists"}]}},
    "arguments are replaced": container({"args": ["a", "b"]}),
    "a variable": container({"env": [{"name": "NEW", "value": "4"}]}),
    "a variable changed": container({"env": [{"name": "B", "value": "5"}]}),
    "variables in another order": container({"env": [variable("C", "5"), variable("A", "6")]}),
    "a variable from elsewhere": container(
        {"env": [{"name": "B", "value": None, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}
    ),
    "a variable deleted": container({"env": [{"name": "B", "$patch": "delete"}, variable("D", "4")]}),
    "an unknown variable deleted": container({"env": [{"name": "nobody", "$patch": "delete"}]}),
    "variables replaced": container({"env": [{"$patch": "replace"}, {"name": "ONE", "value": "1"}]}),
    "a port": container({"ports": [{"containerPort": 81}, {"containerPort": 80, "name": "http"}]}),
    "a mount": container({"volumeMounts": [{"mountPath": "/data", "name": "data"}]}),
    "a mount changed": container({"volumeMounts": [{"mountPath": "/dev/shm", "name": "other"}]}),
    "claims are replaced": container({"resources": {"claims": [{"name": "c"}]}}),
    "a limit deleted": container({"resources": {"limits": {"nvidia.com/gpu": None, "memory": "1Gi"}}}),
    "another container": {"spec": {"containers": [{"name": "proxy", "image": "p:1", "args": ["x"]}]}},
    "a container deleted": {"spec": {"containers": [{"name": "second", "$patch": "delete"}]}},
    "containers replaced": {"spec": {"containers": [{"name": "only", "image": "o"}, {"$patch": "replace"}]}},
    "one container first": {"spec": {"initContainers": [{"name": "fetch", "image": "f:1"}]}},
    "a volume": {"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "d"}}]}},
    "a volume's kind": {"spec": {"volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "2Gi"}}]}},
    "a secret": {"spec": {"imagePullSecrets": [{"name": "s2"}]}},
    "a host": {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["c"]}, {"ip": "10.0.0.2"}]}},
    "a spread": {"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 3}]}},
    "new lists": {"spec": {"resourceClaims": [{"name": "r"}], "schedulingGates": [{"name": "g"}]}},
    "affinity": {"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "host", "labelSelector": {"matchLabels": {"env": "x"}}}]}}}},
    "an empty list": container({"env": [], "args": []}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (container({"env": [{"name": "D", "value": "4"}]}), ["D=4", "A=1", "B=2", "C=3"]),
        (
            container({"env": [{"name": "C", "value": "9"}, {"name": "A", "$patch": "delete"}]}),
            ["B=2", "C=9"],
        ),
        (container({"env": [{"$patch": "replace"}, {"name": "X", "value": "0"}]}), ["X=0"]),
        (container({"env": None}), []),
    ],
)
def test_variables_of_one_container_are_merged(patch: dict[str, Any], expected: list[str]) -> None:
    merged = merge(TEMPLATE, patch)["spec"]["containers"][0]
    assert [f"{item['name']}={item['value']}" for item in merged.get("env", [])] == expected
    assert merged["image"] == "digits:1"


def test_neither_template_nor_patch_is_changed() -> None:
    patch = PATCHES["a variable changed"]
    before = json.dumps([TEMPLATE, patch])
    merged = merge(TEMPLATE, patch)
    merged["spec"]["containers"][0]["env"][0]["value"] = "changed"
    merged["metadata"]["labels"]["a"] = "changed"
    assert json.dumps([TEMPLATE, patch]) == before


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ([1], "the patch: got [1], expected an object"),
        (container({"env": {"A": "1"}}), "containers[trial].env: got {'A': '1'}, expected a list of objects"),
        (container({"env": ["A=1"]}), "containers[trial].env[0]: got 'A=1', expected an object with name"),
        ({"spec": "x"}, "spec: got 'x', expected an object"),
        ({"spec": {"tolerations": {"key": "x"}}}, "spec.tolerations: got {'key': 'x'}, expected a list"),
        (container({"env": [{"value": "1"}]}), "spec.containers[trial].env[0]: lacks name"),
        (container({"ports": [{"port": 1}]}), "spec.containers[trial].ports[0]: lacks containerPort"),
        ({"spec": {"$retainKeys": ["a"]}}, "spec.$retainKeys: of the directives only $patch is supported"),
        ({"spec": {"$setElementOrder/containers": []}}, "spec.$setElementOrder/containers: of the"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": []}}, "metadata.$deleteFromPrimitiveList"),
        ({"spec": {"$patch": "merge"}}, "spec.$patch: got 'merge', expected delete or replace"),
        (container({"env": [{"name": "A", "$patch": "drop"}]}), "env[0].$patch: got 'drop'"),
        ({"metadata": {"labels": {1: "x"}}}, "metadata.labels.1: names are texts"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_is_refused_with_its_place(patch: Any, message: str) -> None:
    with pytest.raises(PatchError) as refused:
        merge(TEMPLATE, patch)
    assert message in str(refused.value)


# -- against kubectl -------------------------------------------------------------------------------


def by_kubectl(patch: dict[str, Any]) -> Any:
    kind = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": TEMPLATE}
    words = [
        "patch",
        "--local",
        "--type=strategic",
        "-o",
        "json",
        "-p",
        json.dumps({"template": patch}),
        "-f",
        "-",
    ]
    done = subprocess.run(
        [str(KUBECTL), *words], input=json.dumps(kind), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["template"]


def plain(value: Any) -> Any:
    """Without what has no meaning: nulls, empty values, and directives that kubectl leaves in what is new."""
    if isinstance(value, dict):
        found = {name: plain(item) for name, item in value.items() if name != "$patch"}
        return {name: item for name, item in found.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [plain(item) for item in value if not (isinstance(item, dict) and "$patch" in item)]
    return value


@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl on PATH")
@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_does_what_kubectl_does(name: str) -> None:
    assert plain(merge(TEMPLATE, PATCHES[name])) == plain(by_kubectl(PATCHES[name]))


def items(key: str, names: list[Any], rest: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """A few items of a keyed list, each changed, made or deleted; perhaps the whole list replaced."""
    change = st.builds(lambda name, more: {**more, key: name}, st.sampled_from(names), rest)
    drop = st.builds(lambda name: {key: name, "$patch": "delete"}, st.sampled_from(names))
    chosen = st.lists(st.one_of(change, change, drop), max_size=5, unique_by=lambda item: item[key])
    whole = st.sampled_from([[], [], [{"$patch": "replace"}]])
    return st.builds(lambda some, all: [*some, *all], chosen, whole)


texts = st.sampled_from(["x", "y", "z"])
variables = items("name", ["A", "B", "C", "D", "E"], st.fixed_dictionaries({"value": texts}))
mounts = items("mountPath", ["/abohb", "/dev/shm", "/data"], st.fixed_dictionaries({"name": texts}))
ports = items("containerPort", [80, 81, 82], st.fixed_dictionaries({}, optional={"name": texts}))
limits = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.one_of(st.none(), st.just("2")), max_size=2)
changed = st.fixed_dictionaries(
    {},
    optional={
        "image": texts,
        "env": st.one_of(st.none(), variables),
        "volumeMounts": mounts,
        "ports": ports,
        "args": st.lists(texts, max_size=2),
        "resources": st.fixed_dictionaries({}, optional={"limits": limits}),
    },
)
patches = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {"labels": st.dictionaries(st.sampled_from(["a", "env", "n"]), st.one_of(st.none(), texts))}
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": items("name", ["trial", "second", "third"], changed),
                "volumes": items("name", ["trial", "shm", "d"], st.just({"hostPath": {"path": "/x"}})),
                "tolerations": st.lists(st.fixed_dictionaries({"key": texts}), max_size=2),
                "nodeSelector": st.dictionaries(texts, texts, max_size=2),
            },
        ),
    },
)


@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl on PATH")
@settings(max_examples=40, deadline=None)
@given(patch=patches)
def test_any_patch_does_what_kubectl_does(patch: dict[str, Any]) -> None:
    assert plain(merge(TEMPLATE, patch)) == plain(by_kubectl(patch))
