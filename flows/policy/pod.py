"""What no pod may have under a policy, however it came by it: a second look, at what a patch has made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flows.policy.images import allowed, repository, shown
from flows.policy.patch import AGENTS

# Fields that lead out of the pod, or send the agent's signed requests elsewhere.
NEVER: Final = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostAliases", "dnsConfig")
NEVER_IN_CONTEXT: Final = ("windowsOptions", "seLinuxOptions", "sysctls")
VOLUMES: Final = (
    "emptyDir", "persistentVolumeClaim", "configMap", "downwardAPI", "ephemeral", "secret", "projected",
)  # fmt: skip
PROJECTED: Final = ("configMap", "downwardAPI", "secret")
KEYS_VOLUME: Final = "agent"  # of the agent alone: renewed keys are written there
KINDS: Final = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a pod is held to."""

    registries: Collection[str]  # empty: any
    secrets: Collection[str]
    service_accounts: Collection[str]
    priority_classes: Collection[str]
    max_gpus: int | None
    labels: Mapping[str, str]


def pod_problems(pod: Mapping[str, Any], bounds: Bounds) -> list[str]:
    """Of a pod template as it would be sent to the API server."""
    spec = pod.get("spec") or {}
    return [
        *_labels(pod.get("metadata") or {}, bounds.labels),
        *_doors(spec, bounds),
        *_volumes(spec),
        *_containers(spec, bounds),
        *_secrets(spec, bounds.secrets),
        *_gpus(spec, bounds.max_gpus),
    ]


def _labels(metadata: Mapping[str, Any], wanted: Mapping[str, str]) -> Iterator[str]:
    found = metadata.get("labels") or {}
    for name, value in wanted.items():
        if found.get(name) != value:
            yield f"changes the label {name}, by which network policies know a trial; leave it as it is"
    for name in metadata.get("annotations") or {}:
        if "apparmor" in str(name) or "seccomp" in str(name):
            yield f"sets the annotation {name}, which weakens the container; leave it out"


def _doors(spec: Mapping[str, Any], bounds: Bounds) -> Iterator[str]:
    for name in NEVER:
        if spec.get(name):
            yield f"sets {name}, which no policy allows; leave it out"
    if spec.get("dnsPolicy") not in (None, "ClusterFirst"):
        yield "sets dnsPolicy, which no policy allows; leave it out"
    if spec.get("automountServiceAccountToken") is not False:
        yield "mounts a service account's token, which no policy allows; leave automountServiceAccountToken"
    for name in ("serviceAccountName", "serviceAccount"):
        yield from among(name, spec.get(name), bounds.service_accounts)
    yield from among("priorityClassName", spec.get("priorityClassName"), bounds.priority_classes)
    yield from _context(spec.get("securityContext") or {}, "the pod")
    if (spec.get("securityContext") or {}).get("runAsNonRoot") is not True:
        yield "lets the pod run as root, which no policy allows; leave runAsNonRoot"


def among(what: str, value: object, known: Collection[str]) -> Iterator[str]:
    if value and value not in known:
        yield f"{what} {value!r} is not allowed by the policy; {_listed(known)}".lstrip()


def _listed(known: Collection[str]) -> str:
    return f"it allows {', '.join(known)}" if known else "it allows none"


def _context(context: Mapping[str, Any], what: str) -> Iterator[str]:
    for name in NEVER_IN_CONTEXT:
        if context.get(name):
            yield f"sets {name} of {what}, which no policy allows; leave it out"
    if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield f"lets {what} run as root, which no policy allows"
    for name in ("seccompProfile", "appArmorProfile"):
        if (context.get(name) or {}).get("type") == "Unconfined":
            yield f"sets {name} of {what} to Unconfined, which no policy allows"


def _containers(spec: Mapping[str, Any], bounds: Bounds) -> Iterator[str]:
    for kind in KINDS:
        for item in spec.get(kind) or ():
            ours = kind == "initContainers" and item.get("name") in AGENTS
            yield from _container(item, bounds, ours=ours)


