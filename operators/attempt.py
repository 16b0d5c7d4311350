"""What a controller and an agent tell each other about one attempt, and under which keys of the store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeAlias, TypeVar

from hpo_engine.types import AttemptEnded, Config, Report
from operators.codec import CodecError, decode_event, dumps, encode_event

_E = TypeVar("_E", AttemptEnded, Report)
Verdict: TypeAlias = AttemptEnded  # the last word of an agent: how its attempt ended


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """All that an agent must know to run one attempt; (study, trial, attempt) is its identity."""

    study: str
    trial: int
    attempt: int
    config: Config
    resource: str  # the name of the resource, e.g. "epoch": the key of a metrics line
    until: int  # the order at the start; `order.json` in the store overrides it
    command: tuple[str, ...]  # argv, templates already filled in
    metrics: tuple[str, ...]  # names that every line must have; the first is the objective
    maximise: bool = False  # the objective; the checkpoint of its best value is kept
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)  # what is feasible
    resumable: bool = True  # False: always from 0, and `checkpoint/` is never there
    reported: int = 0  # the last resource whose report the controller has: older ones are not told again
    stall_after: float | None = None  # seconds without a line
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None  # where the command runs; None: the agent's own directory


@dataclass(frozen=True, slots=True)
class Observed:
    """An attempt as it is now: `running`, be it that it waits for something, or ended with a verdict."""

    running: bool
    verdict: Verdict | None = None
    cause: str = ""  # why it does not run now, though it may: "unschedulable: Insufficient nvidia.com/gpu"
    message: str = ""  # the platform's own words for that


@dataclass(frozen=True, slots=True)
class Order:
    """How far a trial shall go; `stop`: end after the report that it is working on."""

    until: int
    stop: bool = False
    attempt: int = 0  # the one that may act now: an agent of an earlier one has been replaced


def encode_spec(spec: AttemptSpec) -> bytes:
    return dumps(asdict(spec))


def decode_spec(data: bytes) -> AttemptSpec:
    values = json.loads(data)
    return AttemptSpec(**{**values, "command": tuple(values["command"]), "metrics": tuple(values["metrics"])})


def encode_verdict(verdict: Verdict) -> bytes:
    return dumps(encode_event(verdict))


def decode_verdict(data: bytes) -> Verdict:
    return _decode(data, AttemptEnded)


def encode_report(report: Report) -> bytes:
    """The `Report` as the journal writes it: strict JSON, nan and inf as words."""
    return dumps(encode_event(report))


def decode_report(data: bytes) -> Report:
    return _decode(data, Report)


def _decode(data: bytes, kind: type[_E]) -> _E:
    event = decode_event(json.loads(data))
    if not isinstance(event, kind):
        raise CodecError(f"{type(event).__name__} where {kind.__name__} is expected")
    return event


def encode_order(order: Order) -> bytes:
    return dumps(asdict(order))


def decode_order(data: bytes) -> Order:
    values = json.loads(data)
    return Order(int(values["until"]), bool(values["stop"]), int(values.get("attempt", 0)))


# -- keys ----------------------------------------------------------------------------------------


def inbox_prefix(study: str) -> str:
    return f"{study}/inbox/"


def report_key(study: str, report: Report) -> str:
    return f"{study}/inbox/{report.trial:08d}-{report.attempt:04d}-{report.resource:08d}.json"


def trial_prefix(study: str, trial: int) -> str:
    return f"{study}/trials/{trial:08d}/"


def order_key(study: str, trial: int) -> str:
    return f"{trial_prefix(study, trial)}order.json"


def claim_key(study: str, trial: int, attempt: int) -> str:
    """Which pod acts for an attempt: of two, one gets it."""
    return f"{trial_prefix(study, trial)}claims/{attempt:04d}.json"


def facts_key(study: str, trial: int, attempt: int) -> str:
    """What the agent of an attempt that is over knows of it, see `operators.verdict`."""
    return f"{trial_prefix(study, trial)}facts/{attempt:04d}.json"


def credentials_key(study: str, trial: int) -> str:
    """The temporary keys with which the agents of a trial shall go on."""
    return f"{trial_prefix(study, trial)}credentials.json"


def log_key(study: str, trial: int, attempt: int, stream: str) -> str:
    """`stream` is `stdout` or `stderr`; `log` where they are one."""
    return f"{trial_prefix(study, trial)}logs/{attempt:04d}.{stream}"


def rank(spec: AttemptSpec, report: Report) -> tuple[float, float]:
    """As the engine: feasible reports by loss, others by how far off they are, then diverged ones."""
    needed = (spec.metrics[0], *spec.bounds)
    if not all(math.isfinite(report.metrics.get(metric, math.nan)) for metric in needed):
        return (math.inf, math.inf)
    off = 0.0
    for metric, (low, high) in spec.bounds.items():
        value = report.metrics[metric]
        off += max(0.0, (value if low is None else low) - value, value - (value if high is None else high))
    return off, report.metrics[spec.metrics[0]] * (-1 if spec.maximise else 1)
