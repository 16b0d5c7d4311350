"""The agent of a pod: `python -m operators.sidecar prepare|follow`, two containers of one image.

`follow` is a native sidecar, `prepare` the init container behind it: the two start at the same time, and
the training code starts when `prepare` has exited with 0. So user code never runs without an agent beside it,
and a pod that must not run fails by itself. What they know is in their termination messages.
"""

from __future__ import annotations

import os
import signal
import sys

PARTS = ("prepare", "follow")


def main(argv: list[str]) -> int:
    # Before the rest is loaded: process 1 of a container never hears of a signal that it does not expect.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if len(argv) != 1 or argv[0] not in PARTS:
        print(f"usage: python -m operators.sidecar {'|'.join(PARTS)}", file=sys.stderr)
        return 2
    from operators.sidecar_place import place_of

    place = place_of(os.environ)
    try:
        if argv[0] == "follow":
            from operators.sidecar_follow import follow

            return follow(place, os.environ)
        from operators.sidecar_prepare import prepare

        return prepare(place, os.environ)
    except Exception as error:
        import traceback

        traceback.print_exc()
        place.fail(error)
        return 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # what is left has nothing to say, and the kubelet waits
