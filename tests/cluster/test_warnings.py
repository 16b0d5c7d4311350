"""What only events tell of, from a real Job controller."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hpo_engine.types import Outcome
from operators.kube.api import Api
from operators.kube.calls import Calls
from operators.kube.diagnose import Seen, diagnose
from operators.kube.status import uid
from operators.kube.warnings import Warnings
from tests.cluster.apis import job, own_namespace, until

pytestmark = pytest.mark.cluster


def seen(api: Api, warnings: Warnings, name: str) -> Seen:
    found: dict[str, Any] | None = api.get("jobs", name)
    assert found is not None
    return diagnose(found, [], time.time(), events=warnings.about([uid(found)]))


def test_a_quota_and_a_refusal_are_named() -> None:
    calls = Calls(lambda: None)
    with own_namespace() as api:
        warnings = Warnings(api, calls)
        quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/pods": "0"}}}
        path = f"/api/v1/namespaces/{api.namespace}/resourcequotas"
        api.request("create", path, None, quota)
        until(lambda: "hard" in api.request("get", f"{path}/few").get("status", {}))  # else it holds nothing
        api.create("jobs", job("waits", suspend=False))
        until(lambda: seen(api, warnings, "waits").cause == "quota: few", within=60)
        assert "count/pods" in seen(api, warnings, "waits").message
        assert seen(api, warnings, "waits").death is None  # it may begin later

        lacking = job("refused", suspend=False)
        lacking["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
        api.create("jobs", lacking)
        until(lambda: seen(api, warnings, "refused").cause.startswith("pod spec"), within=60)
        death = seen(api, warnings, "refused").death
        assert death is not None
        assert death.cause is Outcome.POD_SPEC
        assert "nobody" in str(death.evidence["message"])
    calls.stop()
