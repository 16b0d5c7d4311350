"""What the backend makes of one situation after another: Jobs and pods are recorded, others scripted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from hpo_engine.types import Outcome
from operators.attempt import AttemptSpec, claim_key, credentials_key, log_key
from operators.kube.backend import KubernetesBackend
from operators.kube.calls import Calls
from operators.kube.diagnose import Seen, diagnose
from operators.kube.endings import LONG, TRIES, Endings
from operators.kube.errors import ApiAwayError
from operators.kube.grants import Grants
from operators.kube.image import PinnedImage
from operators.kube.jobs import Refusal
from operators.kube.wanted import REFUSED
from operators.kube.warnings import BRIEF, Warnings
from operators.kube.world import Objects
from operators.s3_credentials import Credentials
from operators.store import DirectoryStore
from operators.verdict import Death

CORPUS = Path(__file__).parent / "corpus"
KEY, OTHER = (0, 1), (1, 1)
START = 1.9e9  # long after all that was recorded
SPEC = AttemptSpec("s", *KEY, {}, "epoch", 1, ("true",), ("loss",))
GRACE = 90.0


def situation(name: str) -> Objects:
    found = json.loads((CORPUS / f"{name}.json").read_text())
    return Objects(found["job"], tuple(found["pods"]), frozenset())


@dataclass
class Scripted:
    """A cluster as it is told to be, its Jobs, its logs, and a clock."""

    found: dict[tuple[int, int], Objects] = field(default_factory=dict)
    now: float = START
    there: bool = False  # the Job, by the API server's own word
    refusal: Refusal | None = None
    created: int = 0
    deleted: int = 0
    away: bool = False
    asked: int = 0
    log: bytes = b"the last line\n"
    quiet: float = 0.0
    grants: Grants | None = None
    pods: int = 0  # of any Job, by the API server's own word

    def objects(self) -> dict[tuple[int, int], Objects]:
        return dict(self.found)

    def forget(self, keys: object) -> None: ...

    def clock(self) -> float:
        return self.now

    def create(self, spec: object, image: str) -> Refusal | None:
        self.created += 1
        return self.refusal

    def exists(self, spec: object) -> bool:
        return self.there

    def delete(self, job: object) -> None:
        self.deleted += 1

    def pages(self, *_: object, **__: object) -> list[Any]:
        return [([{}] * self.pods, "7")]

    def pod_log(self, *_: object, **__: object) -> bytes:
        self.asked += 1
        if self.away:
            raise ApiAwayError("away")
        return self.log


@dataclass
class AtOnce:
    """Calls that are made in the caller's thread; a failure is remembered."""

    failed: list[Exception] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    def make(self, name: Hashable, call: Callable[[], None], **_: object) -> None:
        try:
            call()
        except OSError as error:
            self.failed.append(error)

    def flying(self, name: Hashable) -> bool:
        return False


@dataclass
class Unsteady:
    """A store that can be away."""

    store: DirectoryStore
    away: bool = False

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise OSError("the store is away")
        return getattr(self.store, name)


def backend(script: Any, folder: Path, calls: Any = None) -> tuple[KubernetesBackend, Any]:
    calls, store = calls or AtOnce(), Unsteady(DirectoryStore(folder))
    any_store: Any = store
    image = PinnedImage(any_store, "s", "r.example/d:1")
    endings = Endings(script, any_store, "s", calls)
    made = KubernetesBackend(
        "s", any_store, script, script, image, endings, calls, Warnings(script, calls), threading.Event(),
        image_grace=GRACE, clock=script.clock,
    )  # fmt: skip
    return made, store


def test_a_pod_that_has_waited_long_for_room_has_the_whole_grace_for_its_image(tmp_path: Path) -> None:
    script = Scripted({KEY: situation("unschedulable")})
    made, _ = backend(script, tmp_path)
    assert made.observe()[KEY].cause.startswith("unschedulable")
    script.now += 10 * GRACE
    assert made.observe()[KEY].cause.startswith("unschedulable")
    script.found[KEY] = situation("image-missing")
    assert made.observe()[KEY].running
    script.now += GRACE - 1
    assert made.observe()[KEY].cause.startswith("image")
    script.now += 2
    end = made.observe()[KEY].verdict
    assert end is not None
    assert end.outcome is Outcome.IMAGE


