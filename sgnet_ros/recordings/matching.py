"""Messages of a bag that belong to one frame."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.recordings.bag_topics import BagTopics
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError

MAX_SKEW_S = 0.2
"""Largest difference between the stamps of a color image and its depth image."""

_MAX_WAITING = 60  # images, so that memory is bounded while one of the topics pauses

_Stamped = tuple[int, Any]


class NoPairsError(BagError):
    """A bag in which no color image has a depth image near it in time."""


class Match(NamedTuple):
    """Messages of one frame: color, the depth nearest in time, and the labels of the same stamp.

    ``info`` is the CameraInfo with the color image's stamp, or the last one before it.
    """

    stamp_ns: int
    rgb: Any
    depth: Any
    labels: Any
    info: Any


def recorded_stamp_ns(message: Any, time: int) -> int:
    """Return a message's stamp in ns, or its recording time ``time`` if its header has none."""
    return stamp_ns(message.header) or time


def matched(
    bag: Bag,
    topics: BagTopics,
    info_topic: str | None,
    others: Sequence[str] = (),
    on_other: Callable[[str, int, Any], None] = lambda topic, time_ns, message: None,
) -> Iterator[Match]:
    """Yield the frames in the order of their color stamps.

    Args:
        bag: the recording.
        topics: topics of the images.
        info_topic: CameraInfo topic of the color images; None if there is none.
        others: further topics. Their messages from before a frame are delivered before the frame is
            yielded, because a frame is complete only when later depth has been read.
        on_other: called with topic, recording time in ns, and message of these topics.

    Raises:
        NoPairsError: after the whole bag, if there was no frame; the message gives the numbers of
            images and the time between them.
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
        # A jump back: the recording is a loop, whose clock starts again.
        if stamp < matcher.newest.get(topic, stamp) - 10**9:
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
    return f"{text}. Use one clock for both, or choose another topic (--rgb-topic, --depth-topic)"


class _Clock:
    """Give each message a time: its stamp, or its recording time while stamps do not advance."""

    def __init__(self) -> None:
        self._last: dict[str, _Stamped] = {}  # by topic

    def stamp_ns(self, topic: str, message: Any, recorded: int) -> int:
        stamp = recorded_stamp_ns(message, recorded)
        last = self._last.get(topic)
        self._last[topic] = (stamp, message)
        if last is None or last[0] != stamp or not hasattr(message, "data"):
            return stamp
        return stamp if np.array_equal(last[1].data, message.data) else recorded


class _Matcher:
    """Messages that wait for later messages with which they could form a frame.

    They are sorted by stamp, because messages less than `MAX_SKEW_S` apart may be recorded in
    another order. A color image that was recorded twice counts once.
    """

    def __init__(self, labeled: bool) -> None:
        self.newest: dict[str, int] = {}  # stamp by topic
        self.colors: list[_Stamped] = []
        self.nearest_ns: int | None = None  # between a color image without a partner and depth
        self._depths: list[_Stamped] = []
        self._labels: dict[int, Any] = {}
        self._infos: list[_Stamped] = []
        self._labeled = labeled
        self._last: _Stamped | None = None  # last color image added

    def add(self, topic: str, stamp: int, message: Any, topics: BagTopics) -> None:
        """Add a message of one of the topics."""
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
        """Yield the frames that later messages cannot change; with ``final``, yield all frames."""
        skew_ns = int(MAX_SKEW_S * 1e9)
        while self.colors and self._depths:
            stamp, color = self.colors[0]
            decided = self._depths[-1][0] >= stamp + skew_ns
            decided &= not self._labeled or max(self._labels, default=-1) >= stamp
            if not (decided or final):
                return
            self.colors.pop(0)
            # Depth from before this frame cannot belong to a later frame either.
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
