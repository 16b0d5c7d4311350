"""Regret of methods against virtual time, on recorded benchmarks or, without a file, on a synthetic one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._report import parser
from benchmarks.synthetic import synthetic
from flows.simulate.command import compare
from flows.simulate.runs import Plan
from flows.simulate.view import draw, figures, heading, table
from hpo_engine.simulate import HOUR
from hpo_engine.types import AbohbError

METHODS = ("random", "asha", "a-bohb", "a-bohb-stop")


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("blackboxes", nargs="*", type=Path, metavar="FILE", help="NAME.npz")
    arguments.add_argument("--method", action="append", metavar="NAME", help=f"({', '.join(METHODS)})")
    arguments.add_argument("--seeds", type=int, default=10, metavar="N", help="(10)")
    arguments.add_argument("--workers", type=int, default=8, metavar="N", help="(8)")
    arguments.add_argument("--hours", type=float, metavar="H", help="virtual time")
    arguments.add_argument("--pictures", type=Path, metavar="DIRECTORY", help="a PNG for each file")
    given = arguments.parse_args()
    seconds = None if given.hours is None else given.hours * HOUR
    told: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        paths = given.blackboxes or [Path(folder) / "synthetic.npz"]
        if not given.blackboxes:
            synthetic(paths[0])
        for path in paths:
            plan = Plan(workers=given.workers, seconds=seconds)
            try:
                found = compare(path, given.method or list(METHODS), given.seeds, plan)
            except AbohbError as error:
                print(error, file=sys.stderr)
                return 2
            told[path.stem] = figures(found)
            if given.pictures:
                draw(found, given.pictures / f"{path.stem}.png")
            if not given.json:
                print(heading(found), table(found), "", sep="\n", flush=True)
    if given.json:
        print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