def test_a_refused_pod_has_the_whole_grace_too_and_may_change_its_trouble(tmp_path: Path) -> None:
    script = Scripted({KEY: situation("image-missing")})
    made, _ = backend(script, tmp_path)
    made.observe()
    script.now += GRACE - 1
    made.observe()
    script.found[KEY] = situation("root-refused")
    script.now += 2
    assert made.observe()[KEY].running
    script.now += BRIEF + 1
    assert made.observe()[KEY].cause.startswith("pod spec")
    script.now += GRACE
    end = made.observe()[KEY].verdict
    assert end is not None
    assert end.outcome is Outcome.POD_SPEC


def begun(script: Scripted, folder: Path) -> KubernetesBackend:
    """A backend that has seen training code run."""
    script.found[KEY] = situation("ok-running")
    made, _ = backend(script, folder)
    made.observe()
    assert made.image.works
    return made


def test_training_code_that_runs_on_is_seen_without_news_of_it(tmp_path: Path) -> None:
    """The last event of a pod comes soon after its start: too soon to know that its command was there."""
    script = Scripted({KEY: situation("ok-running")})
    started = diagnose(script.found[KEY].job, script.found[KEY].pods).started
    assert started is not None
    script.now = started + 1
    made, _ = backend(script, tmp_path)
    made.observe()
    assert not made.image.works
    script.now += 10
    made.observe()
    assert made.image.works


def test_what_stands_before_the_api_server_is_named_as_the_cause(tmp_path: Path) -> None:
    class Walled(Scripted):
        def create(self, spec: object, image: str) -> Refusal | None:
            raise ApiAwayError("413 Request Entity Too Large", 413)

    made, _ = backend(Walled(), tmp_path)
    made.launch(SPEC)
    assert made.observe()[KEY].cause == "refused"


@pytest.mark.parametrize("name", ["command-not-found", "workdir-missing"])
def test_a_container_that_cannot_be_started_ends_the_study_unless_others_could(
    name: str, tmp_path: Path
) -> None:
    script = Scripted({KEY: situation(name)})
    made, _ = backend(script, tmp_path / "first")
    made.observe()
    end = made.observe()[KEY].verdict
    assert end is not None
    assert (end.outcome, made.image.works) == (Outcome.POD_SPEC, False)

    made = begun(script, tmp_path / "later")
    script.found = {OTHER: situation(name)}
    made.observe()
    end = made.observe()[OTHER].verdict
    assert end is not None
    assert end.outcome is Outcome.DISRUPTION


@pytest.mark.parametrize("name", ["image-missing", "config-map-missing"])
def test_what_a_pod_waits_for_is_a_disruption_where_others_had_it(name: str, tmp_path: Path) -> None:
    script = Scripted()
    made = begun(script, tmp_path)
    script.found = {OTHER: situation(name)}
    made.observe()
    script.now += GRACE + 1
    end = made.observe()[OTHER].verdict
    assert end is not None
    assert end.outcome is Outcome.DISRUPTION


def test_a_job_that_is_refused_ends_the_study_unless_others_were_made(tmp_path: Path) -> None:
    refusal = Refusal("refused", "denied by a webhook")
    script = Scripted(refusal=refusal)
    made, _ = backend(script, tmp_path / "first")
    made.launch(SPEC)
    end = made.observe()[KEY].verdict
    assert end is not None
    assert end.outcome is Outcome.POD_SPEC

    made = begun(script, tmp_path / "later")
    made.launch(replace(SPEC, trial=1))
    assert made.observe()[OTHER].cause == "refused"
    script.now += GRACE + 1
    made.observe()
    end = made.observe()[OTHER].verdict
    assert end is not None
    assert end.outcome is Outcome.DISRUPTION


def test_the_next_controller_knows_that_the_image_works(tmp_path: Path) -> None:
    begun(Scripted(), tmp_path)
    again, _ = backend(Scripted(), tmp_path)
    assert again.image.works


def test_keys_of_a_pod_that_runs_are_renewed_before_they_end(tmp_path: Path) -> None:
    script = Scripted({KEY: situation("ok-running")})

    def assume(trial: int) -> Credentials:
        return Credentials("key", "secret", "token", script.now, script.now + 3600.0)

    script.grants = Grants(DirectoryStore(tmp_path), "s", assume, script.clock)
    script.grants.issue(KEY[0])
    made, store = backend(script, tmp_path)
    made.observe()
    assert store.get(credentials_key("s", KEY[0])) is None
    script.now += 1801.0
    made.observe()
    assert store.get(credentials_key("s", KEY[0])) is not None


