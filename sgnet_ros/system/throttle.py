"""Rate limit for messages to the user."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Throttle:
    """Let at most one event per key and interval pass.

    Args:
        interval_s: seconds between two events of the same key.
        clock: monotonic seconds.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._last: dict[str, float] = {}

    def passes(self, key: str = "") -> bool:
        """Return True, and record it, unless ``key`` passed within the last interval."""
        now = self._clock()
        if now - self._last.get(key, -math.inf) < self._interval_s:
            return False
        self._last[key] = now
        return True
