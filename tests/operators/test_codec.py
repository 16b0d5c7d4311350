from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_engine.types import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Failed,
    Finished,
    Fitted,
    Held,
    Opened,
    Outcome,
    Released,
    Report,
    Resume,
    Start,
    Steered,
    Stop,
    Waiting,
)
from operators.codec import CodecError, decode_event, dumps, encode_event

small, whole, words = st.integers(0, 10**6), st.integers(-(2**70), 2**70), st.text(max_size=8)
seconds = st.floats().map(lambda x: x + 0.0)  # a default is left out, and -0.0 equals it
finite = st.floats(allow_nan=False, allow_infinity=False)
odd = st.text(max_size=8) | st.sampled_from(["nan", "inf", "-inf", "true", "1", "", "\ud7ff", "é\n\x00"])
values = st.booleans() | whole | finite | odd
plain = st.recursive(
    st.none() | values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd, inner, max_size=3),
    max_leaves=6,
)
EVENTS: dict[type, st.SearchStrategy[Any]] = {
    Opened: st.builds(Opened, st.dictionaries(odd, plain, max_size=3)),
    Start: st.builds(Start, small, st.dictionaries(odd, values, max_size=4), small, small, words),
    Resume: st.builds(Resume, small, small),
    Stop: st.builds(Stop, small, odd),
    AttemptStarted: st.builds(AttemptStarted, small, small),
    Waiting: st.builds(Waiting, small, small, odd, st.dictionaries(odd, odd, max_size=3)),
    Report: st.builds(
        Report, small, small, small, st.dictionaries(odd, st.floats(), max_size=4), st.booleans(), seconds
    ),
    AttemptEnded: st.builds(
        AttemptEnded, small, small, st.sampled_from(Outcome), small, small, seconds,
        st.dictionaries(odd, odd, max_size=3),
    ),
    Failed: st.builds(Failed, small, odd),
    Fitted: st.builds(
        Fitted, small, words,
        st.dictionaries(odd, st.lists(st.floats(), max_size=4).map(tuple), max_size=3), odd,
    ),
    Held: st.builds(Held, small, odd),
    Released: st.builds(Released, small),
    Steered: st.builds(Steered, odd, whole),
    Finished: st.builds(Finished, odd, st.booleans()),
}  # fmt: skip


def _marked(value: Any) -> str:
    """Tells True from 1, 1 from 1.0 and -0.0 from 0.0, and takes nan for nan."""
    return repr(value)


def _strict(data: bytes) -> Any:
    def refuse(word: str) -> Any:
        raise AssertionError(f"bare {word}")

    return json.loads(data, parse_constant=refuse)


def test_every_kind_of_event_is_tried() -> None:
    assert set(EVENTS) == set(get_args(Event))


@pytest.mark.parametrize("kind", EVENTS)
@given(data=st.data())
def test_an_event_comes_back_as_it_was(kind: type, data: st.DataObject) -> None:
    event = data.draw(EVENTS[kind])
    again = decode_event(_strict(dumps(encode_event(event))))
    assert _marked(again) == _marked(event)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Start(0, {"lr": 0.1, "n": 1, "on": True, "k": "1"}, 3),
         '{"event":"Start","trial":0,"config":{"lr":0.1,"n":1,"on":true,"k":"1"},"until":3}'),
        (Report(7, 1, 3, {"err": math.nan, "loss": -math.inf}, True),
         '{"event":"Report","trial":7,"attempt":1,"resource":3,'
         '"metrics":{"err":"nan","loss":"-inf"},"checkpoint":true}'),
        (AttemptEnded(7, 1, Outcome.USER_ERROR, evidence={"exit code": "1"}),
         '{"event":"AttemptEnded","trial":7,"attempt":1,"outcome":"user error",'
         '"evidence":{"exit code":"1"}}'),
        (Fitted(9, "joint gp", {"loss": (0.5, -1.0)}),
         '{"event":"Fitted","prefix":9,"model":"joint gp","parameters":{"loss":[0.5,-1.0]}}'),
        (Finished("done"), '{"event":"Finished","reason":"done"}'),
    ],
)  # fmt: skip
def test_the_written_form(event: Event, line: str) -> None:
    assert dumps(encode_event(event)).decode() == line


REPORT = {"event": "Report", "trial": 0, "attempt": 1, "resource": 1}
ENDED = {"event": "AttemptEnded", "trial": 0, "attempt": 1}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "None is no event"),
        ({"event": "Started", "trial": 0}, "'Started' is no event that this version knows; there is Opened"),
        ({"event": ["Stop"]}, r"\['Stop'\] is no event"),
        ([], r"\[\] is no event"),
        (None, "None is no event"),
        ("Stop", "'Stop' is no event"),
        ({"event": "Stop", "trial": 0}, "Stop.*reason"),
        ({"event": "Stop", "trial": 0, "color": "red"}, "Stop has no field 'color'; it has trial, reason"),
        ({"event": "Stop", "trial": "0", "reason": "r"}, r"Stop.trial cannot be read: '0' is no int"),
        ({"event": "Stop", "trial": True, "reason": "r"}, "Stop.trial.*True is no int"),
        ({"event": "Stop", "trial": 1.5, "reason": "r"}, "Stop.trial.*1.5 is no int"),
        ({"event": "Stop", "trial": None, "reason": "r"}, "Stop.trial"),
        ({"event": "Stop", "trial": 0, "reason": ["r"]}, "Stop.reason"),
        ({"event": "Start", "trial": 0, "config": [], "until": 1}, "Start.config"),
        ({"event": "Start", "trial": 0, "config": {"a": None}, "until": 1}, "Start.config"),
        ({"event": "Start", "trial": 0, "config": {"a": [1]}, "until": 1}, "Start.config"),
        ({**REPORT, "metrics": {"v": "good"}}, "Report.metrics"),
        ({**REPORT, "metrics": {"v": None}}, "Report.metrics"),
        ({**REPORT, "metrics": {"v": False}}, "Report.metrics"),
        ({**REPORT, "metrics": {"v": 10**400}}, "Report.metrics"),
        ({**REPORT, "metrics": 3}, "Report.metrics"),
        ({**REPORT, "metrics": {}, "checkpoint": 1}, "checkpoint"),
        ({**ENDED, "outcome": "exploded"}, "AttemptEnded.outcome.*exploded"),
        ({**ENDED, "outcome": ["ok"]}, "AttemptEnded.outcome"),
        ({**ENDED, "outcome": "ok", "evidence": {"x": 1}}, "evidence"),
        ({"event": "Fitted", "prefix": 1, "model": "m", "parameters": {"a": 1.0}}, "Fitted.parameters"),
        ({"event": "Fitted", "prefix": 1, "model": "m", "parameters": {"a": "123"}}, "Fitted.parameters"),
        ({"event": "Opened", "study": "digits"}, "Opened.study"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_in_words(document: Any, words: str) -> None:
    with pytest.raises(CodecError, match=words):
        decode_event(document)


@given(st.sampled_from(sorted(kind.__name__ for kind in EVENTS)), st.dictionaries(st.sampled_from(
    ["trial", "until", "config", "attempt", "metrics", "resource", "outcome", "reason", "parameters", "model"]
), plain))  # fmt: skip
def test_junk_is_refused_or_an_event_that_can_be_written_again(kind: str, fields: dict[str, Any]) -> None:
    try:
        event = decode_event({"event": kind, **fields})
    except CodecError:
        return
    assert _marked(decode_event(_strict(dumps(encode_event(event))))) == _marked(event)


def test_a_number_that_json_does_not_know_is_refused_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps({"time": math.nan})
