"""What the chart makes of its values."""

from __future__ import annotations

import pytest
import yaml

from tests.helm.chart import (
    CHART,
    ROOT,
    VALUES,
    VERSION,
    WORK_POOL,
    Json,
    Rendered,
    helm,
    refusal,
    render,
    rights,
    schema,
    values,
)

OWN_STORE = ('store.endpoint="https://s3.example:9443"', 'store.existingSecret="keys"')
OURS = ("abohb-controller", "abohb-agent")


@pytest.fixture(scope="module", params=VALUES)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(values=request.param)


@pytest.mark.parametrize("name", VALUES)
def test_helm_finds_no_fault(name: str) -> None:
    done = helm("lint", str(CHART), "--strict", VERSION, f"--values={CHART / name}")
    assert done.returncode == 0, done.stdout + done.stderr


# -- values --------------------------------------------------------------------------------------------


def test_a_typo_is_refused() -> None:
    assert "additional properties 'databse' not allowed" in refusal('prefect.databse.existingSecret="x"')


def test_the_schema_knows_the_values_and_no_others() -> None:
    def check(spec: Json, have: Json, path: str) -> None:
        assert spec["additionalProperties"] is False, path
        assert set(spec["properties"]) - {"global"} == set(have), path
        for key, value in have.items():
            if "properties" in spec["properties"][key] and key != "defaults":  # of which none is set
                check(spec["properties"][key], value, f"{path}.{key}")

    check(schema(), values(), "")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('controller.mode="pool"', "'serve', 'workPool'"),
        ('store.url="file:///data"', "store/url"),
        ('store.endpoint="s3.example"', "store/endpoint"),
        ('prefect.apiUrl="http://prefect.example"', "prefect/apiUrl"),
        ("policy.max_gpus=-1", "policy/max_gpus"),
        ('minio.storage.size="much"', "minio/storage/size"),
        ('resources={"cpu": 1}', "additional properties 'resources' not allowed"),
    ],
)
def test_a_value_that_cannot_be_is_refused(setting: str, words: str) -> None:
    assert words in refusal(setting)


# -- rights --------------------------------------------------------------------------------------------


def test_the_controller_has_the_role_of_rbac_yaml(rendered: Rendered) -> None:
    role, _ = yaml.safe_load_all((ROOT / "operators/rbac.yaml").read_text())
    assert rendered.of("Role")["abohb-trials"]["rules"] == role["rules"]
    (subject,) = rendered.of("RoleBinding")["abohb-trials"]["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "abohb-controller", "namespace": "tuning"}
    assert rendered.pod("abohb-controller")["serviceAccountName"] == "abohb-controller"


def test_the_tables_of_the_document_are_the_roles_of_the_chart() -> None:
    roles = render(*WORK_POOL).of("Role")
    for heading, role in (("The controller", "trials"), ("The worker", "worker")):
        rules = roles[f"abohb-{role}"]["rules"]
        granted = {(name, verb) for rule in rules for name in rule["resources"] for verb in rule["verbs"]}
        assert granted == rights(heading)


def test_nothing_is_asked_of_the_whole_cluster(plain: Rendered) -> None:
    assert {one["metadata"].get("namespace") for one in plain.objects} == {"tuning"}


def test_only_who_calls_kubernetes_has_a_token(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        calls = name in ("abohb-controller", "abohb-worker", "job.yaml")
        assert pod["spec"]["automountServiceAccountToken"] is calls, name


def test_no_role_reads_a_secret(rendered: Rendered) -> None:
    for role in rendered.of("Role").values():
        for rule in role["rules"]:
            assert "secrets" not in rule["resources"]
            assert "*" not in rule["resources"] + rule["verbs"]


# -- pods ----------------------------------------------------------------------------------------------


def test_pods_are_restricted_and_have_what_they_need(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["enableServiceLinks"] is False, name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert {"requests", "limits"} <= container["resources"].keys(), name
            if name not in ("job.yaml", "abohb-prefect-services") and container in spec["containers"]:
                assert {"livenessProbe", "startupProbe"} <= container.keys(), name


def test_selectors_never_change(plain: Rendered) -> None:
    """Those of a Deployment may not, and a new chart restarts no pod by its labels alone."""
    for name, one in plain.of("Deployment").items():
        selector = one["spec"]["selector"]["matchLabels"]
        assert selector == {
            "app.kubernetes.io/name": "abohb",
            "app.kubernetes.io/instance": "abohb",
            "app.kubernetes.io/component": name.removeprefix("abohb-"),
        }
        assert one["spec"]["template"]["metadata"]["labels"] == selector


def test_our_images_come_from_one_registry(rendered: Rendered) -> None:
    again = render('image.registry="registry.example/ml/"', 'image.tag="t"')
    used = {c["image"] for _, pod in again.pods() for c in pod["spec"]["containers"]}
    assert {"registry.example/ml/abohb-controller:t"} == {one for one in used if "minio" not in one}
    assert again.env("abohb-controller")["ABOHB_AGENT_IMAGE"] == "registry.example/ml/abohb-agent:t"


def test_budgets_are_of_pods_that_exist() -> None:
    for name in VALUES:
        made = render(values=name)
        parts = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for _, pod in made.pods()}
        budgets = [one["spec"] for one in made.of("PodDisruptionBudget").values()]
        chosen = {one["selector"]["matchLabels"]["app.kubernetes.io/component"] for one in budgets}
        assert chosen == parts - {"prefect-services", "study"}


# -- operation -----------------------------------------------------------------------------------------


def test_the_dashboard_and_the_metrics() -> None:
    made = render("metrics.dashboard=true", "metrics.serviceMonitor=true")
    files = {path.name: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    board = made.of("ConfigMap")["abohb.dashboard"]
    assert {name: text.strip() for name, text in (board["data"] or {}).items()} == {
        name: text.strip() for name, text in files.items()
    }
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    (monitor,) = made.of("ServiceMonitor").values()
    (endpoint,) = monitor["spec"]["endpoints"]
    ports = {one["name"] for one in made.of("Service")["abohb-controller"]["spec"]["ports"]}
    assert endpoint["port"] in ports
    assert endpoint["path"] == "/metrics"


def test_an_ingress_leads_to_the_server() -> None:
    made = render("ingress.enabled=true", 'ingress.host="tuning.example"', 'ingress.tlsSecret="tls"')
    (ingress,) = made.of("Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    service = path["backend"]["service"]
    assert service["name"] in made.of("Service")
    assert service["port"] == {"name": "http"}
    assert ingress["spec"]["tls"] == [{"hosts": ["tuning.example"], "secretName": "tls"}]
    assert made.env("abohb-prefect")["PREFECT_SERVER_UI_API_URL"] == "/api"
