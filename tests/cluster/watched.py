"""Every pod that a study had, as the API server told of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from operators.kube.api import connect
from operators.kube.settings import attempt_of
from operators.kube.status import state
from operators.kube.watch import Watcher
from tests.cluster.kit import STUDY, Cluster, Json

Key: TypeAlias = tuple[int, int]  # (trial, attempt)


@contextmanager
def watched(cluster: Cluster, selector: str = STUDY) -> Iterator[dict[str, Json]]:
    """Pods by uid as they were last seen, those that are gone too; complete when the block has ended."""
    api = connect(None, cluster.namespace)
    pods: dict[str, Json] = {}

    def keep() -> None:
        snapshot = watcher.snapshot()
        pods.update({pod["metadata"]["uid"]: pod for pod in snapshot.objects.values()})
        pods.update(snapshot.gone)

    watcher = Watcher(api, "pods", selector, keep)
    watcher.start()
    assert watcher.synced.wait(30), watcher.away()
    try:
        yield pods
        keep()
    finally:
        watcher.stop()
        api.close()


def ran(pod: Json) -> bool:
    """Whether its training code has run."""
    running, ended = state(pod, "running"), state(pod, "terminated")
    return running is not None or (ended is not None and ended.get("reason") != "ContainerStatusUnknown")


def pods_that_ran(pods: Iterable[Json]) -> Mapping[Key, list[Json]]:
    """By attempt."""
    found: dict[Key, list[Json]] = defaultdict(list)
    for pod in pods:
        if (key := attempt_of(pod)) is not None and ran(pod):
            found[key].append(pod)
    return found


def trial_of(pod: Json) -> Json:
    (container,) = (one for one in pod["spec"]["containers"] if one["name"] == "trial")
    return dict(container)
