"""What the cache knows, after any lists and events, against what the server has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kube.cache import Cache

Json = dict[str, Any]


def thing(name: str, version: int, uid: str = "") -> Json:
    return {"metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}}


def known(cache: Cache) -> tuple[dict[str, str], list[str], str]:
    """(name -> version, names of what is gone, version)."""
    objects = {name: one["metadata"]["resourceVersion"] for name, one in cache.objects.items()}
    return objects, [one["metadata"]["name"] for one in cache.gone.values()], cache.version


def test_events_one_by_one() -> None:
    cache = Cache()
    assert cache.listed([thing("a", 1), thing("b", 2)], "5")
    assert known(cache) == ({"a": "1", "b": "2"}, [], "5")
    assert cache.told("MODIFIED", thing("a", 6))
    assert cache.told("ADDED", thing("c", 7))
    assert known(cache) == ({"a": "6", "b": "2", "c": "7"}, [], "7")
    assert cache.told("DELETED", thing("b", 8))
    assert known(cache) == ({"a": "6", "c": "7"}, ["b"], "8")
    assert not cache.told("BOOKMARK", {"kind": "Job", "metadata": {"resourceVersion": "90"}})
    assert known(cache) == ({"a": "6", "c": "7"}, ["b"], "90")


def test_a_deleted_object_is_kept_as_the_event_had_it() -> None:
    cache = Cache()
    cache.listed([thing("a", 1)], "1")
    last = {**thing("a", 4), "status": {"phase": "Failed"}}
    cache.told("DELETED", last)
    assert cache.gone == {"uid-a": last}


def test_what_a_whole_list_lacks_is_gone_as_it_was_last_known() -> None:
    cache = Cache()
    cache.listed([thing("a", 1), thing("b", 2)], "5")
    before = cache.objects["b"]
    assert cache.listed([thing("a", 1)], "9")
    assert cache.gone == {"uid-b": before}
    assert cache.gone["uid-b"] is before


def test_a_name_that_is_used_again_is_another_object() -> None:
    cache = Cache()
    cache.listed([thing("a", 1, "first")], "1")
    assert cache.listed([thing("a", 9, "second")], "9")
    assert cache.told("ADDED", thing("a", 12, "third"))
    assert {uid: one["metadata"]["resourceVersion"] for uid, one in cache.gone.items()} == {
        "first": "1",
        "second": "9",
    }
    assert cache.objects["a"]["metadata"]["uid"] == "third"


def test_what_our_selector_sees_again_is_not_gone() -> None:
    """The server says DELETED of an object whose labels no longer match."""
    cache = Cache()
    for again in ("event", "list"):
        cache.listed([thing("a", 1)], "1")
        cache.told("DELETED", thing("a", 2))
        assert (list(cache.objects), list(cache.gone)) == ([], ["uid-a"])
        cache.told("ADDED", thing("a", 3)) if again == "event" else cache.listed([thing("a", 3)], "3")
        assert (list(cache.objects), list(cache.gone)) == (["a"], [])


def test_a_list_without_news_keeps_the_very_objects() -> None:
    cache = Cache()
    cache.listed([thing("a", 1), thing("b", 2)], "5")
    before = dict(cache.objects)
    assert not cache.listed([thing("b", 2), thing("a", 1)], "9")
    assert all(cache.objects[name] is before[name] for name in before)
    assert cache.listed([thing("b", 2), thing("a", 11)], "12")
    assert cache.objects["b"] is before["b"]


@dataclass
class Server:
    """Objects with versions, and a log of events of which the old part may be compacted away."""

    objects: dict[str, Json] = field(default_factory=dict)
    log: list[tuple[int, str, Json]] = field(default_factory=list)
    version: int = 1
    compacted: int = 0  # events up to this version are lost
    ever: dict[str, Json] = field(default_factory=dict)  # by uid: each object as it is, or was at its end

    def change(self, kind: str, name: str) -> None:
        if (kind == "ADDED") == (name in self.objects):
            return
        self.version += 1
        uid = f"{name}@{self.version}" if kind == "ADDED" else self.objects[name]["metadata"]["uid"]
        one = thing(name, self.version, uid)
        self.ever[uid] = one
        if kind == "DELETED":
            del self.objects[name]
        else:
            self.objects[name] = one
        self.log.append((self.version, kind, one))


@dataclass
class Client:
    """Lists and watches as the Watcher does: each event once and in order, or a 410 and a new list."""

    server: Server
    cache: Cache = field(default_factory=Cache)
    seen: set[str] = field(default_factory=set)  # uids that it was told of

    def relist(self) -> None:
        objects = list(self.server.objects.values())
        self.cache.listed(objects, str(self.server.version))
        self.seen |= {one["metadata"]["uid"] for one in objects}

    def read(self, most: int) -> None:
        """Up to so many events of a watch; then it is cut."""
        if not self.cache.version or int(self.cache.version) < self.server.compacted:
            self.cache.version = ""  # 410
            return self.relist()
        after = int(self.cache.version)
        for _, kind, one in [event for event in self.server.log if event[0] > after][:most]:
            self.cache.told(kind, one)
            self.seen.add(one["metadata"]["uid"])

    def bookmark(self) -> None:
        """Only who has been told everything gets one."""
        self.read(10**6)
        self.cache.told("BOOKMARK", {"metadata": {"resourceVersion": str(self.server.version)}})


STEPS = st.one_of(
    st.tuples(st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), st.sampled_from("abc")),
    st.tuples(st.just("read"), st.integers(0, 4)),
    st.tuples(st.sampled_from(["relist", "bookmark", "compact"]), st.just(0)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_any_interleaving_ends_with_what_the_server_has(steps: list[tuple[str, Any]]) -> None:
    server = Server()
    client = Client(server)
    for step, argument in steps:
        if step in ("ADDED", "MODIFIED", "DELETED"):
            server.change(step, argument)
        elif step == "read":
            client.read(argument)
        elif step == "relist":
            client.relist()
        elif step == "bookmark":
            client.bookmark()
        else:
            server.compacted = server.version
        alive = {one["metadata"]["uid"] for one in server.objects.values()}
        assert not alive & client.cache.gone.keys(), "a live object was taken for gone"
    client.read(10**6)
    assert client.cache.objects == server.objects
    alive = {one["metadata"]["uid"] for one in server.objects.values()}
    assert client.cache.gone.keys() == client.seen - alive, "each one that was known and is no more, once"