def _container(container: Mapping[str, Any], bounds: Bounds, *, ours: bool) -> Iterator[str]:
    name, context = container.get("name"), container.get("securityContext") or {}
    what = f"the container {name}"
    if not ours and bounds.registries:
        yield from image_problems(str(container.get("image") or ""), bounds.registries, f"{what}: ")
    capabilities = context.get("capabilities") or {}
    confined = (
        not context.get("privileged")
        and context.get("allowPrivilegeEscalation") is False
        and "ALL" in (capabilities.get("drop") or ())
        and not capabilities.get("add")
        and context.get("procMount") in (None, "Default")
    )
    if not confined:
        yield (
            f"{what} must keep securityContext: {{allowPrivilegeEscalation: false, "
            "capabilities: {drop: [ALL]}}, and add nothing"
        )
    yield from _context(context, what)
    if not ours and any(item.get("name") == KEYS_VOLUME for item in container.get("volumeMounts") or ()):
        yield f"{what} mounts the volume {KEYS_VOLUME!r}, where the agent keeps its keys; leave it out"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield f"{what} opens a hostPort, which no policy allows; leave it out"
    if any(name in ("httpGet", "tcpSocket") and value.get("host") for name, value in _walk(container)):
        yield f"{what} has a probe of another host, which no policy allows; leave host out"


def image_problems(image: str, registries: Collection[str], where: str = "") -> Iterator[str]:
    if repository(image) is None:
        yield f"{where}{image!r} is not the name of an image"
    elif not allowed(image, registries):
        known = ", ".join(registries)
        yield f"{where}{shown(image)} is not allowed by the policy; it allows images of {known}"


def _volumes(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        name, kinds = volume.get("name"), [kind for kind in volume if kind != "name"]
        for kind in kinds:
            if kind not in VOLUMES:
                yield f"the volume {name} is a {kind}, which no policy allows; it may be {', '.join(VOLUMES)}"
        if name == KEYS_VOLUME and kinds != ["emptyDir"]:
            yield f"changes the volume {KEYS_VOLUME!r}, where the agent keeps its keys; leave it as it is"
        for source in (volume.get("projected") or {}).get("sources") or ():
            for kind in source:
                if kind not in PROJECTED:
                    yield f"the volume {name} holds a {kind}, which no policy allows; leave it out"


def _secrets(spec: Mapping[str, Any], known: Collection[str]) -> Iterator[str]:
    names = dict.fromkeys(str(name) for name in _secret_names(spec))
    for name in names:
        yield from among("the Secret", name, known)


def _secret_names(spec: Mapping[str, Any]) -> Iterator[object]:
    yield from (item.get("name") for item in spec.get("imagePullSecrets") or ())
    for name, value in _walk(spec):
        if name in ("secretRef", "secretKeyRef", "nodePublishSecretRef"):
            yield value.get("name")
        elif name == "secret":
            yield value.get("secretName") or value.get("name")


def _gpus(spec: Mapping[str, Any], most: int | None) -> Iterator[str]:
    """Extended resources, whatever they are called, of all containers together."""
    containers = [item for kind in KINDS for item in spec.get(kind) or ()]
    asked = [item.get("resources") or {} for item in containers]
    count = sum(extended({**(one.get("requests") or {}), **(one.get("limits") or {})}) for one in asked)
    yield from gpu_problems(count, most)
    if most is not None and spec.get("resourceClaims"):
        yield "asks for devices by resourceClaims, which cannot be counted; ask for them by gpus"


def gpu_problems(count: int, most: int | None) -> Iterator[str]:
    if most is not None and count > most:
        yield f"asks for {count} GPU{'s' if count > 1 else ''} for a trial; the policy allows {most}"


def extended(resources: Mapping[str, object]) -> int:
    """How many devices: all that is neither CPU, memory nor any other resource of Kubernetes itself."""
    return sum(_count(value) for name, value in resources.items() if "/" in str(name) and value is not None)


def _count(value: object) -> int:
    text = str(value)
    return int(text) if text.isdigit() else 10**9  # 1e3, 1k: nobody writes GPUs so


def _walk(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All mappings below, with the name of the field that they are the value of."""
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, below in items:
        if isinstance(below, Mapping):
            yield str(name), below
        yield from _walk(below)
