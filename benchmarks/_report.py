"""What the benchmarks share: figures with their limits, as a table or as JSON; timing; memory."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_SPELT = {"%": "percent", "events/s": "events per s"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number. `most` and `least` are what the project promises; None: nothing."""

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def kept(self) -> bool:
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    @property
    def key(self) -> str:
        """In JSON: `asha_ask_new_trial_ms`."""
        words = re.findall(
            r"[a-z0-9]+", f"{self.name} {_SPELT.get(self.unit, self.unit)}".lower().replace("'s", "")
        )
        return "_".join(words)

    @property
    def promise(self) -> str:
        if self.most is None and self.least is None:
            return ""
        bound = f"at most {self.most:g}" if self.most is not None else f"at least {self.least:g}"
        return f"{bound}{'' if self.kept else '  MISSED'}"


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="one JSON object of figures instead of the table")
    return made


def publish(figures: Sequence[Figure], *, as_json: bool) -> int:
    """Print them. The exit code: 1 when a promise was missed."""
    if as_json:
        print(json.dumps({figure.key: figure.value for figure in figures}))
    else:
        print(table([[f.name, f"{f.value:,.4g} {f.unit}", f.promise] for f in figures]))
    missed = [figure.name for figure in figures if not figure.kept]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def keep(name: str, minutes: float, figures: Sequence[Figure]) -> None:
    """In benchmarks/results, under the day's date."""
    RESULTS.mkdir(exist_ok=True)
    day = datetime.datetime.now(datetime.UTC).date()
    result = {"date": str(day), "minutes": minutes, **{f.name: f.value for f in figures}}
    (RESULTS / f"{day}-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first and the last to the left, numbers between them to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(w) if c in (0, last) else cell.rjust(w)
            for c, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def now() -> float:
    """Seconds of CPU time of this process: what others do on the machine at the same time does not count."""
    return time.process_time()


def seconds_of(action: Callable[[], object], *, repeat: int = 1) -> float:
    """The median CPU time of `repeat` calls."""
    taken = []
    for _ in range(repeat):
        began = now()
        action()
        taken.append(now() - began)
    return statistics.median(taken)


def peak_mib() -> float:
    """The most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
