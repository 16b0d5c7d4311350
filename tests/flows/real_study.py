"""Real local studies for tests: shell trials, and controllers as processes that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flows.study.file import load_study
from flows.study.model import Study

ROOT = Path(__file__).parents[2]

TRIAL = r"""
set -eu
cd "$ABOHB_TRIAL_DIR"
number() { sed -n "s/.*\"$2\": *\([-0-9.eE+]*\).*/\1/p" "$1"; }
epoch=$(number config.json from)
rate=$(number config.json rate)
sum=0
if [ -f checkpoint/sum ]; then sum=$(cat checkpoint/sum); fi
while [ "$epoch" -lt "$(number order.json until)" ] && ! grep -q '"stop": *true' order.json; do
    sleep 0.05
    epoch=$((epoch + 1))
    sum=$((sum + epoch))
    mkdir "ckpt-$epoch"
    echo "$sum" > "ckpt-$epoch/sum"
    numbers="\"epoch\": $epoch, \"loss\": $rate, \"sum\": $sum"
    echo "{$numbers, \"checkpoint\": \"ckpt-$epoch\"}" >> metrics.jsonl
done
"""

STUDY = """
name: {name}
command: [sh, trial.sh]
metrics: [loss, sum]
resource: {{min: 1, max: 9, eta: 3}}
space:
  rate: {{type: float, low: 0.0, high: 1.0}}
method: {method}
workers: 4
budget: {{trials: {trials}}}
max_failures: 100
max_disruptions: 100
store: ./runs
"""

TUNE = """
import sys
from flows.controller.run import tune_locally
from flows.study.file import load_study
view, ending = tune_locally(load_study(sys.argv[1]), [], take_over=len(sys.argv) > 2)
print(ending.reason)
"""


def write_study(
    folder: Path, *, name: str = "killed", method: str = "asha", trials: int = 30
) -> tuple[Path, Study]:
    (folder / "trial.sh").write_text(TRIAL)
    path = folder / "study.yaml"
    path.write_text(STUDY.format(name=name, method=method, trials=trials))
    return path, load_study(path)


def controller(path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TUNE, str(path), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trial_processes(folder: Path) -> list[int]:
    """Every process whose environment names a trial directory below `folder`: training code, not agents."""
    mark = f"ABOHB_TRIAL_DIR={folder}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if any(line.startswith(mark) for line in entry.read_bytes().split(b"\0")):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]
