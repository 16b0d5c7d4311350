"""What is kept of an attempt before its pod goes: its output, what its agent says, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from hpo_engine.types import AttemptEnded, Outcome
from operators.attempt import facts_key, log_key
from operators.kube.api import Api
from operators.kube.calls import Calls
from operators.kube.diagnose import Seen
from operators.kube.errors import ApiAwayError, ApiError
from operators.kube.manifest import job_name
from operators.kube.settings import TRIAL_CONTAINER
from operators.logs import HEAD, TAIL, bounded, last_lines_in
from operators.store import Store
from operators.verdict import Death, Facts, decode_facts, judge

Key = tuple[int, int]  # (trial, attempt)
LINES, BYTES = 50_000, 16 << 20  # most that is asked of a log: the store keeps its beginning and its end
# What a kubelet answers, as if it were the log, when the pod's files have gone.
LOST_LOG = (b"failed to try resolving symlinks in path", b"unable to retrieve container logs for ")
LATE = 1.0  # seconds between looks at a pod that the watch has not told of yet
TRIES, LONG = 3, 60.0  # tries, and seconds, after which a log is given up: a node that is lost answers never


@dataclass(frozen=True, slots=True)
class Log:
    """Of a pod, as it was copied."""

    last: str  # lines; "" if there is none to have
    whole: bool  # the training code had ended by then


@dataclass
class Endings:
    """Asked about an attempt that is ending on every pass, until it knows all."""

    api: Api
    store: Store
    study: str
    calls: Calls
    clock: Callable[[], float] = time.monotonic
    _logs: dict[Key, Log] = field(default_factory=dict, init=False)
    _tries: dict[Key, tuple[int, float]] = field(default_factory=dict, init=False)  # and since when
    _verdicts: dict[Key, AttemptEnded] = field(default_factory=dict, init=False)

    def keep_log(self, key: Key, seen: Seen) -> None:
        """Its training code has ended, or its pod is about to go: copy its output now, and once more then."""
        if seen.pod and not self._copied(key, seen):
            self.calls.make(("log", key), lambda: self._fetch(key, seen), urgent=True)

    def _copied(self, key: Key, seen: Seen) -> bool:
        log = self._logs.get(key)
        return log is not None and (log.whole or seen.finished is None)

    def verdict(self, key: Key, seen: Seen, *, by_us: bool) -> AttemptEnded | None:
        """How it ended; None while that is being found out. `by_us`: we told it to end."""
        if key not in self._verdicts and not self.calls.flying(("log", key)):
            call = partial(self._conclude, key, seen, by_us)
            self.calls.make(("verdict", key), call, rest=LATE, urgent=True)
        return self._verdicts.get(key)

    def settle(self, end: AttemptEnded) -> None:
        """Known without a pod."""
        self._verdicts[end.trial, end.attempt] = end

    def settled(self) -> Mapping[Key, AttemptEnded]:
        return dict(self._verdicts)  # threads add to it

    def stored(self, key: Key) -> Facts | None:
        """What the agent of this attempt has left in the store."""
        data = self.store.get(facts_key(self.study, *key))
        return decode_facts(data) if data is not None else None

    def forget(self, key: Key) -> None:
        for known in (self._logs, self._tries, self._verdicts):
            known.pop(key, None)

    def _fetch(self, key: Key, seen: Seen) -> None:
        """OSError: the API or the store is away, try again."""
        tries, since = self._tries.get(key, (0, self.clock()))
        try:
            data = self._read(seen.pod)
        except ApiAwayError:
            self._tries[key] = tries + 1, since
            if tries + 1 < TRIES or self.clock() - since < LONG:
                raise
            data = b""
        except ApiError:  # the pod is gone, or its container never ran
            data = b""
        if data.startswith(LOST_LOG):
            data = b""
        if data:
            self.store.put(log_key(self.study, *key, "log"), bounded(data))
        if data or key not in self._logs:
            self._logs[key] = Log(last_lines_in(data), seen.finished is not None)

    def _read(self, pod: str) -> bytes:
        """All of its output; of a very long one the beginning and the end."""
        data = self.api.pod_log(pod, TRIAL_CONTAINER, tail_lines=LINES, limit_bytes=BYTES)
        if len(data) < BYTES:
            return data
        lines = TAIL * data.count(b"\n") // len(data)  # that the end has, if they are as long there
        end = self.api.pod_log(pod, TRIAL_CONTAINER, tail_lines=max(lines, 10), limit_bytes=BYTES)
        return data[:HEAD] + b"\n[... a part is left out ...]\n" + end[-TAIL:]

    def _conclude(self, key: Key, seen: Seen, by_us: bool) -> None:
        if not seen.pod and self._has_pod(key):
            return  # the watch of Jobs is ahead of that of pods, which tell more
        if seen.pod and not self._copied(key, seen):
            self._fetch(key, seen)
        facts = decode_facts(seen.facts_text) if seen.facts_text else None
        facts = facts or self.stored(key)
        death = seen.death or Death()
        if by_us:
            death = replace(death, cause=Outcome.INTERRUPTED)
        log = self._logs.get(key, Log("", whole=False))
        if log.last and (log.whole or "log" not in death.evidence):  # the kubelet's go on until the end
            death = replace(death, evidence={**death.evidence, "log": log.last})
        self._verdicts[key] = judge(facts, death, *key)

    def _has_pod(self, key: Key) -> bool:
        """By the API server's own word."""
        of_job = f"batch.kubernetes.io/job-name={job_name(self.study, *key)}"
        return any(items for items, _ in self.api.pages("pods", of_job, 1))
