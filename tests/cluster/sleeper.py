"""A study whose trials do as their hyper-parameters say: quick, without Python, and ill-behaved on demand."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.study.model import Study
from tests.cluster.desk import Desk, merged
from tests.cluster.kit import Json, image

# For busybox. It exits 9 if the checkpoint is not that of the epoch that it should go on from.
SCRIPT = r"""
set -eu; cd "$ABOHB_TRIAL_DIR"
number() { sed -n "s/.*\"$2\": *\([-0-9.eE+]*\).*/\1/p" "$1"; }
echo "on $(cat config.json)"
epoch=$(number config.json from); x=$(number config.json x)
[ "$epoch" = 0 ] || [ "$(cat checkpoint/epoch)" = "$epoch" ] || exit 9
while [ "$epoch" -lt "$(number order.json until)" ] && ! grep -q '"stop": *true' order.json; do
  sleep "$PACE"; epoch=$((epoch + 1))
  if grep -q '"kind": "greedy"' config.json && [ "$epoch" -gt 1 ]; then tail -c 500m /dev/zero; fi
  if grep -q '"kind": "broken"' config.json; then echo "no such file: data.bin" >&2; exit 3; fi
  mkdir "ckpt-$epoch"; echo "$epoch" > "ckpt-$epoch/epoch"
  loss=$(awk -v x="$x" -v e="$epoch" 'BEGIN { printf "%.9g", (x - 0.3) * (x - 0.3) + 1 / e }')
  echo "{\"epoch\": $epoch, \"loss\": $loss, \"checkpoint\": \"ckpt-$epoch\"}" >> metrics.jsonl
done
"""


ILL = ("greedy", "broken")  # values of `kind`


def loss_of(x: float, epoch: int) -> float:
    return (x - 0.3) ** 2 + 1 / epoch


def sleeper(desk: Desk, changes: Mapping[str, Any] | None = None, pace: float = 1.0) -> tuple[Path, Study]:
    """`pace`: seconds an epoch takes. All trials behave well unless `changes` adds another `kind`."""
    base = {
        "name": "sleeper",
        "image": image("trial-shell"),
        "command": ["sh", "-c", SCRIPT],
        "env": {"PACE": pace},
        "metrics": ["loss"],
        "resource": {"name": "epoch", "min": 1, "max": 9, "eta": 3},
        "space": {
            "x": {"type": "float", "low": 0.0, "high": 1.0},
            "kind": {"type": "categorical", "values": ["good", "fine"]},
        },
        "method": "asha",
        "workers": 4,
        "budget": {"trials": 12},
        "max_failures": 0,
        "max_failed_trials": 50,
        "max_disruptions": 100,
        "kubernetes": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"memory": "64Mi"},
            "grace": 10,
        },
    }
    wanted = merged(base, changes or {})
    wanted["space"]["learning_rate"] = None  # of the example
    return desk.study("shell", wanted)


def form(name: str, advanced: Mapping[str, Any], space: Mapping[str, Any] | None = None, **more: Any) -> Json:
    """The form of such a study. `advanced`: other fields of a study file; `space`: besides x."""
    return {
        "study": name,
        "image": image("trial-shell"),
        "command": shlex.join(["sh", "-c", SCRIPT]),
        "metric": "loss",
        "search_space": yaml.safe_dump({"x": {"type": "float", "low": 0.0, "high": 1.0}, **(space or {})}),
        "resource_max": 9,
        "method": "asha",
        "workers": 2,
        "cpu": "10m",
        "memory": "16Mi",
        "advanced": yaml.safe_dump({"max_failures": 0, **advanced}),
        **more,
    }
