"""One run of a deployed flow, in a process of its own.

In the pod of a work pool: `python -m flows.deployment.child`. The flow is ours,
whatever entrypoint or pull steps the deployment's record in Prefect names.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from uuid import UUID

from prefect.exceptions import TerminationSignal
from prefect.flow_engine import load_flow_run, run_flow

from flows.deployment import flows as deployed
from flows.deployment import pages
from flows.metrics import book as metrics

FLOWS = {"tune": deployed.tune, "steer": deployed.steer}


def execute(kind: str, run: str) -> None:
    """Run it to its end. The state of the run says what became of it, the exit code only whether it does."""
    try:
        flow_run = load_flow_run(UUID(run))
        if flow_run.state and not flow_run.state.is_pending():
            return  # before its pod had started it was refused, cancelled, or begun by another process
        run_flow(FLOWS[kind], flow_run=flow_run, return_type="state")
    except TerminationSignal:  # before the flow has begun, or when it had ended already
        sys.exit(1)


def main() -> None:
    """The process of a pod: it shows its own metrics, at ABOHB_METRICS_PORT if that is set."""
    if port := os.environ.get("ABOHB_METRICS_PORT"):
        metrics.prepare()
        with suppress(OSError):  # something else has the port
            pages.start(int(port), {})
    execute("tune", os.environ["PREFECT__FLOW_RUN_ID"])


if __name__ == "__main__":
    main()
