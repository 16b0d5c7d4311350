"""Real local studies in this process: the best checkpoint, interrupts, a store that goes away."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from flows.controller import places, run
from flows.controller.loop import Ending
from flows.controller.run import tune_locally, whole
from flows.study.file import parse_study
from flows.study.model import Study
from flows.views.view import Leg, LegEnded, LegStarted, StudyView
from hpo_engine.history import History
from hpo_engine.types import AttemptEnded, AttemptStarted, Report
from operators.journal import Fenced, Journal
from operators.lease import Owned
from operators.store import DirectoryStore, StoreError
from tests.flows.invariants import check_journal
from tests.flows.real_study import TRIAL, trial_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@dataclasses.dataclass
class Recorder:
    """Keeps what it is shown, and does something at the `at`-th time."""

    at: int = -1
    then: Callable[[], None] = lambda: None
    legs: list[Leg] = dataclasses.field(default_factory=list)
    views: list[StudyView] = dataclasses.field(default_factory=list)

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        self.legs += legs
        self.views.append(view)
        if len(self.views) == self.at:
            self.then()


def quick_study(folder: Path, trial: str = TRIAL, **more: object) -> Study:
    (folder / "trial.sh").write_text(trial.replace("sleep 0.05", "sleep 0.02"))
    study: dict[str, object] = {
        "name": "quick",
        "command": ["sh", "trial.sh"],
        "metrics": ["loss", "sum"],
        "resource": {"min": 1, "max": 9, "eta": 3},
        "space": {"rate": {"type": "float", "low": 0.0, "high": 1.0}},
        "method": "asha",
        "budget": {"trials": 6},
        "store": "runs",
        "workdir": ".",
    }
    return parse_study({**study, **more}, folder)


def store_of(study: Study) -> DirectoryStore:
    return DirectoryStore(study.store_path())


def best_of(view: StudyView) -> tuple[int, int, str]:
    assert view.best is not None
    return view.best.trial, view.best.resource, view.best.checkpoint


def test_start_to_end_and_the_best_checkpoint_follows_the_best(tmp_path: Path) -> None:
    # The loss falls with the epochs: the best report is the last one of a trial, and its sum tells which.
    trial = TRIAL.replace('"loss\\": $rate', '"loss\\": $rate$epoch').replace(
        "$rate$epoch", "-$epoch.$(printf %s $rate | tr -dc 0-9)"
    )
    study = quick_study(tmp_path, trial, budget={"trials": 3}, resource={"min": 1, "max": 3, "eta": 3})
    recorder = Recorder()
    view, ending = tune_locally(study, [recorder])
    assert ending == Ending("the budget of 3 trials is used")
    events = check_journal(study, store_of(study))
    begun = [(leg.trial, leg.attempt) for leg in recorder.legs if isinstance(leg, LegStarted)]
    ended = [(leg.trial, leg.attempt) for leg in recorder.legs if isinstance(leg, LegEnded)]
    assert begun == [(e.trial, e.attempt) for e in events if isinstance(e, AttemptStarted)]
    assert sorted(ended) == sorted(set(begun))
    _, epoch, checkpoint = best_of(view)
    assert epoch == 3
    assert checkpoint == str(tmp_path / "runs/quick/best")
    assert Path(checkpoint, "sum").read_text() == "6\n"
    assert view.best is not None
    assert view.best.metrics["sum"] == 6
    assert view.finished == recorder.views[-1].finished == "the budget of 3 trials is used"

    # With more budget and to the end of another trial, the directory is the new best's; without one it goes.
    (tmp_path / "trial.sh").write_text((tmp_path / "trial.sh").read_text().replace("-$epoch.", "-1$epoch."))
    more = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": 6})})
    view, _ = tune_locally(more, [])
    trial_id, epoch, checkpoint = best_of(view)
    assert trial_id >= 3
    assert Path(checkpoint, "sum").read_text() == f"{epoch * (epoch + 1) // 2}\n"
    text = (tmp_path / "trial.sh").read_text().replace("-1$epoch.", "-2$epoch.")
    (tmp_path / "trial.sh").write_text(text.replace(', \\"checkpoint\\": \\"ckpt-$epoch\\"', ""))
    view, _ = tune_locally(
        study.model_copy(update={"budget": study.budget.model_copy(update={"trials": 7})}), []
    )
    assert best_of(view)[0] == 6
    assert best_of(view)[2] == ""
    assert not Path(checkpoint).exists()
    assert not [name for name in os.listdir(tmp_path / "runs/quick") if name.startswith(".")]


def test_an_interrupt_ends_the_trials_and_leaves_the_study_resumable(tmp_path: Path) -> None:
    study = quick_study(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        tune_locally(study, [Recorder(at=4, then=lambda: signal.raise_signal(signal.SIGINT))])
    assert trial_processes(tmp_path) == []
    store = store_of(study)
    events = check_journal(study, store)
    assert sum(isinstance(e, AttemptStarted) for e in events) == sum(
        isinstance(e, AttemptEnded) for e in events
    )
    owner = json.loads(store.get("quick/owner.json") or b"{}")
    assert owner["released"]
    _, ending = tune_locally(study, [])
    assert ending.final
    events = check_journal(study, store)
    for id in range(6):
        told = [e.metrics["sum"] for e in events if isinstance(e, Report) and e.trial == id]
        assert told == [epoch * (epoch + 1) / 2 for epoch in range(1, len(told) + 1)]


class Trouble:
    """The directory store; `then` is called at each call of `name`, before its effect."""

    def __init__(self, study: Study, name: str, then: Callable[[int], None]) -> None:
        self.inner, self.name, self.then, self.calls = store_of(study), name, then, 0
        self.root = self.inner.root

    def __getattr__(self, name: str) -> Any:
        if name == self.name:
            self.calls += 1
            self.then(self.calls)
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    ("kind", "method", "at"),
    [(History, "apply", 3), (History, "apply", 12), (Journal, "_count", 2), (Journal, "_count", 3)],
    ids=["folded, not told", "later", "written, not known to be", "later"],
)
def test_an_interrupt_amid_a_pass_does_not_part_history_and_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, at: int
) -> None:
    study, calls, plain = quick_study(tmp_path, budget={"trials": 4}), [], getattr(kind, method)

    def interrupted(self: object, argument: object) -> None:
        plain(self, argument)
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(kind, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune_locally(study, [])
    check_journal(study, store_of(study))
    assert trial_processes(tmp_path) == []
    _, ending = tune_locally(study, [])
    assert ending == Ending("the budget of 4 trials is used")
    check_journal(study, store_of(study))


def test_while_the_store_is_away_it_is_tried_again_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = quick_study(tmp_path, budget={"trials": 4})

    def away(calls: int) -> None:
        if 8 <= calls < 10:
            raise OSError("no route")

    monkeypatch.setattr(places, "open_store", lambda study: Trouble(study, "list", away))
    recorder = Recorder()
    _, ending = tune_locally(study, [recorder])
    assert ending == Ending("the budget of 4 trials is used")
    assert recorder.views[-1].messages == ("the store does not answer (no route); trying again",)
    check_journal(study, store_of(study))


@pytest.mark.parametrize("patience", [60.0, 0.5])
def test_a_store_that_refuses_us_is_tried_again_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """Keys are being renewed, or it just begins to run; it may also be for good."""
    study = quick_study(tmp_path, budget={"trials": 4})
    monkeypatch.setattr(run, "REFUSALS", patience)

    def refuses(calls: int) -> None:
        if 8 <= calls < 11:
            raise StoreError("403")

    monkeypatch.setattr(places, "open_store", lambda study: Trouble(study, "list", refuses))
    if patience > 1.0:
        _, ending = tune_locally(study, [])
        assert ending == Ending("the budget of 4 trials is used")
    else:
        with pytest.raises(StoreError, match="403"):
            tune_locally(study, [])
    check_journal(study, store_of(study))


def test_an_interrupt_of_one_that_was_taken_over_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials of this machine are the next controller's by then."""
    study, calls = quick_study(tmp_path), Mock()

    def taken(*_: object) -> bool:
        raise Fenced("taken")

    monkeypatch.setattr(run, "_wind_up", taken)
    run._interrupt(calls.session, places.LocalPlace(study), calls.backend, [])
    assert [name for name, *_ in calls.mock_calls] == ["session.controller.cancel", "backend.abandon"]


