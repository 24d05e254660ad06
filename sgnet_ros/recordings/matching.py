"""Messages of a bag that belong to one frame."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgnet_ros.recordings.bag_topics import BagTopics
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError

MAX_SKEW_S = 0.2
"""A color image has no depth when the nearest one in time is further away than this."""

_MAX_WAITING = 60  # images; bounds the memory when one of the topics pauses


_Stamped = tuple[int, Any]


class NoPairsError(BagError):
    """A bag in which no color image has a depth image near it in time."""


class Match(NamedTuple):
    """Messages of one frame: color, the depth nearest to it in time, labels of its stamp.

    ``info`` is the CameraInfo of color's stamp, or else the last one before.
    """

    stamp_ns: int
    rgb: Any
    depth: Any
    labels: Any
    info: Any


def stamp_ns(message: Any, time: int) -> int:
    """Return a message's stamp in ns; the time of its recording where its header has none."""
    stamp = message.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec or time)


def matched(
    bag: Bag,
    topics: BagTopics,
    info_topic: str | None,
    others: Sequence[str] = (),
    on_other: Callable[[str, int, Any], None] = lambda topic, time_ns, message: None,
) -> Iterator[Match]:
    """Yield the frames by color stamp.

    Args:
        bag: the recording.
        topics: of the images.
        info_topic: has color's CameraInfo; None where there is none.
        others: topics whose messages are handed to ``on_other`` as they are read. Those of the time
            of a frame come before it, since it is decided by later depth.
        on_other: called with topic, time of recording in ns, and message.

    Raises:
        NoPairsError: there is not one, once the whole bag is read; the message says how many
            images there are and how far apart they are.
    """
    matcher = _Matcher(topics.labels is not None)
    clock = _Clock()
    first: dict[str, int] = {}
    pairs, nearest_ns = 0, None
    names = [topic for topic in (*topics, info_topic, *others) if topic]
    for topic, time, message in bag.messages(names):
        if topic in others:
            on_other(topic, time, message)
            continue
        stamp = clock.stamp_ns(topic, message, time)
        first.setdefault(topic, stamp)
        if (
            stamp < matcher.newest.get(topic, stamp) - 10**9
        ):  # looped: the recording's clock starts again
            for match in matcher.pop(final=True):
                pairs += 1
                yield match
            nearest_ns = _least(nearest_ns, matcher.nearest_ns)
            matcher = _Matcher(topics.labels is not None)
        matcher.add(topic, stamp, message, topics)
        for match in matcher.pop(final=len(matcher.colors) > _MAX_WAITING):
            pairs += 1
            yield match
    for match in matcher.pop(final=True):
        pairs += 1
        yield match
    if not pairs:
        raise NoPairsError(_no_pairs(bag, topics, first, _least(nearest_ns, matcher.nearest_ns)))


def _least(a: int | None, b: int | None) -> int | None:
    return min((ns for ns in (a, b) if ns is not None), default=None)


def _no_pairs(bag: Bag, topics: BagTopics, first: dict[str, int], nearest_ns: int | None) -> str:
    counts = {topic: bag.counts[topic] for topic in (topics.rgb, topics.depth)}
    text = (
        f"{bag.path}: none of {counts[topics.rgb]} color images on {topics.rgb} has one of "
        f"{counts[topics.depth]} depth images on {topics.depth} within {MAX_SKEW_S} s"
    )
    if nearest_ns is not None:
        lag_s = (first[topics.depth] - first[topics.rgb]) / 1e9
        text += (
            f": the nearest are {nearest_ns / 1e9:.3f} s apart, and the first depth image is "
            f"{abs(lag_s):.3f} s {'after' if lag_s > 0 else 'before'} the first color image"
        )
    return f"{text}. Stamp both by one clock, or choose another topic (--rgb-topic, --depth-topic)"


class _Clock:
    """Time of each message: its stamp, or that of its recording while the clock stands still."""

    def __init__(self) -> None:
        self._last: dict[str, _Stamped] = {}  # by topic

    def stamp_ns(self, topic: str, message: Any, recorded: int) -> int:
        stamp = stamp_ns(message, recorded)
        last = self._last.get(topic)
        self._last[topic] = (stamp, message)
        if last is None or last[0] != stamp or not hasattr(message, "data"):
            return stamp
        return stamp if np.array_equal(last[1].data, message.data) else recorded


class _Matcher:
    """Messages that wait for those of their neighbors in time that are yet to be read.

    They are kept by stamp: within `MAX_SKEW_S` they may overtake each other. A color image that
    was recorded twice counts once.
    """

    def __init__(self, labelled: bool) -> None:
        self.newest: dict[str, int] = {}  # stamp by topic
        self.colors: list[_Stamped] = []
        self.nearest_ns: int | None = None  # between a color image without a partner and depth
        self._depths: list[_Stamped] = []
        self._labels: dict[int, Any] = {}
        self._infos: list[_Stamped] = []
        self._labelled = labelled
        self._last: _Stamped | None = None  # color image that was taken last

    def add(self, topic: str, stamp: int, message: Any, topics: BagTopics) -> None:
        """Take a message."""
        self.newest[topic] = max(stamp, self.newest.get(topic, stamp))
        if topic == topics.rgb:
            last, self._last = self._last, (stamp, message)
            if last is None or last[0] != stamp or not np.array_equal(last[1].data, message.data):
                bisect.insort(self.colors, (stamp, message), key=_stamp)
        elif topic == topics.depth:
            bisect.insort(self._depths, (stamp, message), key=_stamp)
            del self._depths[:-_MAX_WAITING]
        elif topic == topics.labels:
            self._labels[stamp] = message
        else:
            bisect.insort(self._infos, (stamp, message), key=_stamp)
            del self._infos[: -2 * _MAX_WAITING]

    def pop(self, final: bool) -> Iterator[Match]:
        """Yield frames that are decided; ``final`` decides all of them with what is there."""
        skew_ns = int(MAX_SKEW_S * 1e9)
        while self.colors and self._depths:
            stamp, color = self.colors[0]
            decided = self._depths[-1][0] >= stamp + skew_ns
            decided &= not self._labelled or max(self._labels, default=-1) >= stamp
            if not (decided or final):
                return
            self.colors.pop(0)
            # Depth before this frame's time cannot be that of a later frame either.
            del self._depths[: min(_before(self._depths, stamp - skew_ns), len(self._depths) - 1)]
            near = min(self._depths, key=lambda depth: (abs(depth[0] - stamp), -depth[0]))
            skew = abs(near[0] - stamp)
            if skew <= skew_ns:
                at = bisect.bisect_right(self._infos, stamp, key=_stamp)
                info = self._infos[at - 1][1] if at else None
                yield Match(stamp, color, near[1], self._labels.get(stamp), info)
            else:
                self.nearest_ns = _least(self.nearest_ns, skew)
            self._labels = {s: m for s, m in self._labels.items() if s > stamp}


def _stamp(entry: _Stamped) -> int:
    return entry[0]


def _before(entries: list[_Stamped], stamp: int) -> int:
    """Return the number of entries before a time."""
    return bisect.bisect_left(entries, stamp, key=_stamp)
