"""How soon after a trial's end the next decision stands in the journal, with 20 Jobs at once.

    ABOHB_TEST_REGISTRY=... ABOHB_TEST_TAG=... python -m benchmarks.cluster_latency --jobs 20 --legs 120

Real pods, on the nodes of the cluster that KUBECONFIG names; the images are those of the tests on a cluster
(tests/cluster/README.md). The end of a training process is what it says itself by the clock of its node, if
that is the machine of this benchmark too (kind is), else the kubelet's word, in whole seconds and up to one
too early. The journal's time is that of the object store: the decision is durable by then.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._cluster import (
    Json,
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
from hpo_engine.types import AttemptEnded, AttemptStarted, Outcome, Resume, Start
from operators.attempt import log_key
from operators.journal import Journal
from operators.kube.api import connect
from operators.kube.settings import AGENT_CONTAINER, TRIAL_CONTAINER, attempt_of, selector
from operators.kube.status import state, unix
from operators.kube.watch import Watcher
from operators.s3 import S3Store
from operators.stores import open_store
from tests.cluster.kit import Cluster, ObjectStore, image, minio_in

BOOT = Path("/proc/sys/kernel/random/boot_id")
END = 240.0  # seconds

# Its last act is to say when that was.
SCRIPT = r"""
set -eu; cd "$ABOHB_TRIAL_DIR"
number() { sed -n "s/.*\"$2\": *\([-0-9.eE+]*\).*/\1/p" "$1"; }
epoch=$(number config.json from); seconds=$(number config.json seconds)
while [ "$epoch" -lt "$(number order.json until)" ] && ! grep -q '"stop": *true' order.json; do
  sleep "$seconds"; epoch=$((epoch + 1))
  mkdir "ckpt-$epoch"; echo "$epoch" > "ckpt-$epoch/epoch"
  echo "{\"epoch\": $epoch, \"loss\": $seconds, \"checkpoint\": \"ckpt-$epoch\"}" >> metrics.jsonl
done
echo "ended $(cat /proc/sys/kernel/random/boot_id) $(cat /proc/uptime)"
"""

Key = tuple[int, int]  # (trial, attempt)


def study(name: str, bucket: str, endpoint: str, jobs: int, seconds: tuple[float, float]) -> dict[str, Any]:
    return {
        "name": name,
        "image": image("trial-shell"),
        "command": ["sh", "-c", SCRIPT],
        "metrics": ["loss"],
        "resource": {"name": "epoch", "min": 1, "max": 2, "eta": 2},
        "space": {"seconds": {"type": "float", "low": seconds[0], "high": seconds[1]}},
        "method": "asha",
        "workers": jobs,
        "budget": {"trials": 10**6},
        "max_disruptions": 100,
        "store": f"s3://{bucket}/latency",
        "kubernetes": {
            "agent_image": image("agent"),
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "store_endpoint": endpoint,
            "patch": {  # 20 pods on a machine that asks for 50m for each agent
                "spec": {
                    "initContainers": [
                        {"name": name, "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
                        for name in ("agent", "prepare")
                    ]
                }
            },
        },
    }


@dataclass
class Endings:
    """When a watch of our own heard of the end of each attempt's containers."""

    trial: dict[Key, float] = field(default_factory=dict)
    finished: dict[Key, float] = field(default_factory=dict)  # of the training code, by the kubelet's word
    agent: dict[Key, float] = field(default_factory=dict)

    def saw(self, pod: Json) -> Json:
        key, now = attempt_of(pod), time.time()
        trial, agent = state(pod, "terminated", TRIAL_CONTAINER), state(pod, "terminated", AGENT_CONTAINER)
        if key is not None and trial is not None:
            self.trial.setdefault(key, now)
            self.finished[key] = unix(trial.get("finishedAt")) or now
        if key is not None and agent is not None:
            self.agent.setdefault(key, now)
        return {"metadata": {name: pod["metadata"][name] for name in ("name", "uid", "resourceVersion")}}


def ended_itself(log: bytes | None) -> float | None:
    """By the clock of this machine; None if it ran on another one."""
    found = re.search(rb"^ended (\S+) (\S+)", log or b"", re.MULTILINE)
    if found is None or not BOOT.exists() or found[1].decode() != BOOT.read_text().strip():
        return None
    return time.time() - float(Path("/proc/uptime").read_text().split()[0]) + float(found[2])


def journalled(store: S3Store, name: str) -> dict[int, float]:
    """Number of a batch -> when the object store had it, in milliseconds' precision."""
    prefix = f"{store.prefix}{name}/journal/"
    found = store._quick.list_objects(bucket_name=store.bucket, prefix=prefix)
    return {
        int(Path(one.object_name).stem): one.last_modified.timestamp()
        for one in found
        if one.object_name and one.last_modified
    }


