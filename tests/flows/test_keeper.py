"""When a run is begun again, left alone, or cleared away; its pauses; which of two runs has a study."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType

from flows.deployment import door
from flows.deployment.door import at_the_door, described, rival
from flows.deployment.flow_runs import Run
from flows.deployment.keeper import (
    AGAIN,
    HOUR,
    LAUNCHING,
    LONGEST,
    RECENT,
    SETTLING,
    SETTLING_POD,
    Act,
    Facts,
    decide,
    pause,
    words,
)
from flows.study.model import Study

LATER = SETTLING_POD + 1


def fact(state: StateType, **known: object) -> Facts:
    return Facts(**{"state": state, "age": LATER, "here": False, "owned": False, **known})  # type: ignore[arg-type]


@pytest.mark.parametrize("pods", [False, True], ids=["processes", "pods"])
@pytest.mark.parametrize("state", StateType)
def test_two_controllers_never_have_one_study(state: StateType, pods: bool) -> None:
    for age, owned in itertools.product((0.0, LATER, RECENT * 9), (True, None)):
        told = Act.RUNNING if state is StateType.PAUSED and owned else Act.LEAVE
        assert decide(Facts(state, age, False, owned), pods=pods) is told
    for owned in (True, False, None):
        told = Act.RUNNING if state is StateType.PAUSED else Act.LEAVE
        assert decide(Facts(state, 0.0, True, owned), pods=pods) is told
        assert decide(Facts(state, LATER, True, owned), pods=pods) is not Act.AGAIN


@pytest.mark.parametrize(
    "state",
    [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.SCHEDULED],
)
def test_what_has_ended_by_itself_or_by_a_person_stays_so(state: StateType) -> None:
    assert decide(fact(state)) is decide(fact(state), pods=True) is Act.LEAVE


@pytest.mark.parametrize("pods", [False, True])
def test_prefects_own_pause_does_not_reach_a_study(pods: bool) -> None:
    assert decide(fact(StateType.PAUSED, owned=True), pods=pods) is Act.RUNNING
    assert decide(fact(StateType.PAUSED, here=True, owned=None), pods=pods) is Act.RUNNING
    assert decide(fact(StateType.PAUSED, owned=None), pods=pods) is Act.LEAVE
    assert decide(fact(StateType.PAUSED), pods=pods) is Act.AGAIN


@pytest.mark.parametrize("state", [StateType.RUNNING, StateType.PENDING])
def test_what_died_without_a_word_goes_on_once_it_had_time_to_begin(state: StateType) -> None:
    assert decide(fact(state)) is Act.AGAIN
    assert decide(fact(state, age=SETTLING - 1)) is Act.LEAVE


def test_a_pod_may_wait_for_room_as_long_as_it_likes_but_has_to_own_its_study_soon() -> None:
    assert decide(fact(StateType.PENDING, age=RECENT, launched=True), pods=True) is Act.LEAVE
    assert decide(fact(StateType.PENDING, age=LAUNCHING - 1), pods=True) is Act.LEAVE
    assert decide(fact(StateType.PENDING, age=LAUNCHING + 1), pods=True) is Act.AGAIN, "no worker made it"
    assert decide(fact(StateType.RUNNING), pods=True) is Act.AGAIN
    assert decide(fact(StateType.RUNNING, age=SETTLING + 1), pods=True) is Act.LEAVE


def test_what_crashed_goes_on_at_once_but_not_after_days() -> None:
    assert decide(fact(StateType.CRASHED, age=0.0)) is Act.AGAIN
    assert decide(fact(StateType.CRASHED, age=RECENT + 1)) is Act.LEAVE


def test_a_cancellation_is_brought_to_its_end() -> None:
    assert decide(fact(StateType.CANCELLING, age=0.0)) is Act.CLEAR
    assert decide(fact(StateType.CANCELLING, here=True, age=5.0)) is Act.LEAVE
    assert decide(fact(StateType.CANCELLING, here=True)) is Act.KILL


def test_what_dies_again_and_again_waits_longer_each_time() -> None:
    now = 100_000.0
    deaths: list[float] = []
    pauses = []
    for _ in range(10):
        pauses.append(pause(deaths, now))
        deaths.append(now)
        now += pauses[-1] + 5
    assert pauses[:5] == [0.0, 10.0, 20.0, 40.0, 80.0]
    assert max(pauses) <= LONGEST
    assert pause(deaths, now + HOUR) == 0.0, "a quiet hour is forgiven"
    assert words([], now, "signal 9") == f"{AGAIN} (signal 9); the study goes on where it was"
    assert (
        words([now, now], now) == f"{AGAIN}, 3 times within an hour; the study goes on where it was in 20 s"
    )


def form(**fields: object) -> Run:
    """A run as it comes, with the parameters of the form."""
    parameters = {"study": "digits", "image": "registry.example/digits:1", "trials": 3, **fields}
    return Run(uuid4(), "tune", "r", "digits", parameters, StateType.SCHEDULED, None, "", 0.0, 0.0)


def test_a_form_that_trips_us_is_refused_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = "n: {type: int, low: 65, high: 3000000}"
    refusal = at_the_door(form(search_space=wide, arguments="--n={n:c}"), [])
    assert refusal is not None
    assert "cannot be written for n = 3000000" in refusal.message

    def trip(*_: object) -> Study:
        raise RecursionError("deep")

    monkeypatch.setattr(door, "wanted", trip)
    refusal = at_the_door(form(), [])
    assert refusal is not None
    assert "an error of abohb's own: RecursionError: deep" in refusal.message


def test_what_is_no_longer_allowed_is_still_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("registries: [elsewhere.example]\n")
    monkeypatch.setenv("ABOHB_POLICY", str(policy))
    monkeypatch.setenv("ABOHB_STORE", "s3://tuning/studies")
    monkeypatch.setenv("ABOHB_AGENT_IMAGE", "elsewhere.example/agent:1")
    refusal = at_the_door(form(), [])
    assert refusal is not None
    assert "is not allowed by the policy" in refusal.message
    assert refusal.text.startswith("# Nothing was started")
    again = at_the_door(dataclasses.replace(form(), begun=True), [])
    assert again is not None
    assert again.text.startswith("# It does not go on")
    study = described(form())
    assert (study.name, study.store) == ("digits", "s3://tuning/studies")


def run(state: StateType, created: float, study: str = "s") -> Run:
    return Run(uuid4(), "tune", f"{state.name}-{created}", study, {}, state, None, "", 0.0, created)


@pytest.mark.parametrize("state", [StateType.RUNNING, StateType.CANCELLING])
def test_a_study_that_is_at_work_is_not_begun_again(state: StateType) -> None:
    mine, other = run(StateType.SCHEDULED, 1.0), run(state, 2.0)
    assert rival(mine, "s", [mine, other]) is other
    assert rival(mine, "s", [mine, run(state, 2.0, "another")]) is None


@pytest.mark.parametrize("state", [StateType.SCHEDULED, StateType.PENDING])
def test_of_several_that_wait_exactly_one_may_begin(state: StateType) -> None:
    waiting = [run(state, created) for created in (3.0, 1.0, 2.0)]
    assert [one.created for one in waiting if rival(one, "s", waiting) is None] == [1.0]


def test_what_is_begun_goes_before_what_waits() -> None:
    waiting, begun = run(StateType.SCHEDULED, 1.0), run(StateType.PENDING, 2.0)
    assert rival(waiting, "s", [waiting, begun]) is begun
    assert rival(begun, "s", [waiting, begun]) is None
