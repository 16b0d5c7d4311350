"""Studies and what runs them. Importing it loads numpy and scipy with one BLAS thread.

With more threads the last bits of a model fit depend on the machine's load, and the matrices here are too
small to gain from them. The environment is left as it was: training code has its own threads.
"""

from __future__ import annotations

import os

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_before = {name: os.environ.get(name) for name in _THREADS}
os.environ.update(dict.fromkeys(_THREADS, "1"))
import numpy  # noqa: E402, F401
import scipy.linalg  # noqa: E402, F401

for _name, _value in _before.items():
    if _value is None:
        del os.environ[_name]
    else:
        os.environ[_name] = _value
