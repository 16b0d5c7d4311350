"""The API access against a real API server, directly and through a network that fails."""

from __future__ import annotations

import base64
import json
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from operators.kube.api import Api
from operators.kube.errors import ApiAwayError, ApiError
from operators.kube.slim import slim
from operators.kube.watch import Rhythm, Watcher
from tests.cluster.apis import (
    config_map,
    from_kubeconfig,
    job,
    kubeconfig,
    listed,
    own_namespace,
    put,
    until,
    watching,
)
from tests.cluster.kit import image
from tests.cluster.proxy import Proxy, proxied, torment

pytestmark = pytest.mark.cluster

Json = dict[str, Any]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with own_namespace() as api:
        yield api


@pytest.fixture
def label() -> str:
    """Tells the objects of one test from those of the others."""
    return f"test=t{uuid.uuid4().hex[:8]}"


# -- calls --


def test_create_is_idempotent_by_name_and_delete_by_uid(api: Api) -> None:
    made = api.create("jobs", job("one"))
    uid = made["metadata"]["uid"]
    with pytest.raises(ApiError, match="already exists") as caught:
        api.create("jobs", job("one"))
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
    found = api.get("jobs", "one")
    assert found is not None
    assert found["metadata"]["uid"] == uid
    assert not api.delete("jobs", "one", uid="00000000-0000-0000-0000-000000000000"), "another one's name"
    assert api.get("jobs", "one") is not None
    assert api.delete("jobs", "one", uid=uid)
    until(lambda: api.get("jobs", "one") is None)
    assert not api.delete("jobs", "one", uid=uid)
    assert not api.delete("jobs", "one")


def test_a_dry_run_leaves_nothing_and_says_what_is_wrong(api: Api) -> None:
    assert api.create("jobs", job("dry"), dry_run=True)["metadata"]["name"] == "dry"
    assert api.get("jobs", "dry") is None
    wrong = job("dry")
    wrong["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A=B", "value": "1"}]
    wrong["spec"]["template"]["spec"]["restartPolicy"] = "Sometimes"
    with pytest.raises(ApiError, match="restartPolicy") as caught:
        api.create("jobs", wrong, dry_run=True)
    assert caught.value.status == 422


def test_what_the_owner_has_goes_with_it(api: Api) -> None:
    owner = api.create("configmaps", config_map("owner"))
    owned = job("owned")
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    ]
    api.create("jobs", owned)
    assert api.delete("configmaps", "owner")
    until(lambda: api.get("jobs", "owned") is None, 30.0)


def test_a_list_in_pages_is_the_list(api: Api, label: str) -> None:
    for number in range(7):
        api.create("configmaps", config_map(f"page-{label[-4:]}-{number}", label))
    pages = list(api.pages("configmaps", label, limit=3))
    assert [len(items) for items, _ in pages] == [3, 3, 1]
    assert len({version for _, version in pages}) == 1
    assert [one for items, _ in pages for one in items] == listed(api, label)


def test_logs_of_a_pod(api: Api, label: str) -> None:
    talker = job(f"log-{label[-8:]}", label, suspend=False)
    if "ABOHB_TEST_REGISTRY" in os.environ:  # else that of the job must be there to pull
        talker["spec"]["template"]["spec"]["containers"][0]["image"] = image("trial-digits")
    command = ["python3", "-c", "for n in range(1000): print('line', n)"]
    talker["spec"]["template"]["spec"]["containers"][0]["command"] = command
    talker["spec"]["template"]["metadata"] = {"labels": talker["metadata"]["labels"]}
    api.create("jobs", talker)
    with watching(api, "pods", label, slim=slim) as watcher:

        def phase() -> tuple[str, str]:
            for name, pod in watcher.snapshot().objects.items():
                return name, pod["status"].get("phase", "")
            return "", ""

        until(lambda: phase()[1] in ("Succeeded", "Failed"), 60.0)
        pod, ended = phase()
    assert ended == "Succeeded"
    assert api.pod_log(pod, "trial", tail_lines=2, limit_bytes=1000) == b"line 998\nline 999\n"
    assert api.pod_log(pod, "trial", tail_lines=2, limit_bytes=4) == b"line"
    for name, container, status in ((pod, "nobody", 400), ("nobody", "trial", 404)):
        with pytest.raises(ApiError) as caught:
            api.pod_log(name, container, tail_lines=1, limit_bytes=1)
        assert caught.value.status == status
    api.delete("jobs", talker["metadata"]["name"])


@pytest.mark.last
def test_a_list_that_took_too_long_is_refused(api: Api, label: str) -> None:
    """A continue token of the cluster's first revision, long compacted: a real 410 as HTTP status."""
    token = base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":1,"start":"a\\u0000"}').decode().rstrip("=")
    path = f"/api/v1/namespaces/{api.namespace}/configmaps"
    refusal = None
    try:
        api.request("list", path, {"limit": 1, "continue": token})
    except ApiError as error:
        refusal = error
    if refusal is None:
        pytest.skip("a cluster younger than ten minutes still has its first revision")
    assert (refusal.status, refusal.reason) == (410, "Expired")


