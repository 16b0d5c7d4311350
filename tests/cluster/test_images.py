"""Each image runs as a pod that Pod Security `restricted` lets through, on a root that is read-only."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cluster.kit import Cluster, image
from tests.cluster.pods import container, pod

pytestmark = pytest.mark.cluster

TRIAL = "/abohb/trial"
DIGITS = {"learning_rate": 0.05, "momentum": 0.9, "width": 32}


def prepared(hyperparameters: dict[str, float], until: int) -> str:
    """A shell script that makes the trial's directory, as the agent does."""
    about = {"study": "s", "trial": 0, "attempt": 1, "resource": "epoch", "from": 0}
    config = json.dumps({**about, "hyperparameters": hyperparameters})
    order = json.dumps({"until": until, "stop": False})
    return f"mkdir {TRIAL} && cd {TRIAL} && echo '{config}' > config.json && echo '{order}' > order.json"


@pytest.mark.parametrize(
    ("name", "hyperparameters", "metric"),
    [("shell", {"learning_rate": 0.1}, "loss"), ("digits", DIGITS, "val_error")],
)
def test_the_image_of_a_trial_trains_by_its_own_command(
    namespace: Cluster, name: str, hyperparameters: dict[str, float], metric: str
) -> None:
    shell = image("trial-shell")
    namespace.apply(
        pod(
            f"trial-{name}",
            container("prepare", shell, ["sh", "-c", prepared(hyperparameters, until=3)]),
            container("trial", image(f"trial-{name}"), env={"ABOHB_TRIAL_DIR": TRIAL, "HOME": "/abohb"}),
            container("show", shell, ["cat", f"{TRIAL}/metrics.jsonl"]),
        )
    )
    assert namespace.wait_pod(f"trial-{name}") == "Succeeded", namespace.logs(f"trial-{name}", "trial")
    lines = [json.loads(line) for line in namespace.logs(f"trial-{name}", "show").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2][metric] < lines[0][metric]


def test_the_shell_image_has_no_python(namespace: Cluster) -> None:
    script = (
        "for name in python python3 perl; do ! command -v $name || exit 1; done; awk 'BEGIN { print 6 * 7 }'"
    )
    namespace.apply(pod("no-python", container("main", image("trial-shell"), ["sh", "-c", script])))
    assert namespace.wait_pod("no-python") == "Succeeded"
    assert namespace.logs("no-python", "main").split() == ["42"]


def test_the_agent_image_loads_nothing_of_the_controller(namespace: Cluster) -> None:
    script = (
        "import sys, time; began = time.perf_counter(); import operators.sidecar, minio; "
        "print(time.perf_counter() - began, 'numpy' in sys.modules, 'kubernetes' in sys.modules)"
    )
    namespace.apply(pod("agent", container("main", image("agent"), ["python", "-c", script])))
    assert namespace.wait_pod("agent") == "Succeeded", namespace.logs("agent", "main")
    seconds, *heavy = namespace.logs("agent", "main").split()
    assert heavy == ["False", "False"]
    assert float(seconds) < 5  # 0.3 with compiled bytecode and a core to itself


def test_the_controller_image_runs_the_command(namespace: Cluster) -> None:
    study = {
        "name": "s", "command": ["true"], "metrics": ["loss"], "resource": {"max": 9},
        "space": {"x": {"type": "float", "low": 0, "high": 1}}, "budget": {"trials": 3},
    }  # fmt: skip
    script = f"cat > /tmp/study.yaml << END\n{yaml.safe_dump(study)}END\nabohb check /tmp/study.yaml --json"
    namespace.apply(pod("controller", container("main", image("controller"), ["sh", "-c", script])))
    assert namespace.wait_pod("controller") == "Succeeded", namespace.logs("controller", "main")
    assert json.loads(namespace.logs("controller", "main"))["name"] == "s"
