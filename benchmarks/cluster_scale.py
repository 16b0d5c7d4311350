"""A thousand Jobs at once: what a pass costs, what the controller holds, how often it calls the API server.

    python -m benchmarks.cluster_scale --jobs 1000 --legs 4000 --seconds 240

Needs nodes of kwok with the label `type: kwok`, as its documentation makes them, on which a pod of a Job
succeeds after the milliseconds in its annotation `fake/run-ms`. Their pods run nothing: `benchmarks._agents`
writes to the store what agents would. The Jobs, their pods and the controller are real. The store is a MinIO
of its own (`minio` on PATH), or the one of ABOHB_S3_ENDPOINT and AWS_*.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._agents import Agents
from benchmarks._cluster import (
    begin,
    counted,
    kubeconfig,
    load,
    own_namespace,
    quantile,
    steer_to_end,
    until_legs,
)
from benchmarks._report import Figure, parser, publish
from hpo_engine.types import AttemptEnded
from operators.journal import Batch, Journal
from operators.kube.api import connect
from operators.stores import open_store
from tests.cluster.kit import Cluster
from tests.operators.stores import BUCKET, Minio, make_bucket

BUSY = 0.95  # of the Jobs: passes with fewer attempts alive are of the beginning or the end
START, END = 300.0, 600.0  # seconds


def study(name: str, jobs: int, seconds: float) -> dict[str, Any]:
    return {
        "name": name,
        # By its digest, as it is when the first pod has run; nobody pulls it.
        "image": f"registry.example/trial@sha256:{'0' * 64}",
        "command": ["true"],
        "metrics": ["loss"],
        "resource": {"name": "epoch", "min": 1, "max": 4, "eta": 2},
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "method": "asha",
        "workers": jobs,
        "budget": {"trials": 10**6},
        "max_disruptions": 100,
        "store": f"s3://{BUCKET}/scale",
        "kubernetes": {
            "agent_image": "registry.example/agent:1",
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "node_selector": {"type": "kwok"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
            "patch": {"metadata": {"annotations": {"fake/run-ms": f"{seconds * 1000:.0f}"}}},
        },
    }


@contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """How it is reached."""
    if os.environ.get("ABOHB_S3_ENDPOINT"):
        names = ("ABOHB_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        env = {name: os.environ[name] for name in names}
        yield env
        return
    program = shutil.which("minio")
    assert program, "give a MinIO server by PATH, or a store by ABOHB_S3_ENDPOINT and AWS_*"
    minio = Minio(program, folder)
    minio.start()
    try:
        yield minio.env
    finally:
        minio.stop()


def measure(
    cluster: Cluster,
    env: Mapping[str, str],
    config: Path,
    folder: Path,
    *,
    jobs: int,
    legs: int,
    seconds: float,
    options: tuple[str, ...] = (),
) -> list[Figure]:
    """`jobs` at once, each for so many seconds, until `legs` have ended. `env`: how the store is reached."""
    make_bucket(env)
    with counted(cluster) as server:
        began = server.began()
        calls, logs, before = server.calls(), server.log_fetches(), load()
        document = study(f"scale-{cluster.namespace[-8:]}", jobs, seconds)
        run = begin(document, folder, {**env, "KUBECONFIG": str(config)}, *options)
        store = open_store(run.study.store, env)
        api = connect(None, cluster.namespace, rate=1000.0, burst=1000)
        agents = Agents(api, store, run.study.name, seconds)
        agents.start()
        try:
            until_legs(run, legs, START + seconds * (2 + legs / jobs))
            steer_to_end(run, store)
            samples, last = run.wait(END)
        finally:
            agents.stop()
            with suppress(OSError):
                run.process.kill()
        journal = list(Journal(store, run.study.name).read())
        restarted = server.began() != began
        theirs, fetched = server.calls() - calls, server.log_fetches() - logs
    print(run.output.read_text(), file=sys.stderr, end="")
    for fault in agents.faults[:5]:
        print(f"stand-in: {fault}", file=sys.stderr)
    ours = sum(last["calls"].values())
    ours_logs = sum(n for call, n in last["calls"].items() if "pods/log" in call)
    return [
        Figure("load of the machine, before", before, ""),
        Figure("load of the machine, after", load(), ""),
        Figure("API server restarted meanwhile", restarted, "", most=0),  # then neither times nor calls hold
        Figure("pods at once", agents.most, "", least=jobs * 0.97),
        Figure("legs", last["legs"], ""),
        Figure("stand-in late at most", agents.late, "s"),
        Figure("stand-in faults", len(agents.faults), ""),
        Figure("API calls per leg, by us", ours / last["legs"], "", most=6),
        Figure("API calls per leg, by the server", (theirs + fetched) / last["legs"], "", most=6),
        Figure("calls by us, but logs", ours - ours_logs, ""),
        Figure("calls by the server", theirs, ""),
        *(Figure(f"calls: {call}", count, "") for call, count in sorted(last["calls"].items())),
        *decisions(journal, agents.ended),
        *passes(samples, jobs),
        Figure("controller, most memory", last["peak"], "MiB", most=500),
    ]


def decisions(journal: Sequence[Batch], ended: Mapping[tuple[int, int], float]) -> list[Figure]:
    """From a pod's end, as a watch of our own has it, to the journal; bursts are held back by our pace."""
    ends = [(batch.time, e) for batch in journal for e in batch.events if isinstance(e, AttemptEnded)]
    took = [at - ended[e.trial, e.attempt] for at, e in ends if (e.trial, e.attempt) in ended]
    return [
        Figure("pod's end to decision, median", quantile(took, 0.5), "s"),
        Figure("pod's end to decision, 99th percentile", quantile(took, 0.99), "s"),
    ]


