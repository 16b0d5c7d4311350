"""The PyTorch image: in it, too, a trial that pauses is bit for bit one that does not."""

from __future__ import annotations

import json

import pytest

from tests.cluster.kit import Cluster, image
from tests.cluster.pods import container, pod

pytestmark = pytest.mark.cluster

CONFIG = {"alpha": 1e-4, "batch_size": 64, "learning_rate": 0.05, "momentum": 0.9, "width": 32}
# What the agent does with a trial's directory; a trial that is promoted goes on in another process.
SCRIPT = """
import json, os, shutil, subprocess, sys, torch
def train(folder, start, until, options):
    about = {"study": "s", "trial": 0, "attempt": 1, "resource": "epoch", "from": start}
    json.dump({**about, "hyperparameters": CONFIG}, open(f"{folder}/config.json", "w"))
    json.dump({"until": until, "stop": False}, open(f"{folder}/order.json", "w"))
    if start:
        shutil.rmtree(f"{folder}/checkpoint", ignore_errors=True)
        os.rename(f"{folder}/checkpoint-{start}", f"{folder}/checkpoint")
    env = {**os.environ, "ABOHB_TRIAL_DIR": folder}
    subprocess.run([sys.executable, "train.py", *options], check=True, env=env)
def lines(folder):
    return open(f"{folder}/metrics.jsonl").read()
def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool((one == other).all()) if hasattr(one, "all") else one == other
def state(folder):
    return torch.load(f"{folder}/checkpoint-3/state.pt", weights_only=False)
def compared(name, options):
    whole, parts = both = f"/abohb/{name}-whole", f"/abohb/{name}-parts"
    os.mkdir(whole), os.mkdir(parts)
    train(whole, 0, 3, options)
    train(parts, 0, 1, options), train(parts, 1, 3, options)
    return {"told": list(map(lines, both)), "same": same(*map(state, both))}
found = [compared("plain", []), compared("mixed", ["--amp", "--workers=2"])]
print(json.dumps({"found": found, "user": os.getuid()}))
"""


def test_a_promoted_trial_is_an_uninterrupted_one_bit_for_bit(namespace: Cluster) -> None:
    script = f"CONFIG = {CONFIG}\n{SCRIPT}"
    training = container("main", image("trial-pytorch"), ["python", "-c", script])
    training["env"] = [{"name": "OMP_NUM_THREADS", "value": "1"}, {"name": "HOME", "value": "/abohb"}]
    namespace.apply(pod("pytorch", training))
    assert namespace.wait_pod("pytorch", within=300) == "Succeeded", namespace.logs("pytorch", "main")
    seen = json.loads(namespace.logs("pytorch", "main").splitlines()[-1])
    assert seen["user"] == 1000
    plain, mixed = seen["found"]
    assert plain["told"] != mixed["told"], "--amp changes nothing"
    for found in (plain, mixed):
        whole, parts = found["told"]
        assert whole == parts
        assert found["same"]
        errors = [json.loads(line)["val_error"] for line in whole.splitlines()]
        assert len(errors) == 3
        assert errors[2] < errors[0] < 0.9
