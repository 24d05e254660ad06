"""Pairs of RGB and depth images: each image once, the nearest in time, in order.

`PairMatcher` holds the rules and knows no ROS. `PairSynchronizer` connects it to two filters, those
of `message_filters` or their equivalents in `sgnet_ros.node.filters`.

``message_filters.ApproximateTimeSynchronizer`` isn't used: it takes the first acceptable partner
instead of the nearest, can emit an older pair after a newer one, never matches with slop 0, stays
silent after time jumps back, and keeps its lock when a callback raises.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sensor_msgs.msg import Image

Item = TypeVar("Item")

_PATIENCE_NS = 100_000_000
"""How long a pair waits for a possible better partner of a stream that falls silent."""

_BEFORE_ALL = -(2**63)
"""Before every stamp."""


@dataclass(frozen=True)
class Pair(Generic[Item]):
    """An RGB item and its depth item, with their stamps in nanoseconds."""

    rgb: Item
    depth: Item
    rgb_ns: int
    depth_ns: int

    @property
    def skew_ms(self) -> float:
        """Depth stamp minus RGB stamp, milliseconds."""
        return (self.depth_ns - self.rgb_ns) / 1e6


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Item]):
    stamp: int
    arrival: int
    item: Item


class Stream(Generic[Item]):
    """One side of a `PairMatcher`: what waits for a partner, and what became of the rest.

    Attributes:
        received: items added so far.
        unmatched: items that left without a partner, by cause: ``no_partner`` (nothing within the
            slop), ``not_newer`` (stamp not above the last pair's, or a duplicate), ``queue_full``,
            ``time_jump``.
        lost: their sum.
        nearest_ns: distance from the latest item without a partner to the nearest stamp of the
            other stream; None before there was one.
        emitted: stamp of the last pair's item; None before there was one and after a time jump.
    """

    def __init__(self) -> None:
        self.received = 0
        self.unmatched: Counter[str] = Counter()
        self.lost = 0
        self.nearest_ns: int | None = None
        self.emitted: int | None = None
        self._queue: list[_Waiting[Item]] = []  # by stamp, no stamp twice
        self._recent: deque[int] = deque(maxlen=16)  # ascending stamps, paired or not

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[_Waiting[Item]]:
        return iter(self._queue)

    @property
    def newest(self) -> int | None:
        """The greatest stamp received since the last time jump."""
        return self._recent[-1] if self._recent else None

    def add(self, entry: _Waiting[Item]) -> None:
        """Queues an item, unless its stamp isn't above the last pair's or is in the queue."""
        if self.newest is None or entry.stamp > self.newest:
            self._recent.append(entry.stamp)
        stamps = [w.stamp for w in self._queue]
        if entry.stamp in stamps or (self.emitted is not None and entry.stamp <= self.emitted):
            self._lose("not_newer", 1)
        else:
            self._queue.insert(bisect_left(stamps, entry.stamp), entry)

    def nearest(self, stamp: int) -> _Waiting[Item] | None:
        """The waiting item nearest in time, the earlier one of two; None if nothing waits."""
        return min(self._queue, key=lambda w: abs(w.stamp - stamp), default=None)

    def distance(self, stamp: int) -> int:
        """Nanoseconds from ``stamp`` to the nearest of the recent stamps, which are not empty."""
        return min(abs(s - stamp) for s in self._recent)

    def earliest_next(self) -> int | None:
        """Stamp before which no further item is expected: 3/4 of the shortest recent interval on.

        None before four items have come: their rate isn't known yet.
        """
        if len(self._recent) < 4:
            return None
        shortest = min(b - a for a, b in itertools.pairwise(self._recent))
        return self._recent[-1] + shortest * 3 // 4

    def take(self, entry: _Waiting[Item]) -> None:
        """Removes the item that found a partner, and counts what waited before it."""
        self.discard(lambda w: w.stamp < entry.stamp, "no_partner")
        self._queue.remove(entry)
        self.emitted = entry.stamp

    def discard(self, unwanted: Callable[[_Waiting[Item]], bool], cause: str) -> None:
        """Removes the waiting items for which ``unwanted`` holds, counted under ``cause``."""
        kept = [w for w in self._queue if not unwanted(w)]
        if len(kept) < len(self._queue):
            self._lose(cause, len(self._queue) - len(kept))
            self._queue = kept

    def forget(self, after: int, cause: str) -> None:
        """Drops the items with later stamps, and the memory of all stamps if any was later."""
        self.discard(lambda w: w.stamp > after, cause)
        if self.newest is not None and self.newest > after:
            self._recent.clear()

    def _lose(self, cause: str, count: int) -> None:
        self.unmatched[cause] += count
        self.lost += count


class PairMatcher(Generic[Item]):
    """Matches two streams of stamped items.

    A pair is the nearest in time from both sides and at most the slop apart. It is emitted as soon
    as no better partner can come: at once if the stamps are equal, or if the older item's stream
    isn't due again soon enough; otherwise when that stream's next item has come, at the latest
    0.1 s later. Stamps of emitted pairs increase strictly, on both streams. A stamp more than the
    slop behind its own stream's newest is a jump back in time (a looped bag, a restarted
    simulation): what waits from before it is dropped and matching starts anew.

    At any moment, per stream: received = pairs + unmatched + waiting. Not thread-safe: one thread
    feeds it.

    Args:
        slop_ns: greatest difference of a pair's stamps, nanoseconds; 0: equal stamps only.
        queue_size: items that wait per stream; beyond it the oldest is dropped.
        clock: monotonic nanoseconds.
    """

    def __init__(
        self, slop_ns: int, queue_size: int = 10, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.slop_ns = slop_ns
        self.queue_size = queue_size
        self.rgb: Stream[Item] = Stream()
        self.depth: Stream[Item] = Stream()
        self.pairs = 0
        self.time_jumps = 0
        self._clock = clock

    def add_rgb(self, stamp_ns: int, item: Item) -> list[Pair[Item]]:
        """Takes an RGB item and returns the pairs that are settled by it, in order."""
        return self._add(self.rgb, self.depth, stamp_ns, item)

    def add_depth(self, stamp_ns: int, item: Item) -> list[Pair[Item]]:
        """Takes a depth item and returns the pairs that are settled by it, in order."""
        return self._add(self.depth, self.rgb, stamp_ns, item)

    def settle(self) -> list[Pair[Item]]:
        """Pairs that have waited long enough for a better partner; call it now and then."""
        pairs = []
        while (candidate := self._first_candidate()) and self._is_settled(*candidate):
            pairs.append(self._emit(*candidate))
        return pairs

    def _add(
        self, own: Stream[Item], other: Stream[Item], stamp: int, item: Item
    ) -> list[Pair[Item]]:
        own.received += 1
        if own.newest is not None and stamp < own.newest - self.slop_ns:
            self._jump_back(own, other, stamp)
        own.add(_Waiting(stamp, self._clock(), item))
        pairs = self.settle()
        if len(own) > self.queue_size and (candidate := self._first_candidate()):
            pairs.append(self._emit(*candidate))  # rather an early decision than none
        self._drop_hopeless(own, other)
        self._drop_hopeless(other, own)
        if len(own) > self.queue_size:
            oldest = next(iter(own))
            own.discard(lambda w: w is oldest, "queue_full")
        return pairs

    def _first_candidate(self) -> tuple[_Waiting[Item], _Waiting[Item]] | None:
        """The earliest RGB and depth items that are nearest to each other and within the slop."""
        for rgb in self.rgb:
            depth = self.depth.nearest(rgb.stamp)
            if depth is None or abs(depth.stamp - rgb.stamp) > self.slop_ns:
                continue
            if self.rgb.nearest(depth.stamp) is rgb:
                return rgb, depth
        return None

    def _is_settled(self, rgb: _Waiting[Item], depth: _Waiting[Item]) -> bool:
        """Whether nothing nearer can come for either side.

        Streams are in order, so only the older item's stream can still bring something nearer to
        the newer one.
        """
        if rgb.stamp == depth.stamp:
            return True
        stream, older, newer = (
            (self.rgb, rgb, depth) if rgb.stamp < depth.stamp else (self.depth, depth, rgb)
        )
        if stream.newest is not None and stream.newest > older.stamp:
            return True
        due = stream.earliest_next()
        if due is not None and due - newer.stamp >= newer.stamp - older.stamp:
            return True
        return self._clock() - max(rgb.arrival, depth.arrival) >= _PATIENCE_NS

    def _emit(self, rgb: _Waiting[Item], depth: _Waiting[Item]) -> Pair[Item]:
        self.rgb.take(rgb)
        self.depth.take(depth)
        self.pairs += 1
        return Pair(rgb.item, depth.item, rgb.stamp, depth.stamp)

    def _drop_hopeless(self, stream: Stream[Item], other: Stream[Item]) -> None:
        """Drops what the other stream has passed by more than the slop without a partner for it."""
        newest = other.newest
        if newest is None:
            return

        def hopeless(waiting: _Waiting[Item]) -> bool:
            if newest <= waiting.stamp + self.slop_ns:
                return False
            nearest = other.nearest(waiting.stamp)
            if nearest is not None and abs(nearest.stamp - waiting.stamp) <= self.slop_ns:
                return False
            stream.nearest_ns = other.distance(waiting.stamp)
            return True

        stream.discard(hopeless, "no_partner")

    def _jump_back(self, own: Stream[Item], other: Stream[Item], stamp: int) -> None:
        """Forgets the time before the jump; of the other stream, what is nearer to it than to now.

        The other stream may have jumped already: what it has brought since then stays.
        """
        assert own.newest is not None
        other.forget((own.newest + stamp) // 2, "time_jump")
        own.forget(_BEFORE_ALL, "time_jump")
        for stream in (own, other):
            if stream.emitted is not None and stream.emitted >= stamp:
                stream.emitted = None
        self.time_jumps += 1


class Filter(Protocol):
    """What a synchroniser needs of ``message_filters.SimpleFilter``."""

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int: ...


class PairSynchronizer:
    """Feeds the messages of two filters to a matcher and hands on the pairs.

    Args:
        rgb: filter of RGB images.
        depth: filter of depth images.
        matcher: decides what is a pair.
        on_pair: called with a pair and the milliseconds that matching took since the last one. It
            runs in the thread of the subscriptions, so it should store the pair and return.
        on_error: called with what ``on_pair`` raised; the synchroniser goes on.
    """

    def __init__(
        self,
        rgb: Filter,
        depth: Filter,
        matcher: PairMatcher[Image],
        on_pair: Callable[[Pair[Image], float], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.matcher = matcher
        self._on_pair = on_pair
        self._on_error = on_error
        self._spent_ms = 0.0
        rgb.registerCallback(self._receive, matcher.add_rgb)
        depth.registerCallback(self._receive, matcher.add_depth)

    def settle(self) -> None:
        """Hands on the pairs that have waited long enough; to be called by a timer."""
        self._emit(self.matcher.settle())

    def _receive(self, message: Image, add: Callable[[int, Image], list[Pair[Image]]]) -> None:
        begin = time.perf_counter()
        stamp = message.header.stamp
        pairs = add(stamp.sec * 1_000_000_000 + stamp.nanosec, message)
        self._spent_ms += (time.perf_counter() - begin) * 1e3
        self._emit(pairs)

    def _emit(self, pairs: list[Pair[Image]]) -> None:
        for pair in pairs:
            spent_ms, self._spent_ms = self._spent_ms, 0.0
            try:
                self._on_pair(pair, spent_ms)
            except Exception as error:
                self._on_error(error)
