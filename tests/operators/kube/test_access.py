"""Which cluster is used, and as whom: real configuration files, no cluster."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hpo_engine.types import AbohbError
from operators.kube import access
from operators.kube.access import Access, find_access
from operators.kube.api import connect

CLUSTERS = [{"name": "c", "cluster": {"server": "http://10.0.0.1:6443"}}]
USERS = [{"name": "u", "user": {"token": "secret"}}]
CONTEXTS = [
    {"name": "dev", "context": {"cluster": "c", "user": "u"}},
    {"name": "prod", "context": {"cluster": "c", "user": "u", "namespace": "ml"}},
]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A kubeconfig with these parts replaced, under KUBECONFIG."""

    def write(**parts: object) -> Path:
        config = {
            "clusters": CLUSTERS,
            "users": USERS,
            "contexts": CONTEXTS,
            "current-context": "dev",
            **parts,
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump({key.replace("_", "-"): value for key, value in config.items()}))
        monkeypatch.setenv("KUBECONFIG", str(path))
        return path

    return write


@pytest.mark.parametrize(
    ("context", "namespace", "used"),
    [(None, None, "default"), ("prod", None, "ml"), ("prod", "mine", "mine")],
)
def test_context_and_namespace(context: str | None, namespace: str | None, used: str, write: Write) -> None:
    write()
    api = connect(context, namespace)
    assert (api.namespace, api.host) == (used, "http://10.0.0.1:6443")


def test_several_files(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(current_context="prod", contexts=CONTEXTS[1:])
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{path}")
    assert connect().namespace == "ml"


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        (None, None, "no cluster: .*Set KUBECONFIG, or run the controller in a pod"),
        (None, "dev", "context 'dev' cannot be used: .* does not exist"),
        ({}, "test", "has no context 'test'. It has: dev, prod."),
        ({"current_context": "gone"}, None, "cannot be used as kubeconfig: .*gone"),
        ({"clusters": []}, None, "cannot be used as kubeconfig: .*object with name c"),
        (
            {"users": [{"name": "u", "user": {"tokenFile": "/none"}}]},
            "dev",
            "'dev' .* cannot be used: .*/none",
        ),
        ("a: [", None, "cannot be used as kubeconfig: "),
        ("", None, "cannot be used as kubeconfig: "),
        ("- 1", None, "cannot be used as kubeconfig: "),
    ],
)
def test_what_is_said_without_a_cluster(
    text: str | dict[str, object] | None, context: str | None, words: str, write: Write
) -> None:
    if isinstance(text, dict):
        write(**text)
    elif text is not None:
        write().write_text(text)
    with pytest.raises(AbohbError, match=words) as caught:
        find_access(context)
    assert "secret" not in str(caught.value)


def authorization(access: Access) -> str:
    return access.ticket().headers.get("authorization", "")


PLUGIN = """
import json, sys
api = "client.authentication.k8s.io/v1"
with open(sys.argv[1]) as file:
    print(json.dumps({"apiVersion": api, "kind": "ExecCredential", "status": json.load(file)}))
"""


@pytest.fixture
def gives(write: Write, tmp_path: Path) -> Callable[..., None]:
    """A kubeconfig whose user has a plugin; each call says what the plugin gives from now on."""
    status, script = tmp_path / "status.json", tmp_path / "plugin.py"
    script.write_text(PLUGIN)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable,
        "args": [str(script), str(status)], "interactiveMode": "Never",
    }  # fmt: skip
    write(users=[{"name": "u", "user": {"exec": plugin}}])
    return lambda **given: status.write_text(json.dumps(given))


def test_an_exec_plugin_is_run_again_when_its_token_expires_or_is_refused(gives: Callable[..., None]) -> None:
    gives(token="first", expirationTimestamp="2020-01-01T00:00:00Z")
    now = [0.0]
    found = Access(find_access(None)[0]._load, clock=lambda: now[0])
    gives(token="second", expirationTimestamp="2099-01-01T00:00:00Z")
    assert authorization(found) == "Bearer second"  # the first had expired
    gives(token="third", expirationTimestamp="2099-01-01T00:00:00Z")
    ticket = found.ticket()
    assert ticket.headers["authorization"] == "Bearer second"
    now[0] = 60.0
    assert found.renew(ticket)  # as after a 401
    assert authorization(found) == "Bearer third"
    assert found.renew(ticket), "another thread's 401 of the same moment: there is something newer already"
    assert not found.renew(found.ticket()), "just read: nothing better to try"