def measure(
    cluster: Cluster,
    minio: ObjectStore,
    config: Path,
    folder: Path,
    *,
    jobs: int,
    legs: int,
    seconds: tuple[float, float],
    options: tuple[str, ...] = (),
) -> list[Figure]:
    """`jobs` at once, until `legs` have ended; an epoch takes from `seconds[0]` to `seconds[1]`."""
    bucket, before, ends = f"{cluster.namespace}-latency", load(), Endings()
    minio.client().make_bucket(bucket_name=bucket)
    with counted(cluster) as server:
        began = server.began()
        calls = server.calls()
        run = begin(
            study("latency", bucket, minio.inside, jobs, seconds),
            folder,
            {**minio.environment(), "KUBECONFIG": str(config)},
            *options,
        )
        store = open_store(run.study.store, minio.environment())
        assert isinstance(store, S3Store)
        watcher = Watcher(
            connect(None, cluster.namespace), "pods", selector(run.study.name), lambda: None, ends.saw
        )
        watcher.start()
        try:
            until_legs(run, legs, within=120 + 3 * seconds[1] * (1 + legs / jobs))
            steer_to_end(run, store)
            _, last = run.wait(END)
        finally:
            with suppress(OSError):
                run.process.kill()
            watcher.stop()
        theirs, restarted = server.calls() - calls, server.began() != began
    ours = sum(last["calls"].values())
    return [
        Figure("load of the machine, before", before, ""),
        Figure("load of the machine, after", load(), ""),
        Figure("API server restarted meanwhile", restarted, "", most=0),  # then neither times nor calls hold
        *figures(store, run.study.name, ends),
        Figure("API calls per leg, by us", ours / last["legs"], "", most=6),
        Figure("API calls per leg but logs, by the server", theirs / last["legs"], "", most=6),
        Figure("controller, most memory", last["peak"], "MiB", most=500),
    ]


def figures(store: S3Store, name: str, ends: Endings) -> list[Figure]:
    """Of the attempts that ended by themselves: from the end of the process to the journal, and its parts."""
    times, whole, kubelet, ours, decided, exact = journalled(store, name), [], [], [], 0, 0
    batches = list(Journal(store, name).read())
    for batch in batches:
        ended = [e for e in batch.events if isinstance(e, AttemptEnded) and e.outcome is Outcome.OK]
        for event in ended:
            key = (event.trial, event.attempt)
            if key not in ends.finished:
                continue
            itself = ended_itself(store.get(log_key(name, *key, "log")))
            end = itself or ends.finished[key]
            exact += itself is not None
            whole.append(times[batch.number] - end)
            decided += any(isinstance(e, Start | Resume | AttemptStarted) for e in batch.events)
            if key in ends.agent:
                kubelet.append(ends.agent[key] - end)
                ours.append(times[batch.number] - ends.agent[key])
    for batch in batches:
        for event in batch.events:
            if isinstance(event, AttemptEnded) and event.outcome not in (Outcome.OK, Outcome.INTERRUPTED):
                print(f"trial {event.trial}: {event.outcome}: {dict(event.evidence)}", file=sys.stderr)
    return [
        Figure("legs that ended by themselves", len(whole), ""),
        Figure("their end by their own clock", exact, ""),
        Figure("next decision in the same batch", decided, ""),
        Figure("end to decision, median", quantile(whole, 0.5), "s"),
        Figure("end to decision, 99th percentile", quantile(whole, 0.99), "s", most=3),
        Figure("legs that took more than 3 s", sum(took > 3 for took in whole), ""),
        Figure("end to decision, longest", quantile(whole, 1.0), "s"),
        Figure("end to the last container's in a watch, median", quantile(kubelet, 0.5), "s"),
        Figure("end to the last container's in a watch, 99th percentile", quantile(kubelet, 0.99), "s"),
        Figure("from there to the decision, median", quantile(ours, 0.5), "s"),
        Figure("from there to the decision, 99th percentile", quantile(ours, 0.99), "s"),
    ]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--jobs", type=int, default=20)
    arguments.add_argument("--legs", type=int, default=120)
    arguments.add_argument("--seconds", type=float, nargs=2, default=(30.0, 90.0), help="that an epoch takes")
    arguments.add_argument("--prefect", action="store_true", help="tell Prefect, as `abohb tune` does")
    given = arguments.parse_args()
    options = ("--prefect",) if given.prefect else ()
    low, high = given.seconds
    with TemporaryDirectory(prefix="abohb-latency-") as name, own_namespace() as cluster:
        folder = Path(name)
        with minio_in(cluster) as minio:
            found = measure(
                cluster,
                minio,
                kubeconfig(cluster, folder),
                folder,
                jobs=given.jobs,
                legs=given.legs,
                seconds=(low, high),
                options=options,
            )
    return publish(found, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
