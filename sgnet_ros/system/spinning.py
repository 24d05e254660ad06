"""Spin an executor for a while or until a condition holds."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.executors import Executor

_CHECK_S = 0.05
_RESPONSE_S = 0.1  # longest wait at a time, because a signal does not end rclpy's waiting
_WATCH_S = 0.5


def spin_for(executor: Executor, seconds: float) -> None:
    """Process messages for a while, and at least one that has arrived already."""
    end = time.monotonic() + seconds
    executor.spin_once(timeout_sec=0)
    while (left := end - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=min(left, _RESPONSE_S))


def spin_until(
    executor: Executor,
    condition: Callable[[], object],
    timeout_s: float,
    watch: Callable[[], None] | None = None,
) -> bool:
    """Process messages until a condition holds.

    Args:
        executor: executor of the nodes.
        condition: checked after each message, and every 50 ms.
        timeout_s: longest wait; may be infinite.
        watch: called every half second; an exception of it ends the waiting.

    Returns:
        False if the condition did not hold in time.
    """
    deadline, next_watch = time.monotonic() + timeout_s, 0.0
    while not condition():
        executor.spin_once(timeout_sec=_CHECK_S)
        now = time.monotonic()
        if watch is not None and now >= next_watch:
            next_watch = now + _WATCH_S
            watch()
        if now > deadline:
            return False
    return True
