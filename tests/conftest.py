from __future__ import annotations

import flows  # noqa: F401  loads BLAS with one thread, as the product does, before a test imports numpy
