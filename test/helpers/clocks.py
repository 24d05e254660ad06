"""Time for tests."""

from __future__ import annotations


class StandingClock:
    """Nanoseconds of a clock that stands still unless it is moved.

    Attributes:
        ms: what it shows, in milliseconds.
    """

    def __init__(self) -> None:
        self.ms = 0.0

    def __call__(self) -> int:
        return int(self.ms * 1_000_000)
