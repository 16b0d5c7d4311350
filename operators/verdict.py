"""How an attempt ended, from what its agent knows of it and what the platform knows of its process."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from signal import Signals
from typing import Any

from hpo_engine.types import AttemptEnded, Outcome

QUOTED = 2000  # characters of one piece of evidence
MESSAGE = 4096  # bytes of a termination message: Kubernetes cuts off what is longer

# Faults of the training code itself: a second try would end the same way.
_CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP", "SIGPIPE"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the agent knows of an attempt that is over."""

    trial: int
    attempt: int
    resource: str = ""  # its name, e.g. "epoch"
    start: int = 0  # the resource of the checkpoint that it was resumed from
    reached: int = 0  # the resource of the last line that is committed
    units: int = 0  # that it ran, whether they could be committed or not
    until: int = 0  # its last order
    stop: bool = False
    fulfilled: bool = False  # it did as it was ordered
    overran: bool = False  # it wrote a line beyond `until`
    fault: str = ""  # how it broke the contract
    ended: Outcome | None = None  # why the agent itself has ended it
    stall_after: float | None = None  # seconds without a line after which it does
    message: str = ""  # what the agent has to say besides
    torn: str = ""  # checkpoints that could not be restored
    saved: bool = True  # all lines were read and committed; False: the agent was killed before that
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Death:
    """What the platform knows: the exit code, and whether it was the platform that ended it."""

    code: int | None = None  # negative: a signal; None: it never ran, or nobody knows
    cause: Outcome | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)  # `message`, `log` (last lines), `reason`, ...


def judge(facts: Facts | None, death: Death, trial: int, attempt: int) -> AttemptEnded:
    """The verdict. `facts` of another attempt are none."""
    if facts is not None and (facts.trial, facts.attempt) != (trial, attempt):
        facts = None
    outcome, said = _without_facts(death) if facts is None else _judge(facts, death)
    facts, code = facts or Facts(trial, attempt), death.code
    told = {
        "exit code": str(code) if code is not None and code >= 0 else "",
        "signal": _signal(-code) if code is not None and code < 0 else "",
        **death.evidence,
        "message": facts.message or said or death.evidence.get("message", ""),
        "torn checkpoints": facts.torn,
    }
    if outcome is Outcome.OK:
        told.pop("log", None)
    evidence = {name: text[-QUOTED:] for name, text in told.items() if text}
    return AttemptEnded(trial, attempt, outcome, facts.units, facts.start, facts.seconds, evidence)


def _judge(facts: Facts, death: Death) -> tuple[Outcome, str]:
    so_far = f"after {facts.resource} {facts.reached}, ordered until {facts.until}"
    if facts.fulfilled:
        return Outcome.OK, "it went on past its order and was ended" if facts.overran else facts.fault
    if facts.fault:
        return Outcome.NO_METRIC, facts.fault
    if facts.ended is Outcome.STALLED:
        return facts.ended, f"no line in metrics.jsonl for {facts.stall_after or 0:g} s {so_far}"
    if facts.ended is not None:
        return facts.ended, f"ended by us {so_far}"
    if facts.stop and (death.code == 0 or (death.cause is None and death.code is None)):
        return Outcome.OK, ""
    if death.cause is not None:
        words = death.evidence.get("message", "")
        return death.cause, f"{death.cause} {so_far}{words and f': {words}'}"
    if death.code is None:
        return Outcome.LOST, f"nobody knows how it ended {so_far}"
    if death.code == 0:
        return _stopped_short(facts, so_far)
    return _died(death.code), f"{_exit(death.code)} {so_far}"


def _stopped_short(facts: Facts, so_far: str) -> tuple[Outcome, str]:
    if not facts.saved:  # what it wrote last is unknown: this may have been no fault of its own
        return Outcome.LOST, f"its last lines could not be saved {so_far}"
    wrote = "" if facts.reached > facts.start else "; it wrote no line to metrics.jsonl"
    return Outcome.NO_METRIC, f"exited 0 {so_far}{wrote} (docs/trial-contract.md)"


def _without_facts(death: Death) -> tuple[Outcome, str]:
    if death.cause is not None:
        return death.cause, death.evidence.get("message") or str(death.cause)
    if death.code:
        return _died(death.code), f"{_exit(death.code)}; its agent left no verdict"
    return Outcome.LOST, "its agent left no verdict"


def _died(code: int) -> Outcome:
    """Killed from outside, or failed by itself. A shell says 128 + n for a child that signal n killed."""
    if code in (128 + Signals.SIGKILL, 128 + Signals.SIGTERM):
        return Outcome.KILLED
    return Outcome.USER_ERROR if code > 0 or _signal(-code) in _CRASHES else Outcome.KILLED


def _exit(code: int) -> str:
    return f"exited {code}" if code > 0 else _signal(-code)


def _signal(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"


# -- facts as a termination message ----------------------------------------------------------------


def encode_facts(facts: Facts) -> bytes:
    """JSON of at most `MESSAGE` bytes: texts are shortened until it fits."""
    document = {f.name: value for f in fields(Facts) if (value := getattr(facts, f.name)) != f.default}
    for room in (QUOTED, 1000, 500, 200, 50):
        short = {name: _shortened(value, room) for name, value in document.items()}
        data = json.dumps(short, separators=(",", ":"), allow_nan=False).encode()
        if len(data) <= MESSAGE:
            break
    return data


def _shortened(value: Any, room: int) -> Any:
    return f"{value[: room - 3]}..." if isinstance(value, str) and len(value) > room else value


def decode_facts(data: bytes | str) -> Facts | None:
    """None if these are no facts. What a newer agent says besides is passed over."""
    try:
        document = json.loads(data)
        return Facts(**{name: _READERS[name](document[name]) for name in document if name in _READERS})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _exactly(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:  # not isinstance: True is no number
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value

    return read


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number of seconds")
    return float(value)


_BY_TYPE: dict[Any, Callable[[Any], Any]] = {
    "int": _exactly(int),
    "str": _exactly(str),
    "bool": _exactly(bool),
    "float": _seconds,
    "float | None": _seconds,
    "Outcome | None": Outcome,
}
_READERS = {f.name: _BY_TYPE[f.type] for f in fields(Facts)}
