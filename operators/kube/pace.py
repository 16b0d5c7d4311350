"""Politeness towards the API server: how often to ask, and how long to wait after a refusal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FIRST, MOST = 0.25, 10.0  # seconds


class TokenBucket:
    """Lets `rate` calls a second through, and `burst` at once after a pause. For many threads."""

    def __init__(
        self,
        rate: float = 20.0,
        burst: int = 40,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._burst = rate, burst
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._tokens = float(burst)
        self._then = clock()  # when that was right; later than now while nobody may pass

    def take(self) -> float:
        """Wait for one's turn; the seconds that it took."""
        with self._lock:
            now = self._clock()
            start = max(now, self._then)
            # May fall below 0: those calls are promised already, whoever comes later waits behind them.
            self._tokens = min(float(self._burst), self._tokens + (start - self._then) * self._rate) - 1.0
            self._then = start
            wait = start - now + max(0.0, -self._tokens / self._rate)
        if wait > 0:
            self._sleep(wait)
        return wait

    def hold(self, seconds: float) -> None:
        """Let nobody through for so long (Retry-After), and then no burst."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._tokens, 0.0)
            self._then = max(self._then, now + seconds)


def backoff(failures: int, luck: float, *, first: float = FIRST, most: float = MOST) -> float:
    """Seconds to wait after so many failures in a row: doubles, less up to half by `luck` (0..1)."""
    if failures <= 0:
        return 0.0
    return min(most, first * 2.0 ** min(failures - 1, 30)) * (1.0 - 0.5 * luck)