def test_a_plugin_that_gives_a_client_certificate(gives: Callable[..., None]) -> None:
    gives(clientCertificateData="C", clientKeyData="K")
    found, _ = find_access(None)
    assert authorization(found) == ""
    assert Path(found.ticket().pool.connection_pool_kw["cert_file"]).read_text() == "C"


def test_a_kubeconfig_that_was_replaced_is_read_after_a_refusal(write: Write) -> None:
    path = write()
    now = [0.0]
    found = Access(find_access(None)[0]._load, clock=lambda: now[0])
    ticket = found.ticket()
    now[0] = 60.0
    path.write_text("broken: [")
    assert not found.renew(ticket)
    assert authorization(found) == "Bearer secret", "the old ones stay"
    write(users=[{"name": "u", "user": {"token": "newer"}}])
    assert not found.renew(ticket), "not at every refusal"
    now[0] = 120.0
    assert found.renew(ticket)
    assert authorization(found) == "Bearer newer"
    assert found.ticket().pool is not ticket.pool, "new connections: a certificate may have changed too"


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a pod has of its service account."""
    mounted = tmp_path / "serviceaccount"
    mounted.mkdir()
    (mounted / "token").write_text("first")
    (mounted / "ca.crt").write_text("-----BEGIN CERTIFICATE-----")
    (mounted / "namespace").write_text("tuning\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", mounted)
    for name, file in (("TOKEN", "token"), ("CERT", "ca.crt")):
        path = str(mounted / file)
        monkeypatch.setattr(f"kubernetes.config.incluster_config.SERVICE_{name}_FILENAME", path)
    return mounted


def test_in_a_pod(pod: Path) -> None:
    api = connect()
    assert (api.host, api.namespace) == ("https://10.0.0.1:443", "tuning")
    (pod / "namespace").unlink()
    assert connect().namespace == "default"


def test_a_kubeconfig_is_preferred_in_a_pod_too(pod: Path, write: Write) -> None:
    write()
    assert connect().host == "http://10.0.0.1:6443"


def test_a_mounted_token_is_rotated(pod: Path) -> None:
    now = [0.0]
    found = Access(find_access(None)[0]._load, clock=lambda: now[0])
    ticket = found.ticket()
    assert ticket.headers["authorization"] == "bearer first"
    (pod / "token").write_text("second")
    now[0] = 60.0
    assert found.renew(ticket)
    assert authorization(found) == "bearer second"


class Later(datetime.datetime):
    """The clock of the kubernetes package, two minutes on."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Later:
        return cls.fromtimestamp(super().now(tz).timestamp() + 120, tz)


def test_a_mounted_token_is_read_every_minute(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubernetes package does it, without a refusal. One that cannot be read now can be later."""
    found, _ = find_access(None)
    (pod / "token").write_text("second")
    assert authorization(found) == "bearer first"
    monkeypatch.setattr("kubernetes.config.incluster_config.datetime.datetime", Later)
    (pod / "token").write_text("")
    with pytest.raises(OSError, match=r"credentials of the cluster cannot be read: .*empty"):
        found.ticket()
    (pod / "token").unlink()
    with pytest.raises(FileNotFoundError):
        found.ticket()
    (pod / "token").write_text("second")
    assert authorization(found) == "bearer second"


def test_a_pod_without_a_token_is_no_cluster(pod: Path) -> None:
    (pod / "token").unlink()
    with pytest.raises(AbohbError, match="automountServiceAccountToken"):
        connect()


def test_a_ticket_does_not_show_its_secret(write: Write) -> None:
    write()
    found, _ = find_access(None)
    assert "secret" in found.ticket().headers["authorization"]
    assert "secret" not in repr(found.ticket())