def passes(samples: Sequence[Mapping[str, Any]], jobs: int) -> list[Figure]:
    """Of those with nearly all Jobs alive; the first third of the legs against the last."""
    last = [s for s in samples if s["live"] >= BUSY * jobs]
    if len(last) < 10:
        return [Figure("passes with all Jobs alive", len(last), "", least=10)]
    low, high = last[0]["legs"], last[-1]["legs"]
    early = [s for s in last if s["legs"] <= low + (high - low) / 3]
    late = [s for s in last if s["legs"] >= high - (high - low) / 3]
    took = last[-1]["at"] - last[0]["at"]
    figures = [
        Figure("passes with all Jobs alive", len(last), ""),
        Figure("passes a second", len(last) / took, ""),
        Figure("legs a second", (high - low) / took, ""),
        Figure("CPU of the controller then", (last[-1]["all_cpu"] - last[0]["all_cpu"]) / took, "cores"),
    ]
    for name, part in (("early", early), ("late", late)):
        figures += [
            Figure(f"legs ended, {name}", statistics.mean(s["legs"] for s in part), ""),
            Figure(f"pass, CPU, {name}", 1000 * statistics.median(s["cpu"] for s in part), "ms"),
            Figure(f"pass, {name}", 1000 * statistics.median(s["wall"] for s in part), "ms"),
            Figure(f"pass, 99th percentile, {name}", 1000 * quantile([s["wall"] for s in part], 0.99), "ms"),
            Figure(f"observing, CPU, {name}", 1000 * statistics.median(s["observing"] for s in part), "ms"),
            Figure(f"memory, {name}", statistics.median(s["mib"] for s in part), "MiB"),
        ]
    return figures


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--jobs", type=int, default=1000)
    arguments.add_argument("--legs", type=int, default=4000)
    arguments.add_argument("--seconds", type=float, default=240.0, help="that each Job runs")
    arguments.add_argument("--prefect", action="store_true", help="tell Prefect, as `abohb tune` does")
    given = arguments.parse_args()
    options = ("--prefect",) if given.prefect else ()
    with TemporaryDirectory(prefix="abohb-scale-") as name, own_namespace() as cluster:
        folder = Path(name)
        (folder / "minio").mkdir()
        with object_store(folder / "minio") as env:
            found = measure(
                cluster,
                env,
                kubeconfig(cluster, folder),
                folder,
                jobs=given.jobs,
                legs=given.legs,
                seconds=given.seconds,
                options=options,
            )
    return publish(found, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