# -- watches --


def test_a_watcher_sees_what_happens(api: Api, label: str) -> None:
    one, two = f"a-{label[-8:]}", f"b-{label[-8:]}"
    told = threading.Semaphore(0)
    api.create("jobs", job(one, label))
    with watching(api, "jobs", label, Rhythm(), changed=told.release) as watcher:
        assert watcher.synced.wait(5)
        assert told.acquire(timeout=1)
        assert list(watcher.snapshot().objects) == [one]
        api.create("jobs", job(two, label))
        until(lambda: two in watcher.snapshot().objects, 1.0)
        assert told.acquire(timeout=1)

        def conditions() -> list[str]:
            status = watcher.snapshot().objects[two].get("status", {})
            return [condition["type"] for condition in status.get("conditions", ())]

        until(lambda: conditions() == ["Suspended"])  # by the Job controller
        before = watcher.snapshot().objects[two]
        path = f"/apis/batch/v1/namespaces/{api.namespace}/jobs/{two}"
        changed = put(api, path, {**before, "spec": {**before["spec"], "backoffLimit": 5}})
        version = changed["metadata"]["resourceVersion"]
        until(lambda: watcher.snapshot().objects[two]["metadata"]["resourceVersion"] == version)
        assert watcher.snapshot().objects[two]["spec"]["backoffLimit"] == 5
        assert before["spec"]["backoffLimit"] == 0, "objects are replaced, not changed"
        api.delete("jobs", two)
        until(lambda: watcher.snapshot().gone)
        ((uid, last),) = watcher.snapshot().gone.items()
        assert uid == before["metadata"]["uid"]
        assert last["spec"]["backoffLimit"] == 5, "its last state"
        assert watcher.away() == (0.0, "")
        calls = api.calls
        time.sleep(1.0)
        assert api.calls == calls, "a quiet watch costs nothing"


def test_a_version_of_long_ago(api: Api, label: str) -> None:
    """An API server that has forgotten it says 410, one that remembers it tells all since: both are right."""
    name = f"old-{label[-8:]}"
    api.create("configmaps", config_map(name, label))
    with watching(api, "configmaps", label) as watcher:
        until(lambda: name in watcher.snapshot().objects)
        watcher._cache.version = "1"
        watcher._stream.interrupt()  # type: ignore[union-attr]
        api.delete("configmaps", name)
        until(lambda: not watcher.snapshot().objects)
        assert len(watcher.snapshot().gone) == 1
        print(f"{watcher.faults} faults, {dict(api.calls)}")


@pytest.mark.last
def test_the_servers_410_in_a_stream_is_understood(api: Api) -> None:
    """Leases are renewed every few seconds by nodes: their first versions are soon forgotten."""
    query = {"watch": True, "resourceVersion": "1", "timeoutSeconds": 2}
    path = "/apis/coordination.k8s.io/v1/leases"
    response = api._wire.stream(path, query, 5.0)
    first = json.loads(response.read().split(b"\n")[0] or b"{}")
    if first.get("type") != "ERROR":
        pytest.skip("the API server still remembers its first version")
    assert (first["object"]["code"], first["object"]["reason"]) == (410, "Expired")
    watcher = Watcher(api, "configmaps", "", lambda: None)
    with pytest.raises(ApiError) as caught:
        watcher._take(first["type"], first["object"])
    assert caught.value.status == 410


# -- a network that fails --


@pytest.fixture
def broken(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Api, Proxy]]:
    """The same cluster, through a proxy that can be told to misbehave."""
    url = urlsplit(api.host)
    with proxied(str(url.hostname), url.port or 443) as proxy:
        config = kubeconfig()
        cluster = config["clusters"][0]["cluster"]
        cluster["server"] = f"https://127.0.0.1:{proxy.port}"
        cluster["tls-server-name"] = str(url.hostname)
        yield from_kubeconfig(config, api.namespace, tmp_path, monkeypatch), proxy


def test_no_answer_in_any_way_is_away_and_then_it_goes_on(broken: tuple[Api, Proxy]) -> None:
    api, proxy = broken
    assert api.get("configmaps", "none") is None
    proxy.cut()
    assert api.get("configmaps", "none") is None, "a connection that was kept is dead: asked again"
    proxy.refuse()
    began = time.monotonic()
    with pytest.raises(ApiAwayError, match="does not answer"):
        api.get("configmaps", "none")
    assert 3.0 < time.monotonic() - began < 12.0
    threading.Timer(1.0, proxy.heal).start()
    assert api.get("configmaps", "none") is None, "back within its patience"


