"""How attempts end, and whose fault that is."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How an attempt ended. `blame` says which budget it counts against."""

    OK = "ok"  # it did as it was ordered: reached `until`, or stopped when told
    NO_METRIC = "no metric"  # exited 0 short of `until`, or wrote lines that cannot be read
    USER_ERROR = "user error"  # exited with another code than 0
    STALLED = "stalled"  # no report for longer than `stall_after`
    INTERRUPTED = "interrupted"  # ended by us: cancelled, or its controller went away
    KILLED = "killed"  # by a signal that we did not send
    LOST = "lost"  # it left no verdict
    OUT_OF_MEMORY = "out of memory"  # the kernel killed it at its memory limit
    TIMEOUT = "timeout"  # it ran for longer than an attempt may
    IMAGE = "image"  # its image cannot be pulled: no trial of the study can run
    POD_SPEC = "pod spec"  # its pod cannot be made as it is described: no trial of the study can run
    DISRUPTION = "disruption"  # preemption, drain, taint, deletion, loss of its node
    SUSPENDED = "suspended"  # its queue took the resources back
    REJECTED = "kubelet rejection"  # the node refused the pod
    NODE_PRESSURE = "node pressure"  # evicted by the node, which was short of memory or disk

    @property
    def blame(self) -> Blame:
        return _BLAME[self]


class Blame(StrEnum):
    NOBODY = "nobody"
    TRAINING = "training"  # counts against `max_failures`
    DISRUPTION = "disruption"  # counts against `max_disruptions`, never against the configuration


_BLAME = {
    Outcome.OK: Blame.NOBODY,
    Outcome.NO_METRIC: Blame.TRAINING,
    Outcome.USER_ERROR: Blame.TRAINING,
    Outcome.STALLED: Blame.TRAINING,
    Outcome.INTERRUPTED: Blame.NOBODY,
    Outcome.KILLED: Blame.DISRUPTION,
    Outcome.LOST: Blame.DISRUPTION,
    Outcome.OUT_OF_MEMORY: Blame.TRAINING,
    Outcome.TIMEOUT: Blame.TRAINING,
    Outcome.IMAGE: Blame.NOBODY,
    Outcome.POD_SPEC: Blame.NOBODY,
    Outcome.DISRUPTION: Blame.DISRUPTION,
    Outcome.SUSPENDED: Blame.DISRUPTION,
    Outcome.REJECTED: Blame.DISRUPTION,
    Outcome.NODE_PRESSURE: Blame.DISRUPTION,
}
