"""Prefect in the chart: our server or the user's own, database, password, the pod of a study."""

from __future__ import annotations

from tests.helm.chart import WORK_POOL, render


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
