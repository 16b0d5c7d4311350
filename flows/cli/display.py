"""What a terminal shows while a study runs. A terminal that is gone ends the showing only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO, cast

from rich.console import Console
from rich.live import Live

from flows.views.frame import frame
from flows.views.report import duration, number, percent, plural
from flows.views.view import Leg, LegEnded, StudyView
from hpo_engine.types import Blame, Outcome

Clock = Callable[[], float]  # seconds that only ever grow


class Display(Protocol):
    """PrefectWriter is one too."""

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None: ...


def display_for(stream: TextIO | None = None, quiet: bool = False) -> LiveDisplay | LineDisplay | Quiet:
    """Moving tables on a terminal, lines elsewhere, nothing when `quiet`."""
    if quiet:
        return Quiet()
    sturdy = Sturdy(stream or sys.stdout)
    console = Console(file=cast(TextIO, sturdy), highlight=False)
    return (
        LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else LineDisplay(sturdy)
    )


class Sturdy:
    """A stream that falls silent when its reader has gone; rich would end the process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        self._try(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda stream: stream.flush())

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def _try(self, action: Callable[[TextIO], object]) -> None:
        try:
            if self._stream:
                action(self._stream)
        except (OSError, ValueError):  # a broken pipe, a full disk, a closed stream, letters it cannot write
            self._stream = None


class Quiet:
    """Shows nothing: stdout belongs to `--json`."""

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        return

    def close(self) -> None:
        return


class News:
    """What is worth a line of its own since the last call."""

    def __init__(self) -> None:
        self._messages = 0
        self._best: float | None = None

    def of(self, view: StudyView, legs: Sequence[Leg]) -> tuple[list[str], list[str]]:
        """Lines that must be seen, and lines that may be summed up when there are many."""
        must = list(view.messages[self._messages :])
        self._messages = max(self._messages, len(view.messages))
        if view.best and view.best.value != self._best:
            self._best = view.best.value
            must.append(
                f"Best so far: {view.objective} {number(view.best.value)} "
                f"(trial {view.best.trial}, {view.unit} {view.best.resource})"
            )
        ended = [leg for leg in legs if isinstance(leg, LegEnded)]
        return must, [leg_line(leg, view) for leg in sorted(ended, key=lambda leg: leg.outcome is Outcome.OK)]


def leg_line(leg: LegEnded, view: StudyView) -> str:
    if leg.outcome is not Outcome.OK:
        said = [line.strip() for line in leg.detail.splitlines() if line.strip()]
        why = f": {said[-1]}" if said else ""
        how = f"{leg.outcome.value} after {duration(leg.seconds)}"
        return f"trial {leg.trial}, attempt {leg.attempt}: {how}{why}"
    value = "" if leg.value is None else f", {view.objective} {number(leg.value)}"
    did = "was stopped" if leg.stopped else f"reached {view.unit} {leg.until}"
    return f"trial {leg.trial} {did}{value} ({duration(leg.seconds)})"


class Allowance:
    """At most `lines` in any `seconds`, saved up while nothing is said."""

    def __init__(self, lines: int, seconds: float) -> None:
        self.lines, self.seconds = lines, seconds
        self._left, self._at = float(lines), -float("inf")

    def take(self, now: float) -> bool:
        self._left = min(self.lines, self._left + (now - self._at) * self.lines / self.seconds)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class LineDisplay:
    """Plain lines, for a file, a pipe or a log; a burst of ended legs becomes one line of counts."""

    def __init__(self, stream: Sturdy, clock: Clock = time.monotonic, every: float = 30.0) -> None:
        self._stream = stream
        self._clock, self._every = clock, every
        self._news, self._allowance = News(), Allowance(lines=20, seconds=20.0)
        self._unsaid = 0
        self._status, self._status_at = "", -float("inf")

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        now = self._clock()
        lines, more = self._news.of(view, legs)
        for line in more:
            if self._allowance.take(now):
                lines.append(line)
            else:
                self._unsaid += 1
        status = self._summary(view)
        if now - self._status_at >= self._every and status != self._status:
            lines.append(status + (f"; {plural(self._unsaid, 'leg')} more ended" if self._unsaid else ""))
            self._status, self._status_at, self._unsaid = status, now, 0
        if lines:
            self._stream.write("".join(f"[{duration(view.elapsed)}] {line}\n" for line in lines))
            self._stream.flush()

    def close(self) -> None:
        return

    def _summary(self, view: StudyView) -> str:
        best = f", best {view.objective} {number(view.best.value)}" if view.best else ""
        wait = f", waiting: {view.waiting}" if view.waiting and not view.counts.running else ""
        return (
            f"{view.counts.started} trials started, {view.counts.running} running, "
            f"{view.units} {view.unit}s run, {percent(view.budget.fraction)} of the budget{best}{wait}"
        )


class LiveDisplay:
    """Tables redrawn in place, at most `rate` times a second; what is said once scrolls by above them."""

    def __init__(self, console: Console, clock: Clock = time.monotonic, rate: float = 4.0) -> None:
        self._console, self._clock, self._gap = console, clock, 1 / rate
        self._news, self._allowance = News(), Allowance(lines=10, seconds=10.0)
        self._drawn = -float("inf")
        self._view: StudyView | None = None
        self._live: Live | None = Live(console=console, auto_refresh=False, redirect_stderr=False)

    def show(self, view: StudyView, legs: Sequence[Leg] = ()) -> None:
        now = self._clock()
        self._view = view
        failed = [leg for leg in legs if isinstance(leg, LegEnded) and leg.outcome.blame is not Blame.NOBODY]
        lines, more = self._news.of(view, failed)
        lines += [line for line in more if self._allowance.take(now)]
        if not lines and now - self._drawn < self._gap:
            return
        self._drawn = now
        self._draw(view, lines)

    def close(self) -> None:
        """Leaves the last frame on the screen."""
        if self._live and self._view:
            self._draw(self._view, [])
            self._live.stop()
        self._live = None

    def _draw(self, view: StudyView, lines: Sequence[str]) -> None:
        if self._live is None:
            return
        self._live.start()  # does nothing the second time
        for line in lines:
            self._console.print(line, markup=False)
        width, height = self._console.size
        self._live.update(frame(view, width, height), refresh=True)
