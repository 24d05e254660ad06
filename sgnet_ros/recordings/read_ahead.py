"""Frames computed by a thread before they are needed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")

_COUNT = 8


def read_ahead(items: Iterator[Item], count: int = _COUNT) -> Iterator[Item]:
    """Yield the same items; a thread computes up to ``count`` of them in advance."""
    ready: queue.Queue[Any] = queue.Queue(count)

    def read() -> None:
        try:
            for item in items:
                ready.put(item)
            ready.put(None)
        except Exception as error:  # raised again where the items are used
            ready.put(error)

    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    while (item := ready.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item
