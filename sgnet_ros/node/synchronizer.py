"""Synchronization of RGB and depth messages, with the interface of message_filters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.node.matcher import MatchCounts, Pair, PairMatcher


class Input(Protocol):
    """Source of messages, such as ``message_filters.Subscriber`` or ``Cache``."""

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> Any: ...


def _raise(error: Exception) -> None:
    raise error


class PairSynchronizer:
    """Pair the messages of two inputs by their stamps.

    It can replace ``message_filters.ApproximateTimeSynchronizer`` with two inputs: constructor and
    ``registerCallback`` are the same. It differs where that one loses frames of a camera:

    - The nearest partner within the slop is taken, not the first acceptable one.
    - Each message is used once, and the stamps of successive pairs increase strictly.
    - Slop 0 pairs equal stamps; message_filters' comparison excludes them.
    - Matching restarts when a stamp jumps back (a looped bag, a restarted simulation);
      message_filters emits nothing while it holds stamps from before the jump.
    - Callbacks run without a lock, and the synchronizer stays usable after a callback raises; that
      of message_filters stays locked.

    A pair is held back for at most 0.1 s while a better partner may still arrive: call `settle`
    from a timer; otherwise the pair waits for the next message.

    Args:
        fs: two inputs, RGB first; or none, if the caller calls `add_rgb` and `add_depth`.
        queue_size: largest number of waiting messages per input; beyond it, the oldest is dropped.
        slop: greatest difference of a pair's stamps in seconds.
        allow_headerless: must be False: messages without a stamp cannot be matched.
        on_error: called with the exception that a callback raised; by default it is raised.
        clock: monotonic nanoseconds.

    Raises:
        ValueError: the number of inputs is neither 0 nor 2, or ``allow_headerless`` is True.
    """

    def __init__(
        self,
        fs: Sequence[Input],
        queue_size: int,
        slop: float,
        allow_headerless: bool = False,
        *,
        on_error: Callable[[Exception], None] = _raise,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if len(fs) not in (0, 2):
            raise ValueError(f"fs has two inputs, RGB and depth, not {len(fs)}")
        if allow_headerless:
            raise ValueError("allow_headerless: messages without a stamp cannot be matched")
        self._matcher: PairMatcher[Any] = PairMatcher(_nanoseconds(slop), queue_size, clock)
        self._lock = threading.Lock()  # of the matcher
        self._callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._on_error = on_error
        self._matching_s = 0.0
        for source, add in zip(fs, (self.add_rgb, self.add_depth), strict=False):
            source.registerCallback(add)

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        """Call ``cb(rgb, depth, *args)`` for every pair; return the number of the connection.

        ``cb`` runs in the thread that delivers the messages, so it should store them and return.
        """
        connection = len(self._callbacks)
        self._callbacks[connection] = (cb, args)
        return connection

    def add_rgb(self, message: Any) -> None:
        """Add an RGB message and emit the pairs that it completes."""
        self._match(lambda: self._matcher.add_rgb(stamp_ns(message.header), message))

    def add_depth(self, message: Any) -> None:
        """Add a depth message and emit the pairs that it completes."""
        self._match(lambda: self._matcher.add_depth(stamp_ns(message.header), message))

    def settle(self) -> None:
        """Emit the pairs that have waited long enough; call this from a timer."""
        self._match(self._matcher.settle)

    def set_slop(self, slop: float) -> None:
        """Set the greatest difference of a pair's stamps in seconds."""
        with self._lock:
            self._matcher.slop_ns = _nanoseconds(slop)

    def counts(self) -> MatchCounts:
        """Return the counters, consistent with each other. Thread-safe."""
        with self._lock:
            return self._matcher.counts()

    def take_matching_ms(self) -> float:
        """Return the milliseconds that matching took since the last call."""
        taken, self._matching_s = self._matching_s, 0.0
        return taken * 1e3

    def _match(self, step: Callable[[], list[Pair[Any]]]) -> None:
        begin = time.perf_counter()
        with self._lock:
            pairs = step()
        self._matching_s += time.perf_counter() - begin
        for pair in pairs:
            for callback, args in list(self._callbacks.values()):
                try:
                    callback(pair.rgb, pair.depth, *args)
                except Exception as error:
                    self._on_error(error)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
