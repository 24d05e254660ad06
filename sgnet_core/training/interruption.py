"""End a run between two iterations on Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

ECHO = 3.0
"""Seconds in which repeated signals count as one, because torchrun and schedulers repeat them."""


class Interruption:
    """Context that records the first SIGINT or SIGTERM instead of ending the process.

    A second signal after `ECHO` has its usual effect. Outside the main thread, Python does not
    allow signal handlers, and signals have their usual effect.

    Attributes:
        number: number of the received signal; 0 without one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._noted = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self.number = 0
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.number:
            self.number, self._noted = number, now
        elif now - self._noted > ECHO:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
