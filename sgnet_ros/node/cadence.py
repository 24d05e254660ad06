"""Prediction of the next frame, for which the worker may wait."""

from __future__ import annotations

import statistics
from collections import deque


class Cadence:
    """Predict from the period of events when the next event is due.

    A worker that takes the newest frame as soon as the device is free takes a frame that is up to a
    period old. If the next frame is due within a quarter of a period, waiting for it reduces the
    rate of a slow device by a few percent at most, and the output is newer by almost a period.

    Used from two threads: one calls `tick`, the other `wait_s`.
    """

    _INTERVALS = 5  # their median forgets a pause of the camera at once
    _MAX_WAIT = 0.25  # of a period
    _MAX_DELAY = 0.125  # of a period: how late an event may come and still end the wait

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._intervals_s: deque[float] = deque(maxlen=self._INTERVALS)
        self._period_s = 0.0

    def tick(self, time_s: float) -> None:
        """Note an event."""
        if self._last_s is not None:
            self._intervals_s.append(time_s - self._last_s)
            self._period_s = statistics.median(self._intervals_s)
        self._last_s = time_s

    def wait_s(self, event_s: float, now_s: float) -> float:
        """Return the seconds to wait for the next event; 0 if it is not due soon, or overdue.

        Args:
            event_s: time of the newest event.
            now_s: current time, by the same clock.
        """
        left_s = event_s + self._period_s - now_s
        if left_s > self._MAX_WAIT * self._period_s:
            return 0.0
        return max(0.0, left_s + self._MAX_DELAY * self._period_s)
