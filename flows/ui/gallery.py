"""The artifacts of one flow run, each updated in place."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from httpx import codes
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import PrefectHTTPStatusError

from flows.views.artifacts import Artifact


class Gallery:
    """Else a long study left thousands of versions of each, and a resumed run those of before besides."""

    def __init__(self, run: UUID) -> None:
        self._run = run
        self._hung: dict[str, UUID] | None = None  # by key; None: Prefect has not been asked yet
        self._last: dict[str, Artifact] = {}

    def changed(self, shown: Iterable[Artifact]) -> list[Artifact]:
        """Those that are not as they were at the last call."""
        news = [artifact for artifact in shown if self._last.get(artifact.key) != artifact]
        self._last |= {artifact.key: artifact for artifact in news}
        return news

    def draw(self, client: SyncPrefectClient, artifact: Artifact) -> None:
        """Raises what the client raises."""
        if self._hung is None:
            self._hung = self._found(client)
        known = self._hung.get(artifact.key)
        if known is not None and _replaced(client, known, artifact):
            return
        made = client.create_artifact(
            ArtifactCreate(
                key=artifact.key, type=artifact.kind, data=artifact.data, description=artifact.description,
                flow_run_id=self._run,
            )
        )  # fmt: skip
        self._hung[artifact.key] = made.id

    def _found(self, client: SyncPrefectClient) -> dict[str, UUID]:
        """What an earlier process of the same run has left; of several versions the newest."""
        mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self._run]))
        found = client.read_artifacts(artifact_filter=mine, sort=ArtifactSort.CREATED_DESC)
        return {artifact.key: artifact.id for artifact in reversed(found) if artifact.key}


def _replaced(client: SyncPrefectClient, known: UUID, artifact: Artifact) -> bool:
    """False: somebody has deleted it in Prefect."""
    # Not client.update_artifact: that also emits an event, with the whole picture in it each time.
    data = {"data": artifact.data, "description": artifact.description}
    try:
        client.request("PATCH", "/artifacts/{id}", json=data, path_params={"id": known})
    except PrefectHTTPStatusError as error:
        if error.response.status_code != codes.NOT_FOUND:
            raise
        return False
    return True
