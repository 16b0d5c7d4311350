"""The agent of a pod: `python -m operators.sidecar prepare|follow`, two containers of one image.

`follow` is a native sidecar, `prepare` the init container behind it: the two start at the same time, and
the training code starts when `prepare` has exited with 0. So user code never runs without an agent beside it,
and a pod that must not run fails by itself. What they know is in their termination messages.
"""

from __future__ import annotations

import os
import sys
import traceback

from hpo_engine.types import Outcome
from operators.sidecar_follow import follow
from operators.sidecar_place import place_of
from operators.sidecar_prepare import prepare
from operators.verdict import Facts

_PARTS = {"prepare": prepare, "follow": follow}


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0] not in _PARTS:
        print(f"usage: python -m operators.sidecar {'|'.join(_PARTS)}", file=sys.stderr)
        return 2
    place = place_of(os.environ)
    try:
        return _PARTS[argv[0]](place, os.environ)
    except Exception as error:
        traceback.print_exc()
        if not place.message.exists() or not place.message.read_bytes():
            spec, message = place.spec, f"the agent failed: {error!r}"
            place.say(Facts(spec.trial, spec.attempt, spec.resource, ended=Outcome.LOST, message=message))
        return 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # what is left has nothing to say, and the kubelet waits