def test_a_create_whose_answer_is_lost(broken: tuple[Api, Proxy], api: Api, label: str) -> None:
    """Whether it went through or not: the object is there once, and a 409 says that it may be our own."""
    through, proxy = broken
    taken = made = 0
    for number in range(12):
        name = f"lost-{label[-8:]}-{number}"
        threading.Timer(0.0005 * number, proxy.cut).start()
        try:
            through.create("configmaps", config_map(name, label))
            made += 1
        except ApiError as error:
            taken += error.status == 409
        assert api.get("configmaps", name) is not None
    assert made + taken == 12


def test_no_event_is_lost_in_a_network_that_fails(broken: tuple[Api, Proxy], api: Api, label: str) -> None:
    """Objects come, change and go all the time; connections are cut, swallowed and refused.

    At the end the cache is what the server has, each that has gone was told as gone, and none that lives.
    """
    through, proxy = broken
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    luck = random.Random(seed)
    rhythm = Rhythm(watch=(60.0, 60.0), relist=1e9, quiet=1.0)  # no relist heals what a watch has lost
    last: dict[str, str] = {}  # uid -> the last text it had
    with watching(through, "configmaps", label, rhythm) as watcher:
        until(watcher.synced.is_set)
        thread = threading.Thread(target=torment, args=(proxy, 15.0, iter(luck.random, None)), name="torment")
        thread.start()
        while thread.is_alive():
            churn(api, label, luck, last)
            time.sleep(0.02)
            live = {one["metadata"]["uid"] for one in listed(api, label)}
            assert not live & watcher.snapshot().gone.keys(), "a live object was taken for gone"
        thread.join()
        final = {one["metadata"]["name"]: one for one in listed(api, label)}
        until(lambda: versions(watcher.snapshot().objects) == versions(final), 20.0)
        gone = watcher.snapshot().gone
        live = {one["metadata"]["uid"] for one in final.values()}
        assert gone.keys() == last.keys() - live, "all that have gone, some of which lived for a moment only"
        assert {uid: one["data"]["text"] for uid, one in gone.items()} == {uid: last[uid] for uid in gone}
        calls = through.calls
        lists = sum(count for (verb, _, status), count in calls.items() if verb == "list" and status == 200)
    print(f"{len(last)} objects, {watcher.faults} faults, {proxy.accepted} connections, {dict(calls)}")
    assert watcher.faults >= 5, "it was tormented"
    assert lists == 1, "all by watches"
    assert sum(calls.values()) < 120, "no hot loop"


def versions(things: dict[str, Json]) -> dict[str, tuple[str, str]]:
    """What makes them different; those of a list lack their kind."""
    return {
        name: (one["metadata"]["uid"], one["metadata"]["resourceVersion"]) for name, one in things.items()
    }


def churn(api: Api, label: str, luck: random.Random, last: dict[str, str]) -> None:
    """An object comes, is changed, or goes."""
    name = f"churn-{label[-8:]}-{luck.randrange(8)}"
    found, text = api.get("configmaps", name), str(luck.random())
    if found is None:
        made = api.create("configmaps", config_map(name, label, text))
        last[made["metadata"]["uid"]] = text
    elif luck.random() < 0.5:
        path = f"/api/v1/namespaces/{api.namespace}/configmaps/{name}"
        last[found["metadata"]["uid"]] = text
        put(api, path, {**found, "data": {"text": text}})
    else:
        api.delete("configmaps", name, uid=found["metadata"]["uid"])


def test_a_watch_that_is_swallowed_is_noticed(broken: tuple[Api, Proxy], api: Api, label: str) -> None:
    """Half open: no reset, no end, no byte. And while nothing answers, few calls are made."""
    through, proxy = broken
    with watching(through, "configmaps", label, Rhythm(quiet=1.0)) as watcher:
        until(lambda: watcher.synced.is_set() and watcher.away() == (0.0, ""))
        proxy.swallow()
        api.create("configmaps", config_map(f"half-{label[-8:]}", label))
        before = sum(through.calls.values())
        time.sleep(5.0)
        assert sum(through.calls.values()) - before <= 6
        assert watcher.snapshot().objects == {}
        assert watcher.away()[0] > 2.0
        proxy.heal()
        until(lambda: watcher.snapshot().objects, 10.0)
        assert watcher.away() == (0.0, "")


# -- size --


def test_a_thousand_objects(api: Api, label: str) -> None:
    names = [f"many-{label[-8:]}-{number}" for number in range(1000)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: api.create("configmaps", config_map(name, label, "x" * 200)), names))
    began = time.perf_counter()
    found = listed(api, label)
    took = time.perf_counter() - began
    with watching(api, "configmaps", label, Rhythm()) as watcher:
        assert watcher.synced.wait(10)
        began = time.perf_counter()
        taken = watcher.snapshot()
        snapshot = time.perf_counter() - began
    print(f"list of {len(found)}: {took:.3f} s; snapshot {snapshot * 1e6:.0f} us")
    assert len(found) == len(taken.objects) == 1000
    assert took < 5.0
    assert snapshot < 0.01
