"""What the chart makes of its values."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.policy.apply import read_policy
from flows.policy.model import Policy
from flows.study.kubernetes import Kubernetes
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


@pytest.fixture(scope="module")
def plain() -> Rendered:
    return render()


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


# -- Prefect -------------------------------------------------------------------------------------------


def test_a_prefect_of_ones_own() -> None:
    made = render('prefect.apiUrl="https://prefect.example/api"')
    assert "abohb-prefect" not in made.of("Deployment") | made.of("Service") | made.of(
        "PersistentVolumeClaim"
    )
    assert made.env("abohb-controller")["PREFECT_API_URL"] == "https://prefect.example/api"


def test_a_database_of_ones_own() -> None:
    made = render('prefect.database.existingSecret="postgres"')
    assert set(made.of("PersistentVolumeClaim")) == {"abohb-minio"}
    url = made.env("abohb-prefect")["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert url == {"secretKeyRef": {"name": "postgres", "key": "url"}}


def test_several_servers_share_messages_and_leave_the_services_to_one() -> None:
    made = render(values="values-production.yaml")
    assert made.of("Deployment")["abohb-prefect"]["spec"]["replicas"] == 2
    (server,) = made.pod("abohb-prefect")["containers"]
    assert server["command"][-1] == "--no-services"
    for name in ("abohb-prefect", "abohb-prefect-services"):
        env = made.env(name)
        assert env["PREFECT_MESSAGING_BROKER"] == "prefect_redis.messaging"
        given = {"secretKeyRef": {"name": "prefect-redis", "key": "url"}}
        assert env["PREFECT_REDIS_MESSAGING_URL"] == env["PREFECT_SERVER_DOCKET_URL"] == given


def test_the_password_is_asked_for_and_given() -> None:
    made = render("prefect.auth.enabled=true")
    given = {"secretKeyRef": {"name": "abohb-auth", "key": "auth-string"}}
    assert made.env("abohb-prefect")["PREFECT_SERVER_API_AUTH_STRING"] == given
    assert made.env("abohb-controller")["PREFECT_API_AUTH_STRING"] == given
    assert "abohb-auth" in made.of("Secret")
    theirs = render('prefect.auth.existingSecret="mine"')
    assert "abohb-auth" not in theirs.of("Secret")
    assert theirs.env("abohb-prefect")["PREFECT_SERVER_API_AUTH_STRING"]["secretKeyRef"]["name"] == "mine"


def test_a_pod_for_each_study() -> None:
    made = render(*WORK_POOL, "prefect.auth.enabled=true")
    (controller,) = made.pod("abohb-controller")["containers"]
    assert controller["args"] == ["--work-pool", "abohb", "--job-template", "/etc/abohb/job.yaml"]
    (study,) = made.pod("job.yaml")["containers"]
    assert study["command"] == ["python", "-m", "flows.deployment.child"]
    (same,) = (one for one in made.pods() if one[0] == "abohb-controller")
    shared = {"ABOHB_STORE", "ABOHB_POLICY", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING"}
    assert shared <= {one["name"] for one in study["env"]}
    assert made.pod("job.yaml")["serviceAccountName"] == same[1]["spec"]["serviceAccountName"]
    assert made.pod("abohb-worker")["serviceAccountName"] == "abohb-worker"


# -- store ---------------------------------------------------------------------------------------------


def test_a_store_of_ones_own() -> None:
    made = render(*OWN_STORE)
    assert "abohb-minio" not in made.of("Deployment") | made.of("PersistentVolumeClaim")
    assert not made.of("Secret")
    env = made.env("abohb-controller")
    assert env["ABOHB_S3_ENDPOINT"] == "https://s3.example:9443"
    assert env["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "keys", "key": "AWS_ACCESS_KEY_ID"}}


def test_aws_by_the_clouds_role() -> None:
    made = render(
        "minio.enabled=false", 'controller.serviceAccount.annotations={"eks.amazonaws.com/role-arn": "a"}'
    )
    env = made.env("abohb-controller")
    assert not {"ABOHB_S3_ENDPOINT", "AWS_ACCESS_KEY_ID"} & env.keys()
    account = made.of("ServiceAccount")["abohb-controller"]
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "a"}


def test_passwords_are_in_secrets_alone(plain: Rendered) -> None:
    again = render()
    secrets = [
        one["data"]["AWS_SECRET_ACCESS_KEY"] for made in (plain, again) for one in made.of("Secret").values()
    ]
    assert len(set(secrets)) == 2  # nobody's password is in the chart
    decoded = base64.b64decode(secrets[0]).decode()
    assert len(decoded) == 40
    others = [one for one in plain.objects if one["kind"] != "Secret"]
    assert decoded not in yaml.safe_dump(others)


def test_data_is_kept_unless_told_otherwise() -> None:
    kept = {"Secret", "PersistentVolumeClaim", "Namespace"}
    both = ("prefect.auth.enabled=true", 'trials.namespace="t"', "trials.createNamespace=true")

    def policies(made: Rendered) -> dict[str, Any]:
        return {
            f"{one['kind']}/{one['metadata']['name']}": (one["metadata"].get("annotations") or {}).get(
                "helm.sh/resource-policy"
            )
            for one in made.objects
        }

    for name, policy in policies(render(*both)).items():
        assert (policy == "keep") is (name.split("/")[0] in kept), name
    assert set(policies(render(*both, "keepData=false")).values()) == {None}


# -- trials --------------------------------------------------------------------------------------------


def test_trials_in_a_namespace_of_their_own() -> None:
    made = render('trials.namespace="trials"', "trials.createNamespace=true", 'quota.hard={"pods": 9}')
    labels = made.of("Namespace")["trials"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for kind in ("Role", "RoleBinding", "NetworkPolicy", "ResourceQuota"):
        assert made.of(kind)["abohb-trials"]["metadata"]["namespace"] == "trials"
    assert made.env("abohb-controller")["ABOHB_TRIALS_NAMESPACE"] == "trials"


def test_priorities() -> None:
    made = render("priorityClasses.create=true", 'quota.hard={"pods": 9}')
    classes = made.of("PriorityClass")
    assert classes["tuning-abohb-trials"]["value"] < 0 < classes["tuning-abohb-server"]["value"]
    assert made.policy()["defaults"]["priority_class"] == "tuning-abohb-trials"
    assert made.pod("abohb-controller")["priorityClassName"] == "tuning-abohb-server"
    (scope,) = made.of("ResourceQuota")["abohb-trials"]["spec"]["scopeSelector"]["matchExpressions"]
    assert scope["values"] == ["tuning-abohb-trials"]
    mine = (
        "priorityClasses.create=true",
        'quota.hard={"pods": 9}',
        'policy.defaults={"priority_class": "batch"}',
    )
    (scope,) = render(*mine).of("ResourceQuota")["abohb-trials"]["spec"]["scopeSelector"]["matchExpressions"]
    assert scope["values"] == ["batch"], "the one that trials have"
    apart = render(*mine, 'trials.namespace="theirs"').of("ResourceQuota")["abohb-trials"]
    assert "scopeSelector" not in apart["spec"], "all that is there"


def test_defaults_are_those_of_a_study() -> None:
    known = schema()["properties"]["policy"]["properties"]["defaults"]["properties"]
    assert known.keys() == Kubernetes.model_fields.keys()
    assert "requets" in refusal('policy.defaults={"requets": {"memory": "4Gi"}}')
    assert "memory" in refusal('policy.defaults={"requests": {"memory": "4Gb"}}')
    render('policy.defaults={"requests": {"memory": "4Gi", "cpu": 1.5, "nvidia.com/gpu": 1}}')


def test_a_bucket_of_digits_is_a_name() -> None:
    (container,) = render('store.url="s3://2024/studies"').pod("abohb-minio")["containers"]
    assert {"name": "BUCKET", "value": "2024"} in container["env"]


# -- policy --------------------------------------------------------------------------------------------


def test_the_policy_is_as_the_values_say() -> None:
    made = render('policy.registries=["registry.example/ml"]', 'policy.defaults={"requests": {"cpu": "2"}}')
    given = {"registries": ["registry.example/ml"], "defaults": {"requests": {"cpu": "2"}}}
    without = {name: value for name, value in values()["policy"].items() if name != "stores"}
    assert made.policy() == without | given  # no stores: that of the controller alone
    assert made.env("abohb-controller")["ABOHB_POLICY"] == "/etc/abohb/policy.yaml"


@pytest.mark.parametrize("name", VALUES)
def test_the_controller_can_read_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(render(values=name).policy()))
    policy = read_policy({"ABOHB_POLICY": str(tmp_path / "policy.yaml")})
    assert policy is not None
    assert policy.max_gpus == 8


def test_each_part_of_a_policy_is_a_value() -> None:
    assert set(Policy.model_fields) == set(values()["policy"])


def test_null_and_empty_are_no_limit(plain: Rendered) -> None:
    assert not {"registries", "stores"} & plain.policy().keys()
    assert (
        not {"max_gpus", "max_workers"}
        & render("policy.max_gpus=null", "policy.max_workers=null").policy().keys()
    )


def test_another_policy_restarts_the_controller(plain: Rendered) -> None:
    def mark(made: Rendered) -> str:
        template = made.of("Deployment")["abohb-controller"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/policy"])

    assert mark(plain) == mark(render())
    assert mark(plain) != mark(render("policy.max_gpus=1"))


def test_the_api_server_holds_the_policy_if_told_so() -> None:
    made = render(
        "admission.enabled=true",
        'policy.registries=["registry.example/ml/"]',
        'policy.secrets=["pull"]',
        "policy.max_gpus=3",
    )
    policy = made.of("ValidatingAdmissionPolicy")["tuning-abohb-trials"]["spec"]
    (condition,) = policy["matchConditions"]
    assert '"system:serviceaccount:tuning:abohb-controller"' in condition["expression"]
    text = " ".join(one["expression"] for one in policy["validations"])
    assert '["registry.example/ml"]' in text
    assert "variables.devices <= 3" in text
    assert policy["failurePolicy"] == "Fail"
    (binding,) = made.of("ValidatingAdmissionPolicyBinding").values()
    assert binding["spec"] == {"policyName": "tuning-abohb-trials", "validationActions": ["Deny"]}


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