@pytest.mark.parametrize(
    ("ours", "told", "ended"),
    [(True, ["Jobs may be left"], "backend.close"), (False, [run.AT_WORK], "backend.abandon")],
)
def test_an_interrupt_says_what_it_leaves_at_work(
    monkeypatch: pytest.MonkeyPatch, ours: bool, told: list[str], ended: str
) -> None:
    calls, shown = Mock(), Mock()
    calls.session.watch.messages = []
    calls.backend.notes.return_value = ("Jobs may be left",)
    monkeypatch.setattr(run, "_wind_up", lambda *_: ours)
    monkeypatch.setattr(run, "current_view", lambda controller, session: tuple(session.watch.messages))
    run._interrupt(calls.session, Mock(lasting=True), calls.backend, [shown])
    assert ended in [name for name, *_ in calls.mock_calls]
    assert shown.show.call_args.args[0] == tuple(told)


def test_an_interrupt_while_the_store_is_away_ends_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = quick_study(tmp_path)
    monkeypatch.setattr(run, "GRACE", 1.0)

    def away(calls: int) -> None:
        if calls >= 8:
            raise OSError("no route")

    def shown() -> None:
        threading.Timer(
            0.2, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        ).start()

    class Told(Recorder):
        def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
            if view.messages and not self.views:
                self.views.append(view)
                shown()

    with monkeypatch.context() as patched:
        patched.setattr(places, "open_store", lambda study: Trouble(study, "list", away))
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            tune_locally(study, [Told()])
    assert time.monotonic() - began < 15
    assert trial_processes(tmp_path) == []
    _, ending = tune_locally(study, [])
    assert ending.final
    check_journal(study, store_of(study))


