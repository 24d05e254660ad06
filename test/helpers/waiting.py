"""Waiting that does not depend on the machine's speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 600.0
"""Longest wait: only a test that fails waits so long, however busy the machine is."""


def pause() -> None:
    time.sleep(0.02)


def wait_until(
    condition: Callable[[], Any],
    step: Callable[[], object] = pause,
    told: Callable[[], object] = lambda: "",
) -> Any:
    """Wait until ``condition`` returns something true, and return that.

    Args:
        condition: what is waited for.
        step: called between two looks at the condition.
        told: returns what to say if nothing came within `PATIENCE_S`.
    """
    end = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < end, told()
        step()
    return value
