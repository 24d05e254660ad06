"""Spinning an executor for a while or until a condition holds."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.executors import Executor

_CHECK_S = 0.05
_RESPONSE_S = 0.1  # until an interrupt is seen: rclpy's waiting does not end with it
_WATCH_S = 0.5


def spin_for(executor: Executor, seconds: float) -> None:
    """Take messages for a while, but at least one that is there already."""
    end = time.monotonic() + seconds
    executor.spin_once(timeout_sec=0)
    while (left := end - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=min(left, _RESPONSE_S))


def spin_until(
    executor: Executor,
    condition: Callable[[], object],
    patience_s: float,
    watch: Callable[[], None] | None = None,
) -> bool:
    """Take messages until a condition holds.

    Args:
        executor: of the nodes.
        condition: checked after each message, and every 50 ms.
        patience_s: seconds after which to give up; may be infinite.
        watch: called every half second; ends the waiting by an exception.

    Returns:
        False if it was given up.
    """
    deadline, next_watch = time.monotonic() + patience_s, 0.0
    while not condition():
        executor.spin_once(timeout_sec=_CHECK_S)
        now = time.monotonic()
        if watch is not None and now >= next_watch:
            next_watch = now + _WATCH_S
            watch()
        if now > deadline:
            return False
    return True
