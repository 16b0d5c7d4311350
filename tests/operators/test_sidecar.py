"""The agent of a pod beside real training code, on a directory and on object storage."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo_engine.types import Outcome
from operators.attempt import (
    Order,
    claim_key,
    encode_order,
    facts_key,
    order_key,
)
from operators.sidecar_prepare import REFUSED
from operators.store import Store
from operators.verdict import Death, Facts, decode_facts, encode_facts, judge
from tests.operators.pods import MakePod, Pod, pods_on, reached, reports
from tests.operators.trials import spec, wait


@pytest.fixture
def pod(store: Store, tmp_path: Path) -> Iterator[MakePod]:
    yield from pods_on(store, tmp_path)


def test_a_trial_that_obeys(store: Store, pod: MakePod) -> None:
    ended = pod(spec("print(sorted(os.listdir('.')), os.path.isdir('../home')); obey()")).wait()
    verdict = ended.verdict
    assert (verdict.outcome, verdict.units, verdict.started_at) == (Outcome.OK, 3, 0)
    assert [(r.resource, r.metrics, r.checkpoint) for r in reports(store)] == [
        (1, {"loss": 1.0}, True),
        (2, {"loss": 0.5}, True),
        (3, {"loss": 1 / 3}, True),
    ]
    assert "['config.json', 'order.json'] True" in ended.log
    assert decode_facts(store.get(facts_key("s", 0, 1)) or b"") == ended.facts
    assert json.loads(store.get(claim_key("s", 0, 1)) or b"") == {"pod": "pod-1"}
    assert not list((ended.folder / "abohb/trial").glob("ckpt*"))


def test_the_next_attempt_goes_on_from_the_checkpoint(store: Store, pod: MakePod) -> None:
    pod(spec("obey()")).wait()
    script = "line(start + 1, was=float(open('checkpoint/weights').read())); line(start + 2)"
    verdict = pod(spec(script, attempt=2, until=5, reported=3), uid="pod-2").wait().verdict
    assert (verdict.outcome, verdict.units, verdict.started_at) == (Outcome.OK, 2, 3)
    assert reports(store)[3].metrics["was"] == 3
    assert reached(store) == [1, 2, 3, 4, 5]


ENDS = {
    "exits early": ("line(1)", Outcome.NO_METRIC, "exited 0 after epoch 1, ordered until 3"),
    "fails": ("line(1); sys.exit(3)", Outcome.USER_ERROR, "exited 3 after epoch 1"),
    "fails after its last report": ("obey(); sys.exit(3)", Outcome.OK, ""),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", Outcome.KILLED, "SIGKILL after epoch 0"),
    "no JSON": ("write('epoch 1\\n'); time.sleep(60)", Outcome.NO_METRIC, "line 1: this is no JSON: epoch 1"),
    "no checkpoint": (
        "line(1, checkpoint='c'); time.sleep(60)",
        Outcome.NO_METRIC,
        "checkpoint 'c' does not",
    ),
    "goes on": ("obey(pause=0.1, until=1000)", Outcome.OK, "it went on past its order and was ended"),
    "does not exit": ("obey(); time.sleep(60)", Outcome.OK, ""),
    "stalls": ("line(1); time.sleep(60)", Outcome.STALLED, "no line in metrics.jsonl for 1 s after epoch 1"),
    "is deaf as well": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); line(1); time.sleep(60)",
        Outcome.STALLED,
        "after epoch 1",
    ),
}


@pytest.mark.parametrize("store", ["directory"], indirect=True)
@pytest.mark.parametrize("case", ENDS)
def test_how_an_attempt_ends(pod: MakePod, case: str) -> None:
    script, outcome, message = ENDS[case]
    began = time.monotonic()
    ended = pod(spec(script, stall_after=1.0)).wait()
    assert ended.verdict.outcome is outcome
    assert message in ended.verdict.evidence.get("message", "")
    assert time.monotonic() - began < 15  # not the 60 s that some of them sleep


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_nobody_stalls_while_the_image_is_pulled(pod: MakePod) -> None:
    assert pod(spec("obey()", stall_after=0.5), pull=1.5).wait().verdict.outcome is Outcome.OK


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_orders_reach_the_training_code(store: Store, pod: MakePod) -> None:
    running = pod(spec("obey(pause=0.05)", until=500))
    wait(lambda: len(reached(store)) >= 2)
    store.put(order_key("s", 0), encode_order(Order(500, stop=True, attempt=1)))
    assert running.wait().verdict.outcome is Outcome.OK
    assert 2 <= len(reached(store)) < 100


LAST_WORD = """
signal.signal(signal.SIGTERM, lambda *_: (line(2, checkpoint=save(2, "in the last moment")), sys.exit(143)))
line(1)
time.sleep(60)
"""


def test_a_drained_trial_gets_its_last_line_through(store: Store, pod: MakePod) -> None:
    running = pod(spec(LAST_WORD))
    wait(lambda: reached(store) == [1])
    running.delete()
    facts = running.wait().facts
    assert reached(store) == [1, 2]
    assert facts is not None
    verdict = judge(facts, Death(143, Outcome.DISRUPTION), 0, 1)
    assert (verdict.outcome, verdict.units) == (Outcome.DISRUPTION, 2)
    following = pod(spec("print(open('checkpoint/weights').read()); obey()", attempt=2)).wait()
    assert "in the last moment" in following.log
    assert following.verdict.started_at == 2


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_pod_that_is_deleted_before_it_began(store: Store, pod: MakePod) -> None:
    running = pod(spec("obey()"), pull=60.0)
    wait(lambda: running.prepared == 0)
    running.delete()
    running.wait()
    assert running.trial is None
    assert judge(running.facts, Death(None, Outcome.DISRUPTION), 0, 1).units == 0


# -- pods that must not run ------------------------------------------------------------------------


def refused(ended: Pod) -> Facts:
    assert (ended.prepared, ended.trial) == (REFUSED, None)
    assert ended.facts is not None
    return ended.facts


def test_of_two_pods_of_an_attempt_one_acts(store: Store, pod: MakePod) -> None:
    first = pod(spec("obey(pause=0.1)", until=500))
    wait(lambda: len(reached(store)) >= 1)
    facts = refused(pod(spec("line(1, loss=-1)"), uid="pod-2").wait())
    assert (facts.ended, facts.message) == (
        Outcome.LOST,
        "pod pod-1 has this attempt, and has not said how it ended",
    )
    store.put(order_key("s", 0), encode_order(Order(500, stop=True, attempt=1)))
    first.wait()
    assert min(report.metrics["loss"] for report in reports(store)) > 0
    # now it has said so: who comes later hands that on
    assert refused(pod(spec("line(1, loss=-1)"), uid="pod-3").wait()) == first.facts


def test_a_pod_may_claim_twice(store: Store, pod: MakePod) -> None:
    """The first time, it did not hear that it had succeeded."""
    store.put_once(claim_key("s", 0, 1), b'{"pod": "pod-1"}')
    assert pod(spec("obey()")).wait().verdict.outcome is Outcome.OK


@pytest.mark.parametrize("store", ["directory"], indirect=True)
@pytest.mark.parametrize(
    ("order", "outcome", "message"),
    [
        (Order(3, attempt=2), Outcome.OK, "there was nothing left to do"),
        (Order(9, stop=True, attempt=2), Outcome.OK, "there was nothing left to do"),
        (Order(9, attempt=3), Outcome.INTERRUPTED, "attempt 3 has taken over"),
    ],
)
def test_nothing_to_do(store: Store, pod: MakePod, order: Order, outcome: Outcome, message: str) -> None:
    pod(spec("obey()")).wait()
    store.put(order_key("s", 0), encode_order(order))
    ended = pod(spec("line(9)", attempt=2, until=9)).wait()
    refused(ended)
    assert (ended.verdict.outcome, ended.verdict.evidence["message"]) == (outcome, message)
    assert store.get(facts_key("s", 0, 2)) == encode_facts(refused(ended))


def test_an_agent_that_was_replaced_ends_its_trial_and_writes_no_more(store: Store, pod: MakePod) -> None:
    running = pod(spec("obey(pause=0.2)", until=500))
    wait(lambda: len(reached(store)) >= 2)
    store.put(order_key("s", 0), encode_order(Order(500, attempt=2)))
    verdict = running.wait().verdict
    assert (verdict.outcome, verdict.evidence["message"]) == (Outcome.INTERRUPTED, "attempt 2 has taken over")
    written = (running.folder / "abohb/trial/metrics.jsonl").read_text().count("\n")
    assert len(reached(store)) == running.facts.reached < written  # type: ignore[union-attr]


# -- agents that are killed ------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_an_agent_that_is_killed_again_and_again(store: Store, pod: MakePod) -> None:
    """No line is lost, and none is told in two ways."""
    seen: dict[str, set[bytes]] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            for key in store.list("s/inbox/"):
                seen.setdefault(key, set()).add(store.get(key) or b"")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    seen_through = "\nwhile os.path.exists('ckpt-60'): time.sleep(0.01)"  # it is removed once it is committed
    running = pod(spec(f"obey(pause=0.05){seen_through}", until=60))
    for goal in (3, 11, 12, 24, 40):
        wait(lambda goal=goal: len(seen) >= goal)  # type: ignore[misc]
        running.kill_agent()
    ended = running.wait()
    done.set()
    watcher.join()
    assert (ended.verdict.outcome, ended.verdict.units) == (Outcome.OK, 60)
    assert len(ended.agents) >= 5
    assert reached(store) == list(range(1, 61))
    assert {key for key, written in seen.items() if len(written) > 1} == set()
    following = pod(
        spec("print('has', open('checkpoint/weights').read()); obey()", attempt=2, until=61)
    ).wait()
    assert "has 60" in following.log


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_an_agent_that_cannot_go_on_says_so(store: Store, pod: MakePod) -> None:
    running = pod(spec("line(1); time.sleep(60)"))
    memory = running.folder / "own/progress.json"
    wait(lambda: memory.exists() and json.loads(memory.read_text())["lines"] == 1)
    memory.write_text("{")
    running.kill_agent()
    wait(lambda: running.facts is not None)
    facts = running.facts
    assert facts is not None
    assert facts.ended is Outcome.LOST
    assert facts.message.startswith("the agent failed: JSONDecodeError")
