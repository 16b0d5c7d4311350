from __future__ import annotations

import signal

import flows  # noqa: F401  loads BLAS with one thread, as the product does, before a test imports numpy

# A shell that begins us in the background has us ignore interrupts, and the commands that we test with us.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
