"""The Kubernetes API as plain JSON: dictionaries go in, dictionaries come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeAlias
from urllib.parse import quote

from operators.kube.access import find_access
from operators.kube.errors import CONFLICT, NOT_FOUND, ApiError
from operators.kube.stream import Stream
from operators.kube.wire import Json, Query, Wire

Objects: TypeAlias = list[Json]

PAGE = 200  # objects: of twice as many, what is held while they are read is a third more
KUBELET = 10.0  # seconds that a pod's node has to begin with its log
QUIET = 75.0  # seconds without a byte after which a watch counts as dead: a bookmark comes every minute

_GROUPS: Final = {"jobs": "batch", "pods": "", "configmaps": "", "events": ""}
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Api:
    """One namespace of one cluster. For many threads.

    Every method may raise ApiAwayError (an OSError: try again later) and ApiError (refused, for good).
    `resource` is jobs, pods, configmaps or events.
    """

    def __init__(self, wire: Wire, namespace: str) -> None:
        self.namespace = namespace
        self._wire = wire

    @property
    def host(self) -> str:
        return self._wire.host

    @property
    def calls(self) -> Counter[tuple[str, str, int]]:
        """(verb, resource, HTTP status) -> calls so far; status 0: no answer came. A copy."""
        return self._wire.calls

    def close(self) -> None:
        self._wire.close()

    def request(self, verb: str, path: str, query: Query | None = None, body: Json | None = None) -> Json:
        """Any other call. `verb` is get, list, create or delete."""
        return self._wire.json(verb, path, query, body)

    def create(self, resource: str, manifest: Json, *, dry_run: bool = False) -> Json:
        """What the server made of it. ApiError with status 409: the name is taken, perhaps by us just now."""
        query = {"fieldManager": "abohb", **({"dryRun": "All"} if dry_run else {})}
        return self.request("create", self._path(resource), query, manifest)

    def get(self, resource: str, name: str) -> Json | None:
        """None: there is no such object."""
        try:
            return self.request("get", self._path(resource, name))
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def delete(self, resource: str, name: str, *, uid: str | None = None, grace: int | None = None) -> bool:
        """Remove it and, soon after, what it owns. False: it is gone, or (`uid`) the name is another's now.

        `grace` is in seconds, of the object itself; pods that a Job owns use their own.
        """
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        body |= {"preconditions": {"uid": uid}} if uid is not None else {}
        body |= {"gracePeriodSeconds": grace} if grace is not None else {}
        try:
            self.request("delete", self._path(resource, name), None, body)
        except ApiError as error:
            if error.status == NOT_FOUND or (error.status == CONFLICT and uid is not None):
                return False
            raise
        return True

    def pages(
        self, resource: str, selector: str = "", limit: int = PAGE, fields: str = ""
    ) -> Iterator[tuple[Objects, str]]:
        """(objects, resourceVersion of the whole list), page by page; all pages are of one moment.

        `selector` is of labels, `fields` of fields.
        ApiError with status 410: the next page was asked for too late, begin again.
        """
        selectors = {"labelSelector": selector, "fieldSelector": fields}
        query: dict[str, str | int] = {
            "limit": limit,
            **{name: text for name, text in selectors.items() if text},
        }
        while True:
            page = self.request("list", self._path(resource), query)
            metadata: Json = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    def watch(self, resource: str, selector: str, version: str, seconds: int, quiet: float = QUIET) -> Stream:
        """Events after `version`, until the server ends it after `seconds`. Asked once. Close it."""
        query: dict[str, str | int | bool] = {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": version,
            "timeoutSeconds": seconds,
            **({"labelSelector": selector} if selector else {}),
        }
        return Stream(self._wire.stream(self._path(resource), query, quiet), quiet)

    def pod_log(self, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> bytes:
        """The first `limit_bytes` of the last `tail_lines`. Asked once: the pod's node may be what is away.

        ApiError with status 404: there is no such pod; 400: its container has not run.
        """
        query: Query = {"container": container, "tailLines": tail_lines, "limitBytes": limit_bytes}
        path = f"{self._path('pods', pod)}/log"
        return self._wire.request("get", path, query, patience=0.0, read=KUBELET)

    def may(self, verb: str, resource: str) -> bool:
        """Whether we are allowed to do that in our namespace. `resource` may have a part: pods/log."""
        name, _, part = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": verb, "group": _GROUPS[name], "resource": name}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**asked, "subresource": part}},
        }
        return bool(self.request("create", _REVIEWS, None, body)["status"].get("allowed"))

    def _path(self, resource: str, name: str = "") -> str:
        group = _GROUPS[resource]
        top = f"/apis/{group}/v1" if group else "/api/v1"
        path = f"{top}/namespaces/{quote(self.namespace, safe='')}/{resource}"
        return f"{path}/{quote(name, safe='')}" if name else path


def connect(
    context: str | None = None, namespace: str | None = None, *, rate: float = 20.0, burst: int = 40
) -> Api:
    """The cluster of a kubeconfig's context, or this pod's. AbohbError: there is none, and what to do.

    The namespace is, unless it is given, the context's or the pod's.
    """
    access, suggested = find_access(context)
    return Api(Wire(access, rate=rate, burst=burst), namespace or suggested)