def test_an_image_that_was_first_seen_while_the_store_was_away_is_pinned_when_it_is_back(
    tmp_path: Path,
) -> None:
    script = Scripted({KEY: situation("ok-running")})
    made, store = backend(script, tmp_path)
    assert made.image.reference(KEY)
    assert not made.image.reference((1, 1))
    store.away = True
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            made.observe()
    store.away = False
    made.observe()
    assert made.image.reference((1, 1))


def test_the_others_wait_for_a_large_image_and_not_for_room(tmp_path: Path) -> None:
    script = Scripted({KEY: situation("agent-prepares")})
    made, _ = backend(script, tmp_path)
    assert made.image.reference(KEY)
    for _ in range(5):
        script.now += 30
        found = made.observe()[KEY]
        assert not made.image.reference((1, 1))
    assert found.cause.startswith("starting")
    script.found[KEY] = situation("unschedulable")
    made.observe()
    assert made.image.reference((1, 1))


def test_a_claimed_attempt_that_no_watch_has_shown_is_only_over_when_its_job_is_gone(tmp_path: Path) -> None:
    script = Scripted(there=True)
    made, store = backend(script, tmp_path)
    store.put(claim_key("s", *KEY), b"{}")
    made.launch(SPEC)
    assert made.observe()[KEY].running
    script.there, script.now = False, script.now + 3600
    made.observe()
    end = made.observe()[KEY].verdict
    assert end is not None
    assert (end.outcome, script.created) == (Outcome.INTERRUPTED, 0)


def test_a_second_pod_that_may_wait_for_ever_does_not_keep_its_job(tmp_path: Path) -> None:
    first, second = situation("ok-running").pods[0], situation("unschedulable").pods[0]
    pods = Objects(situation("ok-running").job, (first, second), frozenset({first["metadata"]["uid"]}))
    script = Scripted({KEY: pods})
    made, _ = backend(script, tmp_path)
    assert made.observe()[KEY].running
    assert script.deleted


def test_a_pod_that_waits_for_longer_than_its_keys_hold_is_made_anew(tmp_path: Path) -> None:
    """What is renewed lies in the store, where a pod whose own keys have ended cannot read it."""
    life, script = 3600.0, Scripted({KEY: situation("unschedulable")})

    def assume(trial: int) -> Credentials:
        return Credentials("key", "secret", "token", script.now, script.now + life)

    script.grants = Grants(DirectoryStore(tmp_path), "s", assume, script.clock)
    script.grants.issue(KEY[0])
    made, _ = backend(script, tmp_path)
    for part in (0.4, 0.4):
        script.now += part * life
        assert made.observe()[KEY].running
    script.now += 0.2 * life
    made.observe()
    end = made.observe()[KEY].verdict
    assert end is not None
    assert (end.outcome, script.deleted > 0) == (Outcome.INTERRUPTED, True)


def test_a_refusal_that_may_pass_is_not_asked_about_on_every_pass(tmp_path: Path) -> None:
    script = Scripted(refusal=Refusal("quota", "exceeded quota: q", passing=True))
    calls = Calls(lambda: None, script.clock)
    made, _ = backend(script, tmp_path, calls)

    def look() -> int:
        made.observe()
        while calls.flying(("create", KEY)):
            time.sleep(0.001)
        return script.created

    made.launch(SPEC)
    assert look() == 1
    for _ in range(5):
        script.now += REFUSED / 10
        assert look() == 1
    assert made.observe()[KEY].cause == "quota"
    script.now += REFUSED
    assert look() == 2
    calls.stop()


def test_a_log_is_kept_when_the_store_is_back_and_given_up_when_its_node_is_lost(tmp_path: Path) -> None:
    script, store = Scripted(), Unsteady(DirectoryStore(tmp_path), away=True)
    any_script: Any = script
    any_store: Any = store
    calls: Any = AtOnce()
    endings = Endings(any_script, any_store, "s", calls, script.clock)
    seen = Seen("ended", pod="p")
    for _ in range(2 * TRIES):
        assert endings.verdict(KEY, seen, by_us=False) is None
    store.away, script.away = False, True
    for _ in range(2 * TRIES):
        assert endings.verdict(KEY, seen, by_us=False) is None  # an API server that is away soon is back
    script.away = False
    end = endings.verdict(KEY, seen, by_us=False)
    assert end is not None
    assert end.evidence["log"] == "the last line"
    assert store.get(log_key("s", *KEY, "log")) == b"the last line\n"

    script.away = True
    for _ in range(TRIES):
        script.now += LONG / 2
        assert endings.settled().get((1, 1)) is None
        end = endings.verdict((1, 1), seen, by_us=False)
    assert end is not None


