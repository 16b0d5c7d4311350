"""What appears on terminals of several sizes, in pipes, and when the reader has gone."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from flows.cli.display import Allowance, LineDisplay, LiveDisplay, Quiet, Sturdy, display_for
from flows.views.frame import frame
from flows.views.view import Best, Budget, Counts, LegEnded, Level, Slot, StudyView
from hpo_engine.types import Outcome

VIEW = StudyView(
    "digits", "a-bohb", objective="val_error", elapsed=24,
    workers=(Slot(35, 1, "starting", 0, 9), Slot(36, 2, "running", 4, 9, 0.0615), Slot()),
    best=Best(17, 0.0123, 9, {"learning_rate": 0.0032, "batch_size": 64}),
    levels=(Level(1, 61, 20, 2, 0.3), Level(9, 6, None, 1, 0.0123)),
    counts=Counts(61, 2, 38, 1, 16, 2), units=347, full_units=1620, budget=Budget("35 of 60 trials", 35 / 60),
)  # fmt: skip


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def picture(view: StudyView, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(frame(view, width, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def ended(trial: int, outcome: Outcome = Outcome.OK, detail: str = "", stopped: bool = False) -> LegEnded:
    return LegEnded(trial, 1, 3, outcome, 2.0, 0.0, detail, stopped, value=0.25)


def test_the_picture_on_80_columns() -> None:
    assert [line.rstrip() for line in picture(VIEW, 80, 24)] == [
        "digits  a-bohb  24 s  61 trials: 2 running, 2 failed, 38 paused, 1 completed, 1…",
        "━━━━━━━━━━━━━━━━━╸              35 of 60 trials   347 epochs run, 79 % saved",
        "",
        "worker trial epoch          val_error   epoch recorded kept running   best",
        "     0    35   0/9 starting         –       1       61   20       2    0.3",
        "     1 36 #2   4/9             0.0615       9        6    –       1 0.0123",
        "     2     –           idle",
        "",
        "Best: val_error 0.0123, trial 17 after 9 epochs",
        "learning_rate=0.0032  batch_size=64",
    ]


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (40, 24), (200, 50)])
@pytest.mark.parametrize("workers", [0, 1, 8, 500])
@pytest.mark.parametrize("parameters", [1, 40])
def test_the_picture_fits(size: tuple[int, int], workers: int, parameters: int) -> None:
    best = Best(1, 0.5, 9, {f"parameter_{index}": 0.123456 for index in range(parameters)})
    view = replace(VIEW, workers=(VIEW.workers[1],) * workers, best=best, waiting="all workers are busy " * 9)
    lines = picture(view, *size)
    assert len(lines) < size[1]
    assert max(map(len, lines)) <= size[0]
    hidden = [int(line.split()[1]) for line in lines if "more" in line]
    assert sum("36 #2" in line for line in lines) + sum(hidden) == workers


def test_lines_for_a_pipe() -> None:
    out, clock = io.StringIO(), Time()
    display = LineDisplay(Sturdy(out), clock, every=30)
    display.show(
        VIEW, [ended(3), ended(4, stopped=True), ended(5, Outcome.USER_ERROR, "Traceback\nValueError: no\n")]
    )
    clock.now = 1
    display.show(VIEW)  # nothing new: nothing said
    display.show(replace(VIEW, messages=("told once",)))
    display.show(replace(VIEW, messages=("told once",)))
    assert out.getvalue().splitlines() == [
        "[24 s] Best so far: val_error 0.0123 (trial 17, epoch 9)",
        "[24 s] trial 5, attempt 1: user error after 2.0 s: ValueError: no",
        "[24 s] trial 3 reached epoch 3, val_error 0.25 (2.0 s)",
        "[24 s] trial 4 was stopped, val_error 0.25 (2.0 s)",
        "[24 s] 61 trials started, 2 running, 347 epochs run, 58 % of the budget, best val_error 0.0123",
        "[24 s] told once",
    ]


def test_a_burst_of_legs_is_summed_up() -> None:
    out, clock = io.StringIO(), Time()
    display = LineDisplay(Sturdy(out), clock, every=30)
    for second in range(60):
        clock.now = second
        view = replace(VIEW, best=None, counts=Counts(started=100 * second))
        display.show(view, [ended(index) for index in range(100)])
    lines = out.getvalue().splitlines()
    # 20 lines saved up, one more each second, and the counts at 0 and 30 s
    assert [len(lines), sum("reached" in line for line in lines)] == [81, 79]
    assert [line.partition("; ")[2] for line in lines if "trials started" in line] == [
        "80 legs more ended", "2970 legs more ended"]  # fmt: skip


def test_the_allowance_is_saved_up_but_not_above_its_size() -> None:
    allowance = Allowance(lines=3, seconds=3.0)
    assert [allowance.take(now) for now in (0, 0, 0, 0, 0.5, 1, 1, 100, 100, 100, 100)] == [
        True, True, True, False, False, True, False, True, True, True, False]  # fmt: skip


def test_a_terminal_is_redrawn_at_most_four_times_a_second() -> None:
    clock = Time()
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    display = LiveDisplay(console, clock)
    sizes = []
    for step in range(100):
        clock.now = step / 100
        display.show(VIEW)
        sizes.append(len(console.file.getvalue()))  # type: ignore[attr-defined]
    assert len(set(sizes)) == 4
    display.close()


def test_a_live_display_keeps_failures_and_messages_and_leaves_its_last_frame() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    display = LiveDisplay(console, Time())
    display.show(VIEW)
    display.show(
        replace(VIEW, messages=("told once",)),
        [ended(3), ended(5, Outcome.LOST), ended(6, Outcome.INTERRUPTED)],
    )
    display.show(replace(VIEW, units=999))
    display.close()
    display.show(VIEW)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("told once") == 1
    assert "trial 5, attempt 1: lost after 2.0 s" in text
    assert "trial 3 reached" not in text
    assert "interrupted" not in text
    assert "999 epochs run" in text  # too early to be drawn, but the last


class Broken(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveDisplay), (False, LineDisplay)])
def test_a_reader_that_has_gone_is_not_an_error(
    terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    display = display_for(Broken(terminal))
    assert isinstance(display, kind)
    for _ in range(3):
        display.show(VIEW, [ended(1, Outcome.LOST)])
    display.close()


def test_quiet_means_nothing_at_all_and_a_pipe_gets_lines() -> None:
    out = io.StringIO()
    quiet = display_for(out, quiet=True)
    quiet.show(VIEW, [ended(1)])
    quiet.close()
    assert isinstance(quiet, Quiet)
    assert out.getvalue() == ""
    assert isinstance(display_for(out), LineDisplay)