def test_cancelled_from_outside_it_is_no_end(tmp_path: Path) -> None:
    study, recorder = quick_study(tmp_path), Recorder()
    view, ending = tune_locally(study, [recorder], cancelled=lambda: len(recorder.views) > 3)
    assert ending == Ending("cancelled in Prefect", final=False)
    assert view.finished == ""
    assert trial_processes(tmp_path) == []
    assert check_journal(study, store_of(study))


def test_a_stalled_attempt_is_ended_and_counts_against_the_trial(tmp_path: Path) -> None:
    stall = "trap '' TERM; sleep 60 & wait"
    study = quick_study(tmp_path, stall, stall_after=0.3, max_failures=0, max_failed_trials=2, workers=2)
    view, ending = tune_locally(study, [])
    assert ending.failed
    assert ending.reason.startswith(
        "2 trials in a row failed; the last failure: stalled: no line in metrics.jsonl for 0.3 s"
    )
    assert [(f.outcome.value, f.count) for f in view.failures] == [("stalled", 2)]
    assert trial_processes(tmp_path) == []


def test_who_is_refused(tmp_path: Path) -> None:
    study, refused = quick_study(tmp_path, budget={"trials": 3}), []

    def again() -> None:
        try:
            tune_locally(study, [])
        except Owned as error:
            refused.append(str(error))

    tune_locally(study, [Recorder(at=3, then=again)])
    assert len(refused) == 1
    assert f"process {os.getpid()}" in refused[0]


def test_taken_over_it_stops_at_its_next_pass_and_leaves_all_to_the_other(tmp_path: Path) -> None:
    study, results = quick_study(tmp_path), []
    take = lambda: results.append(tune_locally(study, [], take_over=True))  # noqa: E731
    with pytest.raises(Fenced):
        tune_locally(study, [Recorder(at=5, then=take)])
    ((view, ending),) = results
    assert ending.final
    assert view.counts.started == 6
    check_journal(study, store_of(study))


def test_interrupted_just_after_it_was_taken_over_it_leaves_all_to_the_other(tmp_path: Path) -> None:
    study, results = quick_study(tmp_path), []

    def take() -> None:
        results.append(tune_locally(study, [], take_over=True))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_locally(study, [Recorder(at=5, then=take)])
    ((_, ending),) = results
    assert ending.final
    check_journal(study, store_of(study))


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        tune_locally(quick_study(tmp_path), [])


def test_signals_wait_for_the_end_of_what_is_whole() -> None:
    done: list[int] = []

    def interrupted(error: Exception | None = None) -> None:
        with whole():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(KeyboardInterrupt):
        interrupted(OSError("away"))
    assert done == [1, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    elsewhere = threading.Thread(target=lambda: whole().__enter__())
    elsewhere.start()
    elsewhere.join()
