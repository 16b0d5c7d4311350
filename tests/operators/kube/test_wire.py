"""Retries, errors and counts, against the exact wire format of a server that is told what to answer.

A real API server does not say 429 or 503, or break a connection, when a test wants it to; what it does do is
tested in tests/cluster/test_api.py.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from operators.kube.api import Api
from operators.kube.errors import ApiAwayError, ApiError
from operators.kube.wire import Wire, resource_of
from tests.operators.kube.answers import (
    CUT,
    Asked,
    Say,
    access_to,
    api_to,
    in_order,
    listing,
    refusal,
    serving,
)

JOB = {"kind": "Job", "metadata": {"name": "s-1-1"}}
OK = Say(200, {"kind": "Job", "metadata": {"name": "s-1-1", "uid": "u"}})
CREATED = Say(201, OK.body)
BUSY = refusal(429, "TooManyRequests", "please try again later", Retry_After="2")
ILL = refusal(503, "ServiceUnavailable", "etcd is away")


class Slept(list[float]):
    """Waits that were asked for; none takes any time, but the clock shows them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)

    def clock(self) -> float:
        return sum(self)


@pytest.fixture
def slept() -> Slept:
    return Slept()


def patient(slept: Slept) -> dict[str, Callable[..., float | None]]:
    return {"clock": slept.clock, "sleep": slept, "luck": lambda: 0.0}


@pytest.mark.parametrize(
    ("answers", "waits"),
    [
        ([OK], []),
        ([ILL, OK], [0.25]),
        ([CUT, CUT, OK], [0.25, 0.5]),
        ([ILL, CUT, ILL, OK], [0.25, 0.5, 1.0]),
        ([refusal(504, "Timeout"), OK], [0.25]),
        ([BUSY, OK], [0.25, 1.8]),  # Retry-After 2 and our turn after it, 1/20 s
    ],
)
def test_an_answer_that_failed_to_come_is_asked_for_again(
    answers: list[Say], waits: list[float], slept: Slept
) -> None:
    with serving(in_order(*answers)) as server:
        assert api_to(server, **patient(slept)).get("jobs", "s-1-1") == OK.body
        assert len(server.asked) == len(answers)
    assert slept == pytest.approx(waits)


def test_a_lost_answer_to_a_create_is_asked_for_again_and_the_conflict_is_the_callers(slept: Slept) -> None:
    """The name is ours, so whether the first one went through is found out by the second."""
    with serving(in_order(CUT, refusal(409, "AlreadyExists"))) as server:
        with pytest.raises(ApiError) as caught:
            api_to(server, **patient(slept)).create("jobs", JOB)
        assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
        assert [one.body for one in server.asked] == [JOB, JOB]


@pytest.mark.parametrize(("first", "times"), [(CUT, 1), (ILL, 1), (BUSY, 2)])
def test_a_create_that_the_server_names_is_not_sent_twice(first: Say, times: int, slept: Slept) -> None:
    """Unless it said that it did not look at it."""
    with serving(in_order(first, CREATED)) as server:
        api = api_to(server, **patient(slept))
        body = {"metadata": {"generateName": "s-"}}
        if times == 1:
            with pytest.raises(ApiAwayError):
                api.request("create", "/api/v1/namespaces/ml/configmaps", None, body)
        else:
            api.request("create", "/api/v1/namespaces/ml/configmaps", None, body)
        assert len(server.asked) == times


def test_patience_ends_and_the_caller_hears_that_it_is_away(slept: Slept) -> None:
    with serving(in_order(ILL)) as server:
        api = api_to(server, patience=10.0, **patient(slept))
        with pytest.raises(OSError, match=r"cannot answer now: etcd is away \(503\)") as caught:
            api.get("jobs", "s-1-1")
        assert isinstance(caught.value, ApiAwayError)
        assert caught.value.status == 503
        assert slept.clock() <= 10.0
        assert len(server.asked) == 6, "0.25 + 0.5 + 1 + 2 + 4 s"


def test_nobody_listens(slept: Slept) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with serving(in_order(OK)) as server:
        server.url = url
        api = api_to(server, **patient(slept))
        with pytest.raises(ApiAwayError, match=f"{url} does not answer") as caught:
            api.get("jobs", "x")
    assert caught.value.status == 0
    assert api.calls == {("get", "jobs", 0): 6}


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (refusal(403, "Forbidden", "jobs.batch is forbidden"), 403, "create jobs: jobs.batch is forbidden"),
        (refusal(422, "Invalid", "spec.x: Required"), 422, "spec.x: Required"),
        (refusal(409, "AlreadyExists"), 409, "AlreadyExists"),
        (Say(404, b"<html>no  such\npage</html>"), 404, "<html>no such page</html>"),
        (Say(302, b"log in", {"Location": "http://elsewhere"}), 302, "log in"),
        (refusal(401, "Unauthorized"), 401, "Unauthorized"),
    ],
)
def test_a_refusal_is_final(answer: Say, status: int, words: str, slept: Slept) -> None:
    with serving(in_order(answer)) as server:
        with pytest.raises(ApiError, match=words) as caught:
            api_to(server, **patient(slept)).create("jobs", JOB)
        assert caught.value.status == status
        assert len(server.asked) == 1
    assert slept == []


