"""Small pictures as SVG text: two axes and some lines, legible on light and dark pages alike."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 620, 350  # of the picture: about as wide as it is shown beside an artifact's facts
LEFT, RIGHT, TOP, BOTTOM = 74, 18, 78, 46  # margins of the plot inside it
INK, QUIET, GRID = "#24292f", "#57606a", "#e3e7eb"
LETTER = 6.4  # mean width of a letter at 12 px
NAME = 48  # letters of a name at most
DOT = 5  # across

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, linear or logarithmic. `ticks` are values with their labels."""

    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]
    name: str = ""

    def at(self, value: float) -> float:
        """0 at `low`, 1 at `high`; what lies beyond is drawn on the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(low: float, high: float, name: str, count: int = 6) -> Axis:
    """Widened to round numbers."""
    if not high > low:
        pad = abs(low) / 10 or 1.0
        low, high = low - pad, high + pad
    step = round_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple((k * step, tick_text(k * step, step)) for k in range(first, last + 1))
    return Axis(ticks[0][0], ticks[-1][0], False, ticks, name)


def logarithmic(low: float, high: float, name: str) -> Axis:
    """`low` > 0. From and to 1, 2 or 5 times a power of ten; ticks at powers of ten alone where many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    rounds = [m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5)]
    low = max(v for v in rounds if v <= low * 1.0001)
    high = min(v for v in rounds if v >= high * 0.9999 and v > low)
    every = max(1, (last - first) // 6)
    ticks = rounds if last - first <= 3 else rounds[:: 3 * every]
    return Axis(low, high, True, tuple((v, f"{v:g}") for v in ticks if low <= v <= high), name)


def round_step(step: float) -> float:
    """The next of 1, 2, 5, 10 ... times a power of ten.

    >>> round_step(0.13), round_step(7.0)
    (0.2, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(step))
    return next(m for m in (1.0, 2.0, 5.0, 10.0) if m * power >= step * 0.9999) * power


def tick_text(value: float, step: float) -> str:
    """As many digits as tell it from its neighbours.

    >>> tick_text(0.30000000000000004, 0.1), tick_text(2e6, 1e6), tick_text(0.0, 0.5)
    ('0.3', '2e+06', '0.0')
    """
    if max(abs(value), step) >= 1e5 or step < 1e-4:
        return f"{value:.3g}" if abs(value) > step / 2 else "0"
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


@dataclass(frozen=True, slots=True)
class Mark:
    """A line; of a single point a dot. `steps`: level until the next point."""

    points: Sequence[Point]
    colour: str
    width: float = 1.5
    opacity: float = 1.0
    steps: bool = False
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    title: str
    subtitle: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]  # the last one on top
    legend: Sequence[tuple[str, str]] = ()  # (colour, words)
    guides: Sequence[float] = ()  # x values with a dotted line
    note: str = ""  # beside the end of the last mark


def svg(picture: Picture) -> str:
    """The whole picture; on a card of its own, as a page does not say whether it is dark."""
    x, y = picture.x, picture.y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" font-family="system-ui,sans-serif" font-size="12" fill="{QUIET}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff" stroke="#d0d7de"/>',
        _text(LEFT, 24, picture.title, f'font-size="15" font-weight="600" fill="{INK}"'),
        _text(LEFT, 43, picture.subtitle),
        *_axes(x, y),
        *(f'<path d="M{_x(x, v)} {TOP}V{HEIGHT - BOTTOM}" stroke="{QUIET}" stroke-opacity=".35"'
          ' stroke-dasharray="1 4"/>' for v in picture.guides),
        *(_drawn(mark, x, y) for mark in picture.marks),
        *_legend(picture.legend),
    ]  # fmt: skip
    if picture.note and picture.marks and picture.marks[-1].points:
        end = picture.marks[-1].points[-1]
        over = y.at(end[1]) > 0.5  # where there is more room
        style = f'text-anchor="end" font-weight="600" fill="{picture.marks[-1].colour}"'
        parts.append(_text(WIDTH - RIGHT - 4, _y(y, end[1]) + (18 if over else -9), picture.note, style))
    return "".join(parts) + "</svg>"


def data_uri(picture: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()


def clean(text: str) -> str:
    """As XML takes it, and not too long."""
    text = re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
    return html.escape(text if len(text) <= 2 * NAME else text[: 2 * NAME - 1] + "…")


def _axes(x: Axis, y: Axis) -> list[str]:
    base, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    parts = []
    for value, label in y.ticks:
        at = _y(y, value)
        parts.append(f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 8, at + 4, label, 'text-anchor="end"'))
    for value, label in x.ticks:
        parts.append(_text(_x(x, value), base + 17, label, 'text-anchor="middle"'))
    parts.append(f'<path d="M{LEFT} {base}H{WIDTH - RIGHT}" stroke="{QUIET}"/>')
    scale = " (log scale)"
    name = x.name[:NAME] + (scale if x.log else "")
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, name, 'text-anchor="middle"'))
    turned = f'text-anchor="middle" transform="rotate(-90 18 {middle})"'
    parts.append(_text(18, middle, y.name[:NAME] + (scale if y.log else ""), turned))
    return parts


def _drawn(mark: Mark, x: Axis, y: Axis) -> str:
    style = (
        f'stroke="{mark.colour}" stroke-width="{mark.width}" stroke-linecap="round" stroke-linejoin="round"'
    )
    style += f' stroke-opacity="{mark.opacity}"' if mark.opacity < 1 else ""
    places = [(_x(x, a), _y(y, b)) for a, b in mark.points]
    if not places:
        return ""
    path = f"M{places[0][0]} {places[0][1]}"
    path += "".join(f"H{a}V{b}" if mark.steps else f"L{a} {b}" for a, b in places[1:])
    dots = "".join(f"M{a} {b}h.01" for a, b in places) if mark.dots or len(places) == 1 else ""
    if dots:
        dots = f'<path d="{dots}" stroke="{mark.colour}" stroke-width="{DOT}" stroke-linecap="round"/>'
    return (f'<path d="{path}" fill="none" {style}/>' if len(places) > 1 else "") + dots


def _legend(entries: Sequence[tuple[str, str]]) -> list[str]:
    parts, left = [], float(LEFT)
    for colour, words in entries:
        parts.append(f'<path d="M{left:.0f} 58h14" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(left + 20, 62, words))
        left += 40 + len(words) * LETTER
    return parts


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{round(x, 1):g}" y="{round(y, 1):g}"{" " if style else ""}{style}>{clean(text)}</text>'


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - TOP - BOTTOM), 1)