def test_the_log_of_a_pod_that_is_told_to_go_is_copied_again_when_it_has_ended(tmp_path: Path) -> None:
    script: Any = Scripted(log=b"still at work\n")
    calls: Any = AtOnce()
    store = DirectoryStore(tmp_path)
    endings = Endings(script, store, "s", calls, script.clock)
    endings.keep_log(KEY, Seen("ending", pod="p"))
    script.log = b"still at work\nsaved what I had\n"
    endings.keep_log(KEY, Seen("ending", pod="p"))  # nothing has happened
    assert store.get(log_key("s", *KEY, "log")) == b"still at work\n"
    endings.keep_log(KEY, Seen("ending", pod="p", finished=1.0))
    script.log = b""  # its pod is gone
    end = endings.verdict(KEY, Seen("ended", pod="p", finished=1.0), by_us=False)
    assert end is not None
    assert end.evidence["log"] == "still at work\nsaved what I had"


def test_the_kubelets_last_lines_are_later_than_a_log_from_before_the_end(tmp_path: Path) -> None:
    script: Any = Scripted(log=b"still at work\n")
    calls: Any = AtOnce()
    endings = Endings(script, DirectoryStore(tmp_path), "s", calls, script.clock)
    endings.keep_log(KEY, Seen("ending", pod="p"))
    script.log = b""
    death = Death(1, None, {"log": "Traceback"})
    end = endings.verdict(KEY, Seen("ended", death=death, pod="p", finished=1.0), by_us=False)
    assert end is not None
    assert end.evidence["log"] == "Traceback"


def test_of_a_very_long_log_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    lines = [b"%07d %s" % (number, b"x" * 490) for number in range(60_000)]

    class Long(Scripted):
        def pod_log(self, *_: object, tail_lines: int, limit_bytes: int, **__: object) -> bytes:
            return b"\n".join(lines[-tail_lines:])[:limit_bytes]

    script: Any = Long()
    calls: Any = AtOnce()
    store = DirectoryStore(tmp_path)
    end = Endings(script, store, "s", calls, script.clock).verdict(KEY, Seen("ended", pod="p"), by_us=False)
    assert end is not None
    assert end.evidence["log"].splitlines()[-1] == lines[-1].decode()
    kept = (store.get(log_key("s", *KEY, "log")) or b"").splitlines()
    assert (kept[0], kept[-1]) == (lines[10_000], lines[-1])


def test_what_a_kubelet_says_of_a_log_that_has_gone_is_no_log(tmp_path: Path) -> None:
    lost = b'failed to try resolving symlinks in path "/var/log/pods/p/trial/0.log": no such file'
    script: Any = Scripted(log=lost)
    calls: Any = AtOnce()
    store = DirectoryStore(tmp_path)
    end = Endings(script, store, "s", calls, script.clock).verdict(KEY, Seen("ended", pod="p"), by_us=False)
    assert end is not None
    assert "log" not in end.evidence
    assert store.get(log_key("s", *KEY, "log")) is None


def test_an_ended_job_is_judged_by_its_pod_also_when_the_watch_of_pods_is_late(tmp_path: Path) -> None:
    script: Any = Scripted(pods=1)
    calls: Any = AtOnce()
    endings = Endings(script, DirectoryStore(tmp_path), "s", calls, script.clock)
    failed = Seen("ended", death=Death(137, Outcome.DISRUPTION))  # as the Job alone tells it
    assert endings.verdict(KEY, failed, by_us=False) is None
    oom = Seen("ended", death=Death(137, Outcome.OUT_OF_MEMORY), pod="p")
    end = endings.verdict(KEY, oom, by_us=False)
    assert end is not None
    assert end.outcome is Outcome.OUT_OF_MEMORY

    script.pods = 0  # nobody will ever tell more
    end = endings.verdict((1, 1), failed, by_us=False)
    assert end is not None
    assert end.outcome is Outcome.DISRUPTION


def test_who_cannot_remove_the_jobs_says_so() -> None:
    jobs = Mock(owner_name="abohb-s", api=Mock(namespace="ml"))
    jobs.disown.side_effect = ApiAwayError("no route")
    parts = {name: Mock() for name in ("store", "world", "image", "endings", "calls", "warnings", "changed")}
    parts["image"].notes, parts["calls"].faults, parts["world"].quiet = [], {}, 0.0
    backend = KubernetesBackend(study="s", jobs=jobs, **parts)
    backend.close(1.0)
    (note,) = backend.notes()
    assert "no route" in note
    assert "kubectl delete configmap abohb-s --namespace ml" in note
    assert parts["world"].stop.called
