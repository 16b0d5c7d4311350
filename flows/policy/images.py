"""Which registry an image comes from, as the kubelet will read its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

HUB = "docker.io"
LONGEST = 512  # characters
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?P<tag>:\w[\w.-]{{0,127}})?(?P<digest>@sha256:[0-9a-f]{{64}})?",
    re.ASCII,
)
_REGISTRY = re.compile(rf"(?:{_HOST}|{_PART})(?:/{_PART})*", re.ASCII)


def repository(image: str) -> str | None:
    """The full name behind an image: `docker.io/library/digits` for `digits:1`; None: it is no image's name.

    >>> repository("digits:1"), repository("registry.example:5000/team/digits@sha256:" + 64 * "0")
    ('docker.io/library/digits', 'registry.example:5000/team/digits')
    """
    found = _REFERENCE.fullmatch(image) if len(image) <= LONGEST else None
    return _full(found["name"]) if found else None


def _full(name: str) -> str:
    host, _, path = name.partition("/")
    if not path or not _is_host(host):
        host, path = HUB, name
    if host == f"index.{HUB}":
        host = HUB
    return f"{host}/library/{path}" if host == HUB and "/" not in path else f"{host}/{path}"


def _is_host(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def check_registry(value: str) -> str:
    value = value.rstrip("/")
    if not _REGISTRY.fullmatch(value):
        raise ValueError(
            f"got {value!r}, expected a registry or a part of one, without tag: registry.example/team"
        )
    return value


def allowed(image: str, registries: Iterable[str]) -> bool:
    """Whether it lies below one of them, whole parts of the name compared."""
    name = repository(image)
    return name is not None and any(_below(name, _base(registry)) for registry in registries)


def _base(registry: str) -> str:
    """`team` is `docker.io/team`, `localhost:5000` a host."""
    return registry if _is_host(registry.partition("/")[0]) else f"{HUB}/{registry}"


def _below(name: str, base: str) -> bool:
    return name == base or name.startswith(f"{base}/")


def shown(image: str) -> str:
    """The image, and whose it is where the name itself does not say so."""
    name = repository(image) or ""
    return repr(image) if image.startswith(name) else f"{image!r}, which is {name},"
