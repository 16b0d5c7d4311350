"""How a cluster is reached and as whom: a kubeconfig or a pod's service account, read again when refused."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import urllib3

from hpo_engine.types import AbohbError
from operators.kube.errors import ApiAwayError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_AGAIN: Final = 10.0  # seconds before credentials that were refused are read once more

# A peer that has vanished is noticed within a minute, and no router forgets a quiet watch.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What one call is made with."""

    pool: urllib3.PoolManager
    host: str  # https://10.0.0.1:6443
    headers: Mapping[str, str] = field(repr=False)  # they have a secret
    generation: int


class Access:
    """Credentials that stay good for days: the kubernetes package renews them as they age, we when refused.

    `load` makes a kubernetes.client.Configuration. It is called again when the API server has answered 401:
    a kubeconfig's token or certificate was replaced, an exec plugin has a new one, a mounted token rotated.
    """

    def __init__(self, load: Callable[[], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._load, self._clock = load, clock
        self._lock = threading.Lock()
        self._generation = 0
        self._loaded = 0.0
        self._configuration: Any = None
        self._pool = urllib3.PoolManager()
        self._read()

    @property
    def host(self) -> str:
        return str(self._configuration.host).rstrip("/")

    def ticket(self) -> Ticket:
        """OSError: the credentials cannot be read now."""
        with self._lock:  # its hooks run plugins and read files: one thread at a time
            headers = {"User-Agent": "abohb", "Accept": "application/json"}
            try:
                settings = self._configuration.auth_settings()
            except OSError:
                raise
            except Exception as error:  # whatever a plugin throws: it may be better in a minute
                raise ApiAwayError(f"the credentials of the cluster cannot be read: {error}") from error
            for setting in settings.values():
                if setting["in"] == "header" and setting["value"]:
                    headers[setting["key"]] = setting["value"]
            return Ticket(self._pool, self.host, headers, self._generation)

    def renew(self, refused: Ticket) -> bool:
        """Read the credentials again, unless they just were; False: there is nothing better to try."""
        with self._lock:
            if refused.generation != self._generation:
                return True  # another thread has done it
            if self._clock() - self._loaded < _AGAIN:
                return False
            try:
                self._read()
            except Exception:  # of any parser or plugin: the old ones stay, and the caller hears of the 401
                self._loaded = self._clock()
                return False
            return True

    def close(self) -> None:
        self._pool.clear()

    def _read(self) -> None:
        from kubernetes.client.rest import RESTClientObject  # 0.4 s and 45 MiB: only where there is a cluster

        configuration = self._load()
        # Certificates, server name, proxies and their exceptions: made as the kubernetes package makes it.
        pool = RESTClientObject(configuration).pool_manager
        pool.connection_pool_kw["socket_options"] = _KEEPALIVE
        self._configuration, self._pool = configuration, pool
        self._generation += 1
        self._loaded = self._clock()


def find_access(context: str | None) -> tuple[Access, str]:
    """The cluster to use, and the namespace that it suggests. AbohbError says what to do if there is none.

    A kubeconfig if there is one ($KUBECONFIG, else ~/.kube/config), else the service account of this pod.
    """
    config = os.environ.get("KUBECONFIG") or "~/.kube/config"
    exists = any(Path(part).expanduser().is_file() for part in config.split(os.pathsep) if part)
    if exists or context is not None:
        return _from_kubeconfig(config, exists, context)
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").is_file():
        return _from_pod()
    raise AbohbError(
        f"no cluster: {config} does not exist, and this is no pod with a service account. Set KUBECONFIG, or "
        "run the controller in a pod whose service account is mounted (automountServiceAccountToken)."
    )


def _from_kubeconfig(config: str, exists: bool, context: str | None) -> tuple[Access, str]:
    if not exists:
        raise AbohbError(f"context {context!r} cannot be used: {config} does not exist. Set KUBECONFIG.")
    from kubernetes.client import Configuration
    from kubernetes.config import list_kube_config_contexts, load_kube_config

    def load() -> Any:
        configuration = Configuration()
        load_kube_config(config, context, configuration)
        return configuration

    try:
        contexts, current = list_kube_config_contexts(config)
    except Exception as error:  # ConfigException, YAML's, OSError
        raise AbohbError(f"{config} cannot be used as kubeconfig: {error}") from error
    named = {str(one["name"]): one for one in contexts}
    name = context if context is not None else str(current["name"])
    if name not in named:
        raise AbohbError(f"{config} has no context {name!r}. It has: {', '.join(sorted(named)) or 'none'}.")
    try:
        access = Access(load)
    except Exception as error:
        raise AbohbError(f"context {name!r} of {config} cannot be used: {error}") from error
    return access, str(named[name]["context"].get("namespace") or "default")


def _from_pod() -> tuple[Access, str]:
    from kubernetes.client import Configuration
    from kubernetes.config import load_incluster_config

    def load() -> Any:
        configuration = Configuration()
        load_incluster_config(configuration)
        return configuration

    try:
        access = Access(load)
    except Exception as error:
        raise AbohbError(f"the service account of this pod cannot be used: {error}") from error
    place = SERVICE_ACCOUNT / "namespace"
    return access, (place.read_text().strip() if place.is_file() else "") or "default"
