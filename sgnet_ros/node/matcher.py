"""Matching of two streams of stamped items into pairs that are nearest in time, in order."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE_NS = 100_000_000
"""Longest time that a pair waits for a better partner."""

_BEFORE_ALL = -(2**63)
"""Earlier than every stamp."""


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


@dataclass(frozen=True)
class StreamCounts:
    """Counters of one side of a `PairMatcher` at one moment.

    Attributes:
        received: items added so far.
        unmatched: items that left without a partner, by cause; see `Stream`.
        nearest_ns: distance from the latest item without a partner to the nearest stamp of the
            other stream; None before there was one.
    """

    received: int
    unmatched: Mapping[str, int]
    nearest_ns: int | None

    @property
    def lost(self) -> int:
        """Items that left without a partner."""
        return sum(self.unmatched.values())


@dataclass(frozen=True)
class MatchCounts:
    """Counters of a `PairMatcher` at one moment."""

    rgb: StreamCounts
    depth: StreamCounts
    pairs: int
    time_jumps: int
    slop_ns: int


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Item]):
    stamp: int
    arrival: int
    item: Item


class Stream(Generic[Item]):
    """One side of a `PairMatcher`: the items that wait for a partner, and counters of the others.

    Attributes:
        received: items added so far.
        unmatched: items that left without a partner, by cause: ``no_partner`` (nothing within the
            slop), ``not_newer`` (stamp not above the last pair's, or a duplicate), ``queue_full``,
            ``time_jump``.
        nearest_ns: distance from the latest item without a partner to the nearest stamp of the
            other stream; None before there was one.
        emitted: stamp of the last pair's item; None before there was one and after a time jump.
    """

    def __init__(self) -> None:
        self.received = 0
        self.unmatched: Counter[str] = Counter()
        self.nearest_ns: int | None = None
        self.emitted: int | None = None
        self._queue: list[_Waiting[Item]] = []  # by stamp, no stamp twice
        self._recent: deque[int] = deque(maxlen=16)  # ascending stamps, of paired and other items

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[_Waiting[Item]]:
        return iter(self._queue)

    @property
    def lost(self) -> int:
        """Items that left without a partner."""
        return sum(self.unmatched.values())

    def counts(self) -> StreamCounts:
        """Return a copy of the counters."""
        return StreamCounts(self.received, dict(self.unmatched), self.nearest_ns)

    @property
    def newest(self) -> int | None:
        """The greatest stamp received since the last time jump."""
        return self._recent[-1] if self._recent else None

    def add(self, entry: _Waiting[Item]) -> None:
        """Queue an item, unless its stamp is in the queue or not above the last pair's."""
        if self.newest is None or entry.stamp > self.newest:
            self._recent.append(entry.stamp)
        stamps = [w.stamp for w in self._queue]
        if entry.stamp in stamps or (self.emitted is not None and entry.stamp <= self.emitted):
            self.unmatched["not_newer"] += 1
        else:
            self._queue.insert(bisect_left(stamps, entry.stamp), entry)

    def nearest(self, stamp: int) -> _Waiting[Item] | None:
        """Return the waiting item nearest in time, the earlier of two; None if nothing waits."""
        return min(self._queue, key=lambda w: abs(w.stamp - stamp), default=None)

    def distance(self, stamp: int) -> int:
        """Return nanoseconds from ``stamp`` to the nearest recent stamp; there must be one."""
        return min(abs(s - stamp) for s in self._recent)

    def earliest_next(self) -> int | None:
        """Return the stamp before which no further item is expected.

        It is 3/4 of the shortest recent interval after the newest stamp. None before four items
        have arrived, because the rate is not known yet.
        """
        if len(self._recent) < 4:
            return None
        shortest = min(b - a for a, b in itertools.pairwise(self._recent))
        return self._recent[-1] + shortest * 3 // 4

    def take(self, entry: _Waiting[Item]) -> None:
        """Remove the item that found a partner, and count the older ones as lost."""
        self.discard(lambda w: w.stamp < entry.stamp, "no_partner")
        self._queue.remove(entry)
        self.emitted = entry.stamp

    def discard(self, unwanted: Callable[[_Waiting[Item]], bool], cause: str) -> None:
        """Remove the waiting items for which ``unwanted`` holds, counted under ``cause``."""
        kept = [w for w in self._queue if not unwanted(w)]
        if len(kept) < len(self._queue):
            self.unmatched[cause] += len(self._queue) - len(kept)
            self._queue = kept

    def forget(self, after: int, cause: str) -> None:
        """Drop the items with later stamps, and forget all stamps if any was later."""
        self.discard(lambda w: w.stamp > after, cause)
        if self.newest is not None and self.newest > after:
            self._recent.clear()


class PairMatcher(Generic[Item]):
    """Match two streams of stamped items.

    Two items form a pair if each is the nearest in time to the other and they are at most the slop
    apart. A pair is emitted as soon as no better partner can arrive: at once if the stamps are
    equal, or if the next item of the older item's stream is due too late; otherwise when that next
    item has arrived, at most 0.1 s later. Stamps of emitted pairs increase strictly, on both
    streams. A stamp more than the slop before the newest of its stream is a jump back in time (a
    looped bag, a restarted simulation): waiting items from before the jump are dropped, and
    matching restarts.

    At any moment, per stream: received = pairs + unmatched + waiting. Not thread-safe: one thread
    feeds it.

    Args:
        slop_ns: greatest difference of a pair's stamps, nanoseconds; 0: equal stamps only.
        queue_size: largest number of waiting items per stream; beyond it, the oldest is dropped.
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
        """Add an RGB item and return the pairs that it settles, in order."""
        return self._add(self.rgb, self.depth, stamp_ns, item)

    def add_depth(self, stamp_ns: int, item: Item) -> list[Pair[Item]]:
        """Add a depth item and return the pairs that it settles, in order."""
        return self._add(self.depth, self.rgb, stamp_ns, item)

    def counts(self) -> MatchCounts:
        """Return a copy of the counters."""
        return MatchCounts(
            self.rgb.counts(), self.depth.counts(), self.pairs, self.time_jumps, self.slop_ns
        )

    def settle(self) -> list[Pair[Item]]:
        """Return the pairs that have waited long enough; call this regularly."""
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
            pairs.append(self._emit(*candidate))  # an early pair is better than a lost image
        self._drop_unmatchable(own, other)
        self._drop_unmatchable(other, own)
        if len(own) > self.queue_size:
            oldest = next(iter(own))
            own.discard(lambda w: w is oldest, "queue_full")
        return pairs

    def _first_candidate(self) -> tuple[_Waiting[Item], _Waiting[Item]] | None:
        """Return the earliest RGB and depth items that are mutually nearest and within the slop."""
        for rgb in self.rgb:
            depth = self.depth.nearest(rgb.stamp)
            if depth is None or abs(depth.stamp - rgb.stamp) > self.slop_ns:
                continue
            if self.rgb.nearest(depth.stamp) is rgb:
                return rgb, depth
        return None

    def _is_settled(self, rgb: _Waiting[Item], depth: _Waiting[Item]) -> bool:
        """Return whether no nearer item can arrive on either stream.

        Streams are in order, so only the older item's stream can still deliver a nearer item.
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

    def _drop_unmatchable(self, stream: Stream[Item], other: Stream[Item]) -> None:
        """Drop items that lie more than the slop before everything the other stream can deliver."""
        newest = other.newest
        if newest is None:
            return

        def unmatchable(waiting: _Waiting[Item]) -> bool:
            if newest <= waiting.stamp + self.slop_ns:
                return False
            nearest = other.nearest(waiting.stamp)
            if nearest is not None and abs(nearest.stamp - waiting.stamp) <= self.slop_ns:
                return False
            stream.nearest_ns = other.distance(waiting.stamp)
            return True

        stream.discard(unmatchable, "no_partner")

    def _jump_back(self, own: Stream[Item], other: Stream[Item], stamp: int) -> None:
        """Forget this stream's items, and those of the other after the middle of the jump.

        The other stream may have jumped already; its items since then stay.
        """
        assert own.newest is not None
        other.forget((own.newest + stamp) // 2, "time_jump")
        own.forget(_BEFORE_ALL, "time_jump")
        for stream in (own, other):
            if stream.emitted is not None and stream.emitted >= stamp:
                stream.emitted = None
        self.time_jumps += 1
