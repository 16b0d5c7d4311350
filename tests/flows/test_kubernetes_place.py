"""What a study makes of its Jobs, before any cluster is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.controller import kubernetes
from flows.controller.kubernetes import KubernetesPlace
from flows.study.file import parse_study
from operators.attempt import AttemptSpec
from operators.s3 import S3Store
from operators.s3_credentials import Credentials
from operators.store import StoreError
from operators.stores import open_store

STUDY: dict[str, object] = {
    "name": "s",
    "image": "r.example/d:1",
    "metrics": ["loss"],
    "resource": {"min": 1, "max": 9},
    "space": {
        "optimizer": {"type": "categorical", "values": ["sgd", "adam"]},
        "pool": {"type": "categorical", "values": ["a", "b"], "when": {"optimizer": "sgd"}},
    },
    "budget": {"trials": 3},
    "store": "s3://bucket/studies",
    "kubernetes": {
        "agent_image": "r.example/agent:1",
        "node_selector": {"pool": "pool-{pool}", "of": "{study}-{trial}", "where": "{trial_dir}"},
    },
}
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "ABOHB_S3_ENDPOINT": "http://box:9000"}


@pytest.fixture
def place(tmp_path: Path) -> KubernetesPlace:
    store = open_store("s3://bucket/studies", KEYS)
    assert isinstance(store, S3Store)

    class Cluster:
        namespace = "team"

    api: Any = Cluster()
    return KubernetesPlace(parse_study(STUDY, tmp_path), store, api)


@pytest.mark.parametrize(
    ("config", "selects"),
    [
        ({"optimizer": "sgd", "pool": "b"}, {"pool": "pool-b"}),
        ({"optimizer": "adam"}, {}),  # as arguments that name what a configuration has not
    ],
)
def test_a_label_of_a_parameter_that_is_not_there_is_left_out(
    place: KubernetesPlace, config: dict[str, Any], selects: dict[str, str]
) -> None:
    settings = place.settings(AttemptSpec("s", 7, 1, config, "epoch", 3, ("true",), ("loss",)))
    assert settings.node_selector == {**selects, "of": "s-7", "where": "/abohb/trial"}


@pytest.mark.parametrize(("most", "granted"), [(1e9, 12 * 3600), (3600, 3600)])
def test_keys_hold_for_an_hour_where_more_is_not_allowed(
    place: KubernetesPlace, monkeypatch: pytest.MonkeyPatch, most: float, granted: float
) -> None:
    def assume(*_: object, seconds: float, **__: object) -> Credentials:
        if seconds > most:
            raise StoreError("400: DurationSeconds exceeds MaxSessionDuration")
        return Credentials("key", "secret", "token", 0.0, seconds)

    monkeypatch.setattr(kubernetes, "assume", assume)
    assert place._assume(3).expires == granted
