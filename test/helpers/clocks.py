"""Clocks that tests control."""

from __future__ import annotations


class StandingClock:
    """A clock in nanoseconds that stands still unless a test moves it.

    Attributes:
        ms: The time in milliseconds.
    """

    def __init__(self) -> None:
        self.ms = 0.0

    def __call__(self) -> int:
        return int(self.ms * 1_000_000)
