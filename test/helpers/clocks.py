"""Clocks that tests control."""

from __future__ import annotations


class Clock:
    """A clock in seconds that stands at ``now``."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class StandingClock:
    """A clock in nanoseconds that stands still unless a test moves it.

    Attributes:
        ms: The time in milliseconds.
    """

    def __init__(self) -> None:
        self.ms = 0.0

    def __call__(self) -> int:
        return int(self.ms * 1_000_000)
