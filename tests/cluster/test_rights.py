"""What a controller may do, what it is told when it may not, and what it does when it is one too many."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from operators.kube.api import Api, connect
from operators.kube.errors import ApiError
from operators.kube.preflight import VERBS, preflight
from tests.cluster.apis import from_kubeconfig, job, kubeconfig, own_namespace, until, watching

pytestmark = pytest.mark.cluster

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
Bind = Callable[[list[Json]], Api]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with own_namespace() as api:
        yield api


@pytest.fixture
def account(api: Api) -> str:
    """A service account of its own for each test: what another one's was allowed may be remembered."""
    name = f"controller-{uuid.uuid4().hex[:8]}"
    path = f"/api/v1/namespaces/{api.namespace}/serviceaccounts"
    api.request("create", path, None, {"metadata": {"name": name}})
    return name


@pytest.fixture
def controller(api: Api, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bind:
    """The API as a service account with the rules that it is given, bound as operators/rbac.yaml does it."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{api.namespace}"
    role, binding = yaml.safe_load_all((ROOT / "operators/rbac.yaml").read_text())
    subject = {"kind": "ServiceAccount", "name": account, "namespace": api.namespace}
    token = f"/api/v1/namespaces/{api.namespace}/serviceaccounts/{account}/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    config = kubeconfig()
    config["users"][0]["user"] = {"token": api.request("create", token, None, asked)["status"]["token"]}

    def bound(rules: list[Json]) -> Api:
        named = {"name": account}
        api.request("create", f"{rbac}/roles", None, {**role, "metadata": named, "rules": rules})
        reference = {**binding["roleRef"], "name": account}
        bind = {**binding, "metadata": named, "roleRef": reference, "subjects": [subject]}
        api.request("create", f"{rbac}/rolebindings", None, bind)
        mine = from_kubeconfig(config, api.namespace, tmp_path, monkeypatch)
        until(lambda: mine.may(rules[-1]["verbs"][0], rules[-1]["resources"][0]))  # it is known by and by
        return mine

    return bound


def rules() -> list[Json]:
    role, _ = yaml.safe_load_all((ROOT / "operators/rbac.yaml").read_text())
    found: list[Json] = role["rules"]
    return found


def test_with_the_role_there_is_no_problem(controller: Bind) -> None:
    assert preflight(controller(rules()), job("preflight")).problems == []


def test_the_role_allows_the_table_and_nothing_else(controller: Bind) -> None:
    """As `kubectl auth can-i --list` sees it, less what every authenticated user may."""
    mine = controller(rules())
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": mine.namespace},
    }
    found = mine.request("create", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", None, review)
    allowed = {
        (resource, verb)
        for rule in found["status"]["resourceRules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not resource.startswith("selfsubject")
    }
    assert allowed == {(resource, verb) for resource, verbs in VERBS.items() for verb in verbs}


@pytest.mark.parametrize(
    ("resource", "verb"), [(resource, verb) for resource, verbs in VERBS.items() for verb in verbs]
)
def test_without_a_verb_exactly_that_is_missing(resource: str, verb: str, controller: Bind) -> None:
    less = rules()
    for rule in less:
        if rule["resources"] == [resource]:
            rule["verbs"].remove(verb)
    mine = controller([rule for rule in less if rule["verbs"]])
    (line,) = preflight(mine, job("preflight")).problems
    assert line.startswith(f"you may not {verb} {resource} in namespace {mine.namespace!r}: ")


def test_all_problems_at_once(controller: Bind, api: Api) -> None:
    wrong = job("preflight")
    wrong["spec"]["template"]["spec"]["containers"] = []
    less = [rule for rule in rules() if rule["resources"] != ["pods"]]
    told = preflight(controller(less), wrong).problems
    assert len(told) == 2
    assert told[0].startswith("you may not list, watch pods in namespace")
    assert "containers: Required value" in told[1]
    assert api.get("jobs", "preflight") is None


def test_a_namespace_that_does_not_exist(api: Api) -> None:
    nowhere = connect(None, "abohb-nowhere")
    (line,) = preflight(nowhere, job("preflight")).problems
    assert line.startswith("namespace 'abohb-nowhere' does not exist at https://")


def test_what_is_not_allowed_is_refused_for_good(controller: Bind) -> None:
    mine = controller([rule for rule in rules() if rule["resources"] != ["jobs"]])
    with pytest.raises(ApiError, match="forbidden") as caught:
        mine.create("jobs", job("one"))
    assert caught.value.status == 403
    with watching(mine, "jobs", "") as watcher:
        time.sleep(1.0)
        assert not watcher.synced.is_set()
        assert "forbidden" in watcher.away()[1]
    assert sum(mine.calls.values()) <= 5


def test_a_token_that_was_replaced_is_found(
    controller: Bind, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mounted service account whose token the server no longer accepts, until a new one is there."""
    mine = controller(rules())
    bearer = mine._wire._access.ticket().headers["authorization"]
    mounted = tmp_path / "serviceaccount"
    mounted.mkdir()
    (mounted / "token").write_text(bearer.partition(" ")[2] + "x")
    config = kubeconfig()
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    (mounted / "ca.crt").write_bytes(base64.b64decode(authority))
    (mounted / "namespace").write_text(api.namespace)
    url = urlsplit(api.host)
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port or 443))
    monkeypatch.setattr("operators.kube.access.SERVICE_ACCOUNT", mounted)
    for name, file in (("TOKEN", "token"), ("CERT", "ca.crt")):
        place = f"kubernetes.config.incluster_config.SERVICE_{name}_FILENAME"
        monkeypatch.setattr(place, str(mounted / file))
    inside = connect()
    assert inside.namespace == api.namespace
    with pytest.raises(ApiError, match="Unauthorized"):
        inside.get("jobs", "none")
    (mounted / "token").write_text(bearer.partition(" ")[2])
    inside._wire._access._loaded -= 60.0  # as if a minute had passed
    assert inside.get("jobs", "none") is None
    counted = {status: count for (_, _, status), count in inside.calls.items()}
    assert counted == {401: 2, 404: 1}


