"""The server of the deployments as a process of this machine, and Prefect's API as a user of it has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State

from flows.ui.child import free_port
from tests.cluster import sleeper
from tests.cluster.desk import Desk
from tests.cluster.kit import ROOT, Json, image, until


@dataclass(frozen=True, slots=True)
class Served:
    """A running `python -m flows.deployment.serve` with all its processes, as a pod has them."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    def page(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def kill(self) -> None:
        """SIGKILL to all of them, as a pod that is gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def terminate(self, within: float = 40.0) -> int:
        """SIGTERM to the first process alone, as the kubelet does it; its exit code."""
        self.process.terminate()
        return self.process.wait(within)

    def text(self) -> str:
        return self.output.read_text(errors="replace")


@contextmanager
def serving(desk: Desk, **more: str) -> Iterator[Served]:
    """Until the end of the block; ready on entry."""
    port = free_port()
    output = desk.folder / f"serve-{port}.log"
    environment = {
        **os.environ,
        **desk.environment,
        "ABOHB_STORE": f"s3://{desk.bucket}/studies",
        "ABOHB_TRIALS_NAMESPACE": desk.cluster.namespace,
        "ABOHB_AGENT_IMAGE": image("agent"),
        "ABOHB_METRICS_DIR": str(desk.folder / "metrics"),
        **more,
    }
    command = [sys.executable, "-m", "flows.deployment.serve", "--port", str(port)]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    served = Served(process, port, output)
    try:
        until("it is ready", lambda: served.page("/readyz")[0] == 200, 60)
        yield served
    except BaseException:
        served.kill()
        desk.cluster.remove_left()
        raise
    finally:
        served.kill()
        print(served.text()[-6000:])


@dataclass(frozen=True, slots=True)
class Office:
    """What a user does in Prefect."""

    client: SyncPrefectClient

    def begin(self, deployment: str, parameters: Mapping[str, Any]) -> UUID:
        found = self.client.read_deployment_by_name(f"{deployment}/{deployment}")
        return self.client.create_flow_run_from_deployment(found.id, parameters=dict(parameters)).id

    def run(self, id: UUID) -> FlowRun:
        return self.client.read_flow_run(id)

    def state(self, id: UUID) -> State[Any]:
        state = self.run(id).state
        assert state is not None
        return state

    def wait(self, id: UUID, name: str, within: float) -> State[Any]:
        """Until the run is in that state."""
        until(f"{name}, it is {self.state(id)}", lambda: self.state(id).name == name, within, every=0.1)
        return self.state(id)

    def cancel(self, id: UUID) -> None:
        """As the button of the UI does it."""
        from prefect.states import Cancelling

        self.client.set_flow_run_state(id, Cancelling())

    def states(self, id: UUID) -> list[str]:
        return [state.name or "" for state in sorted(self.client.read_flow_run_states(id), key=_when)]

    def artifact(self, id: UUID, key: str) -> str:
        found = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[id]))
        )
        return next((str(one.data) for one in found if one.key == key), "")


def _when(state: State[Any]) -> float:
    return state.timestamp.timestamp()


@contextmanager
def office(api: str) -> Iterator[Office]:
    from prefect.settings import temporary_settings

    with temporary_settings(updates={"api.url": api}), get_client(sync_client=True) as client:
        yield Office(client)


def form(desk: Desk, name: str, *, pace: float = 1.0, trials: int = 12, **more: Any) -> Json:
    """Of a study of `sleeper`, whose trials reach the store of the desk."""
    pods = {"store_endpoint": desk.minio.inside, "limits": {"memory": "64Mi"}, "grace": 5}
    advanced = {"env": {"PACE": pace}, "max_disruptions": 100, "kubernetes": pods}
    kinds = {"kind": {"type": "categorical", "values": ["good", "fine"]}}
    return sleeper.form(name, advanced, kinds, trials=trials, **more)
