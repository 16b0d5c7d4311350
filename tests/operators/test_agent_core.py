"""The agent without any process: lines in, store writes and a verdict out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_engine.types import Outcome
from operators.agent import Attempt
from operators.attempt import (
    Order,
    decode_spec,
    decode_verdict,
    encode_order,
    encode_spec,
    encode_verdict,
    order_key,
)
from operators.logs import bounded, bounded_file, last_lines, last_lines_in
from operators.store import DirectoryStore
from operators.trial_dir import ContractError, Tail, parse
from operators.verdict import Death, judge
from tests.operators.trials import SPEC


class Recording:
    """A store that remembers what was written, in order."""

    def __init__(self, root: Path) -> None:
        self.store, self.written = DirectoryStore(root), []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name not in ("put", "upload"):
            return method
        return lambda key, *rest: (self.written.append(key.split("/", 1)[1]), method(key, *rest))[1]


def prepared(root: Path, until: int = 3) -> tuple[Attempt, Recording]:
    store = Recording(root / "store")
    attempt = Attempt(replace(SPEC, until=until), store, root / "trial", clock=iter(range(1000)).__next__)
    attempt.prepare()
    return attempt, store


def write(attempt: Attempt, text: str) -> None:
    with (attempt.folder / "metrics.jsonl").open("a") as file:
        file.write(text)


def test_files_then_manifest_then_report(tmp_path: Path) -> None:
    attempt, store = prepared(tmp_path)
    (attempt.folder / "c").mkdir()
    (attempt.folder / "c/model").write_text("m")
    write(attempt, '{"loss": 1, "checkpoint": "c"}\n{"loss": 2}\n')
    assert attempt.pump() == 2
    kinds = [key.replace("trials/00000000/", "").split("/")[0] for key in store.written]
    assert kinds == ["blobs", "checkpoints", "inbox", "inbox"]
    assert not (attempt.folder / "c").exists()  # it was the agent's from its report on


def test_half_a_line_waits_for_its_newline(tmp_path: Path) -> None:
    attempt, _ = prepared(tmp_path)
    write(attempt, '{"loss": 1}\n{"lo')
    assert (attempt.pump(), attempt.pump(), attempt.reached) == (1, 0, 1)
    write(attempt, 'ss": 2}\n')
    assert (attempt.pump(), attempt.reached, attempt.fault) == (1, 2, "")


def test_orders_are_handed_on_when_they_change(tmp_path: Path) -> None:
    attempt, store = prepared(tmp_path)
    told = attempt.folder / "order.json"
    assert attempt.follow() is False
    store.store.put(order_key("s", 0), encode_order(Order(9)))
    assert (attempt.follow(), attempt.follow()) == (True, False)
    assert json.loads(told.read_text()) == {"until": 9, "stop": False}
    write(attempt, '{"loss": 1}\n')
    attempt.pump()
    store.store.put(order_key("s", 0), encode_order(Order(9, stop=True)))
    attempt.follow()
    assert not attempt.fulfilled  # `stop` lets it finish what it works on
    write(attempt, '{"loss": 1}\n')
    attempt.pump()
    assert attempt.fulfilled


def test_an_exit_that_crosses_a_raised_order_is_no_failure(tmp_path: Path) -> None:
    attempt, store = prepared(tmp_path, until=1)
    write(attempt, '{"loss": 1}\n')
    attempt.pump()
    store.store.put(order_key("s", 0), encode_order(Order(3)))
    attempt.follow()
    assert judge(attempt.facts(), Death(0), 0, 1).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("lines", "code", "ended", "outcome"),
    [
        (3, 0, None, Outcome.OK),
        (3, -15, Outcome.INTERRUPTED, Outcome.OK),  # it had already done all
        (2, 0, None, Outcome.NO_METRIC),
        (2, 1, None, Outcome.USER_ERROR),
        (2, -9, None, Outcome.KILLED),
        (2, -11, None, Outcome.USER_ERROR),
        (2, -15, Outcome.INTERRUPTED, Outcome.INTERRUPTED),
        (2, 0, Outcome.INTERRUPTED, Outcome.INTERRUPTED),
        (2, -15, Outcome.STALLED, Outcome.STALLED),
        (0, None, Outcome.INTERRUPTED, Outcome.INTERRUPTED),
    ],
)
def test_verdicts(
    tmp_path: Path, lines: int, code: int | None, ended: Outcome | None, outcome: Outcome
) -> None:
    attempt, _ = prepared(tmp_path)
    attempt.spec = replace(attempt.spec, stall_after=1.0)
    write(attempt, '{"loss": 1}\n' * lines)
    attempt.pump()
    verdict = judge(attempt.facts(ended), Death(code), 0, 1)
    assert (verdict.outcome, verdict.units) == (outcome, lines)
    assert decode_verdict(encode_verdict(verdict)) == verdict


def test_a_spec_survives_json() -> None:
    spec = replace(SPEC, command=("a", "b"), stall_after=2.5, env={"A": "1"}, workdir="/tmp", resumable=False)
    assert decode_spec(encode_spec(spec)) == spec


@given(st.lists(st.sampled_from(["a", "bc", "\n", "\n\n", "é"]), max_size=12), st.data())
def test_a_tail_reads_every_line_once_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tail") / "f"
    text = "".join(parts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    tail, got = Tail(path), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        with path.open("ab") as file:
            file.write(text[start:end])
        got += tail.lines()
    assert got == text.split(b"\n")[:-1]
    assert tail.partial == text.split(b"\n")[-1]


@pytest.mark.parametrize(
    "raw", ["", "[]", "1", "{", '{"epoch": true, "loss": 1}', '{"epoch": "4", "loss": 1}', '{"loss": true}',
            '{"loss": null}', '{"loss": 1, "checkpoint": 4}', '{"epoch": 4.5, "loss": 1}', "\xff"],
)  # fmt: skip
def test_lines_that_cannot_be_read(raw: str) -> None:
    with pytest.raises(ContractError):
        parse(raw.encode("latin1"), SPEC, 4)


def test_lines_that_can() -> None:
    assert parse(b'{"epoch": 4.0, "loss": 1, "b": "Inf"}', SPEC, 4).metrics == {
        "loss": 1.0,
        "b": float("inf"),
    }
    assert parse(b'{"loss": 1' + b"0" * 400 + b"}", SPEC, 4).metrics == {"loss": float("inf")}
    assert parse(b'{"loss": 1, "checkpoint": null}', SPEC, 4).checkpoint is None


def test_long_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("".join(f"{i}\n" for i in range(1000)))
    data = path.read_bytes()
    assert bounded_file(path, 4, 8) == b"0\n1\n\n[... 3878 bytes left out ...]\n998\n999\n"
    assert bounded_file(path, 2000, 2000) == data
    assert bounded(data, 4, 8) == bounded_file(path, 4, 8)
    assert bounded(data, 2000, 2000) == data
    assert last_lines(path, 2) == last_lines_in(data, 2) == "998\n999"
    assert last_lines(tmp_path / "none") == ""
