"""SIGINT and SIGTERM as exceptions that a block of code can defer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """Raise KeyboardInterrupt on SIGINT and SIGTERM, but not within `deferred`.

    A context manager, which restores the previous handlers. Initialize rclpy with
    ``SignalHandlerOptions.NO``, because its handlers end the context in the middle of a
    publication.
    """

    def __init__(self) -> None:
        self._deferring = False
        self._pending = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Run a block to its end; if a signal arrived meanwhile, raise KeyboardInterrupt then."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._deferring:
            self._pending = True
        else:
            raise KeyboardInterrupt
