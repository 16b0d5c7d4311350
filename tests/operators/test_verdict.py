"""Who is to blame for an end, told from what the agent and the platform know: a table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_engine.types import AttemptEnded, Outcome
from operators.verdict import MESSAGE, Death, Facts, decode_facts, encode_facts, judge

RUNNING = Facts(4, 2, resource="epoch", start=3, reached=5, units=2, until=9)
DONE = replace(RUNNING, reached=9, units=6, fulfilled=True)
OVERRAN = replace(DONE, overran=True, units=7)
STALLED = replace(RUNNING, ended=Outcome.STALLED, stall_after=90.0)
STOPPED = replace(RUNNING, stop=True)
SILENT = replace(RUNNING, reached=3, units=0)
BROKEN = replace(RUNNING, fault="metrics.jsonl, line 3: this is no JSON: x")
CUT_SHORT = replace(RUNNING, saved=False)

O = Outcome  # noqa: E741  a table is read by its columns
D = Death
VERDICTS: list[tuple[Facts | None, Death, Outcome, str]] = [
    # what the agent knows comes first
    (DONE, D(0), O.OK, ""),
    (DONE, D(137), O.OK, ""),
    (DONE, D(137, O.OUT_OF_MEMORY), O.OK, ""),
    (DONE, D(None, O.DISRUPTION), O.OK, ""),
    (OVERRAN, D(143), O.OK, "it went on past its order and was ended"),
    (replace(DONE, fault="line 7"), D(0), O.OK, "line 7"),
    (BROKEN, D(143), O.NO_METRIC, "line 3: this is no JSON"),
    (BROKEN, D(137, O.OUT_OF_MEMORY), O.NO_METRIC, "line 3"),
    (STALLED, D(143), O.STALLED, "no line in metrics.jsonl for 90 s after epoch 5, ordered until 9"),
    (STALLED, D(137, O.DISRUPTION), O.STALLED, "for 90 s"),
    (replace(RUNNING, ended=O.INTERRUPTED), D(143), O.INTERRUPTED, "ended by us after epoch 5"),
    (replace(RUNNING, ended=O.LOST, message="pod 7 has it"), D(None), O.LOST, "pod 7 has it"),
    (STOPPED, D(0), O.OK, ""),
    (STOPPED, D(0, O.DISRUPTION), O.OK, ""),
    (STOPPED, D(None), O.OK, ""),
    # then the platform
    (STOPPED, D(143, O.DISRUPTION), O.DISRUPTION, "disruption after epoch 5"),
    (STOPPED, D(None, O.DISRUPTION), O.DISRUPTION, "disruption after epoch 5"),
    (RUNNING, D(143, O.DISRUPTION), O.DISRUPTION, "disruption after epoch 5, ordered until 9"),
    (RUNNING, D(0, O.DISRUPTION), O.DISRUPTION, "disruption after epoch 5"),
    (RUNNING, D(1, O.DISRUPTION, {"message": "drained"}), O.DISRUPTION, "ordered until 9: drained"),
    (RUNNING, D(137, O.OUT_OF_MEMORY), O.OUT_OF_MEMORY, "out of memory after epoch 5"),
    (RUNNING, D(143, O.TIMEOUT), O.TIMEOUT, "timeout after epoch 5"),
    (RUNNING, D(None, O.SUSPENDED), O.SUSPENDED, "suspended after epoch 5"),
    (CUT_SHORT, D(137, O.NODE_PRESSURE), O.NODE_PRESSURE, "node pressure"),
    # then the exit code
    (RUNNING, D(0), O.NO_METRIC, "exited 0 after epoch 5, ordered until 9 (docs/trial-contract.md)"),
    (SILENT, D(0), O.NO_METRIC, "exited 0 after epoch 3, ordered until 9; it wrote no line to metrics.jsonl"),
    (CUT_SHORT, D(0), O.LOST, "its last lines could not be saved after epoch 5"),
    (CUT_SHORT, D(1), O.USER_ERROR, "exited 1"),
    (RUNNING, D(1), O.USER_ERROR, "exited 1 after epoch 5"),
    (STOPPED, D(1), O.USER_ERROR, "exited 1 after epoch 5"),
    (RUNNING, D(139), O.USER_ERROR, "exited 139"),
    (RUNNING, D(137), O.KILLED, "exited 137 after epoch 5"),
    (RUNNING, D(143), O.KILLED, "exited 143 after epoch 5"),
    (RUNNING, D(-9), O.KILLED, "SIGKILL after epoch 5"),
    (RUNNING, D(-11), O.USER_ERROR, "SIGSEGV after epoch 5"),
    (RUNNING, D(None), O.LOST, "nobody knows how it ended after epoch 5"),
    # without an agent's word
    (None, D(143, O.DISRUPTION), O.DISRUPTION, "disruption"),
    (None, D(None, O.IMAGE, {"message": "pull access denied"}), O.IMAGE, "pull access denied"),
    (None, D(137), O.KILLED, "exited 137; its agent left no verdict"),
    (None, D(2), O.USER_ERROR, "exited 2; its agent left no verdict"),
    (None, D(0), O.LOST, "its agent left no verdict"),
    (None, D(), O.LOST, "its agent left no verdict"),
]


@pytest.mark.parametrize(("facts", "death", "outcome", "message"), VERDICTS)
def test_verdicts(facts: Facts | None, death: Death, outcome: Outcome, message: str) -> None:
    verdict = judge(facts, death, 4, 2)
    assert (verdict.trial, verdict.attempt, verdict.outcome) == (4, 2, outcome)
    assert message in verdict.evidence.get("message", "")
    assert bool(message) == ("message" in verdict.evidence)


def test_every_outcome_that_an_attempt_can_have_is_in_the_table_or_passed_on() -> None:
    seen = {outcome for _, _, outcome, _ in VERDICTS}
    assert {O.OK, O.NO_METRIC, O.USER_ERROR, O.STALLED, O.INTERRUPTED, O.KILLED, O.LOST} < seen
    for cause in Outcome:
        assert judge(RUNNING, Death(None, cause), 4, 2).outcome is cause


def test_the_whole_verdict() -> None:
    death = Death(1, evidence={"log": "no such layer", "reason": "Error", "empty": ""})
    facts = replace(RUNNING, torn="00000003.json: a is missing", seconds=12.5)
    assert judge(facts, death, 4, 2) == AttemptEnded(
        4, 2, Outcome.USER_ERROR, units=2, started_at=3, seconds=12.5,
        evidence={
            "exit code": "1",
            "log": "no such layer",
            "reason": "Error",
            "message": "exited 1 after epoch 5, ordered until 9",
            "torn checkpoints": "00000003.json: a is missing",
        },
    )  # fmt: skip
    assert "log" not in judge(replace(facts, fulfilled=True), death, 4, 2).evidence
    assert judge(RUNNING, Death(-9), 4, 2).evidence["signal"] == "SIGKILL"


@pytest.mark.parametrize("other", [replace(DONE, attempt=1), replace(DONE, trial=5)])
def test_facts_of_another_attempt_are_none(other: Facts) -> None:
    assert judge(other, Death(0), 4, 2) == judge(None, Death(0), 4, 2)


TEXTS = st.text(max_size=6000)
ANY = st.builds(
    Facts, st.integers(0, 10**6), st.integers(0, 10**4),
    resource=st.text(max_size=40), start=st.integers(0, 10**9), reached=st.integers(0, 10**9),
    units=st.integers(0, 10**9), until=st.integers(0, 10**9), stop=st.booleans(), fulfilled=st.booleans(),
    overran=st.booleans(), fault=TEXTS, ended=st.none() | st.sampled_from(Outcome),
    stall_after=st.none() | st.floats(0, 1e9), message=TEXTS, torn=TEXTS, saved=st.booleans(),
    seconds=st.floats(0, 1e9),
)  # fmt: skip


@given(ANY)
def test_facts_fit_into_a_termination_message_and_only_texts_suffer(facts: Facts) -> None:
    data = encode_facts(facts)
    assert len(data) <= MESSAGE
    back = decode_facts(data)
    assert back is not None
    texts = {"fault": "", "message": "", "torn": "", "resource": ""}
    assert replace(back, **texts) == replace(facts, **texts)  # type: ignore[arg-type]
    for name in texts:
        whole, kept = getattr(facts, name), getattr(back, name)
        assert kept == whole or (kept.endswith("...") and whole.startswith(kept[:-3]))
    if sum(len(getattr(facts, name)) for name in texts) < 300:
        assert back == facts


def test_the_worst_text_fits() -> None:
    worst = "\N{PILE OF POO}" * 5000
    assert len(encode_facts(Facts(0, 1, worst, fault=worst, message=worst, torn=worst))) <= MESSAGE


@pytest.mark.parametrize(
    "garbage", ["", "x", "[]", "null", "1", '{"trial": 1}', '{"trial": "1", "attempt": 1}', b"\xff\xfe",
                '{"trial": true, "attempt": 1}', '{"trial": 1, "attempt": 1, "ended": "eaten"}',
                '{"trial": 1, "attempt": 1, "seconds": NaN}', '{"trial": 1, "attempt": 1, "fault": null}',
                '{"trial": 1, "attempt": 1, "seconds": "Infinity"}', "Traceback (most recent call last):",
                "[" * 100_000, '{"trial": 1, "attempt": 1, "fault": "cut of'],
)  # fmt: skip
def test_garbage_is_no_facts(garbage: str | bytes) -> None:
    assert decode_facts(garbage) is None


def test_what_a_newer_agent_says_besides_is_passed_over() -> None:
    document = {**json.loads(encode_facts(STALLED)), "gpu_seconds": 3.5}
    assert decode_facts(json.dumps(document)) == STALLED