# -- overload --


@pytest.fixture
def overloaded(api: Api, account: str, controller: Bind) -> Iterator[Api]:
    """An account of which the API server serves one call at a time: others get its own, real 429.

    Needs the rights of an administrator; nobody else is concerned.
    """
    mine = controller(rules())
    flow = "/apis/flowcontrol.apiserver.k8s.io/v1"
    name = {"name": api.namespace}
    none = {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
    limited = {**none, "limitResponse": {"type": "Reject"}}
    level = {"metadata": name, "spec": {"type": "Limited", "limited": limited}}
    subject = {"kind": "ServiceAccount", "serviceAccount": {"name": account, "namespace": api.namespace}}
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
    schema = {
        "metadata": name,
        "spec": {
            "priorityLevelConfiguration": name,
            "matchingPrecedence": 10,
            "rules": [{"subjects": [subject], "resourceRules": [everything]}],
        },
    }
    try:
        api.request("create", f"{flow}/prioritylevelconfigurations", None, level)
        api.request("create", f"{flow}/flowschemas", None, schema)
        yield mine
    finally:  # these are in no namespace
        for kind in ("flowschemas", "prioritylevelconfigurations"):
            with suppress(ApiError):
                api.request("delete", f"{flow}/{kind}/{api.namespace}")


def test_the_servers_429_is_waited_for(overloaded: Api) -> None:
    """Retry-After is 1 s: for so long nobody asks. Then it goes on at our rate, and all are served."""
    took, refused, served = 0.0, 0, 0
    deadline = time.monotonic() + 30.0
    with ThreadPoolExecutor(8) as pool:
        while not refused and time.monotonic() < deadline:  # it takes notice of its new rules by and by
            before, began = overloaded.calls, time.monotonic()
            assert list(pool.map(lambda _: overloaded.get("configmaps", "none"), range(8))) == [None] * 8
            took, calls = time.monotonic() - began, overloaded.calls - before
            refused, served = calls["get", "configmaps", 429], calls["get", "configmaps", 404]
    print(f"{refused} refused, {took:.2f} s")
    assert refused > 0
    assert served == 8
    assert 1.0 <= took < 10.0