@pytest.mark.parametrize("answer", [Say(200, b"<html>log in</html>"), Say(200, ["[]"])])
def test_something_else_than_the_api_answers(answer: Say) -> None:
    with serving(in_order(answer)) as server, pytest.raises(ApiAwayError, match="something else"):
        api_to(server).get("jobs", "x")


def test_what_the_server_itself_has_not_refused_is_tried_again(slept: Slept) -> None:
    """A load balancer before it answers while it is made anew; but a page that was always there stays."""
    page = Say(404, b"<html>no such page</html>")
    with serving(in_order(OK, page, page, OK)) as server:
        api = api_to(server, **patient(slept))
        assert api.get("jobs", "s-1-1") == OK.body
        assert api.get("jobs", "s-1-1") == OK.body, "not None: nobody has said that it is gone"
        assert len(server.asked) == 4


def test_credentials_are_read_again_when_they_are_refused() -> None:
    """A kubeconfig or a mounted token that was replaced meanwhile."""
    token = "old"

    def answer(asked: Asked) -> Say:
        return OK if asked.headers.get("authorization") == f"Bearer {valid}" else refusal(401, "Unauthorized")

    valid = "old"
    with serving(answer) as server:
        access = access_to(server.url, lambda: token)
        access._loaded -= 60.0  # read a minute ago
        api = Api(Wire(access, patience=0.0), "ml")
        assert api.get("jobs", "x")
        token = valid = "new"
        assert api.get("jobs", "x")
        assert [one.headers["authorization"] for one in server.asked] == [
            "Bearer old", "Bearer old", "Bearer new",
        ]  # fmt: skip
        valid = "newer"
        with pytest.raises(ApiAwayError, match="401"):  # they were good once: perhaps again in a minute
            api.get("jobs", "x")
        assert len(server.asked) == 4, "not read again at once"


def test_all_calls_are_counted() -> None:
    def answer(asked: Asked) -> Say:
        if asked.watch:
            return Say(200, [])
        return {"GET": listing(version=3), "POST": CREATED, "DELETE": refusal(404, "NotFound")}[asked.method]

    with serving(answer) as server:
        api = api_to(server)
        api.create("jobs", JOB)
        assert not api.delete("jobs", "s-1-1")
        list(api.pages("pods"))
        for _ in range(2):
            with api.watch("pods", "", "3", 1) as stream:
                assert list(stream) == []
        api.pod_log("s-1-1-abcde", "trial", tail_lines=1, limit_bytes=1)
        counted = {
            ("create", "jobs", 201): 1, ("delete", "jobs", 404): 1, ("list", "pods", 200): 1,
            ("watch", "pods", 200): 2, ("get", "pods/log", 200): 1,
        }  # fmt: skip
        assert api.calls == counted
        api.calls.clear()
        assert api.calls == counted, "a copy"


def test_what_is_sent() -> None:
    with serving(lambda asked: listing(version=3) if asked.method == "GET" else OK) as server:
        api = api_to(server)
        api.create("jobs", JOB, dry_run=True)
        api.delete("jobs", "s-1-1", uid="u", grace=7)
        list(api.pages("pods", "a=b,c"))
        sent = [(one.method, one.path, one.query, one.body) for one in server.asked]
    jobs = "/apis/batch/v1/namespaces/ml/jobs"
    options = {
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        "preconditions": {"uid": "u"}, "gracePeriodSeconds": 7,
    }  # fmt: skip
    assert sent == [
        ("POST", jobs, {"fieldManager": "abohb", "dryRun": "All"}, JOB),
        ("DELETE", f"{jobs}/s-1-1", {}, options),
        ("GET", "/api/v1/namespaces/ml/pods", {"limit": "200", "labelSelector": "a=b,c"}, None),
    ]


def test_pages_and_a_list_that_takes_too_long() -> None:
    """The second page of the second list is asked for after its token has expired."""
    answers = [
        listing({"n": 1}, version=5, more="t1"), listing({"n": 2}, version=5),
        listing({"n": 1}, version=6, more="t2"), refusal(410, "Expired"),
    ]  # fmt: skip
    with serving(in_order(*answers)) as server:
        api = api_to(server)
        assert list(api.pages("jobs", limit=1)) == [([{"n": 1}], "5"), ([{"n": 2}], "5")]
        with pytest.raises(ApiError) as caught:
            list(api.pages("jobs", limit=1))
        assert caught.value.status == 410
        assert [(one.query["limit"], one.query.get("continue")) for one in server.asked] == [
            ("1", None), ("1", "t1"), ("1", None), ("1", "t2"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/version", "version"),
        ("/api/v1/namespaces/ml/pods", "pods"),
        ("/api/v1/namespaces/ml/pods/digits-1-1-abcde", "pods"),
        ("/api/v1/namespaces/ml/pods/digits-1-1-abcde/log", "pods/log"),
        ("/apis/batch/v1/namespaces/ml/jobs/digits-1-1", "jobs"),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "selfsubjectaccessreviews"),
        ("/api/v1/namespaces/ml", "namespaces"),
        ("/api/v1/nodes/node-0", "nodes"),
    ],
)
def test_resource_of(path: str, resource: str) -> None:
    assert resource_of(path) == resource
