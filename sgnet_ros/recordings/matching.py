"""Messages of a bag that belong to one frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from sgnet_ros.recordings.bag_topics import BagTopics
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError

MAX_SKEW_S = 0.2
"""A color image has no depth when the nearest one in time is further away than this."""

_MAX_WAITING = 60  # images; bounds the memory when one of the topics pauses


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


def matched(bag: Bag, topics: BagTopics, info_topic: str | None) -> Iterator[Match]:
    """Yield the frames by color stamp.

    Args:
        bag: the recording.
        topics: of the images.
        info_topic: has color's CameraInfo; None where there is none.

    Raises:
        NoPairsError: there is not one, once the whole bag is read; the message says how many
            images there are and how far apart they are.
    """
    matcher = _Matcher(topics.labels is not None)
    first: dict[str, int] = {}
    pairs, nearest_ns = 0, None
    names = [topic for topic in (*topics, info_topic) if topic]
    for topic, time, message in bag.messages(names):
        stamp = stamp_ns(message, time)
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


class _Matcher:
    """Messages that wait for those of their neighbors in time that are yet to be read."""

    def __init__(self, labeled: bool) -> None:
        self.newest: dict[str, int] = {}  # stamp by topic
        self.colors: deque[tuple[int, Any]] = deque()
        self.nearest_ns: int | None = None  # between a color image without a partner and depth
        self._depths: deque[tuple[int, Any]] = deque(maxlen=_MAX_WAITING)
        self._labels: dict[int, Any] = {}
        self._infos: deque[tuple[int, Any]] = deque(maxlen=2 * _MAX_WAITING)
        self._labeled = labeled

    def add(self, topic: str, stamp: int, message: Any, topics: BagTopics) -> None:
        """Take a message."""
        self.newest[topic] = max(stamp, self.newest.get(topic, stamp))
        if topic == topics.rgb:
            self.colors.append((stamp, message))
        elif topic == topics.depth:
            self._depths.append((stamp, message))
        elif topic == topics.labels:
            self._labels[stamp] = message
        else:
            self._infos.append((stamp, message))

    def pop(self, final: bool) -> Iterator[Match]:
        """Yield frames that are decided; ``final`` decides all of them with what is there."""
        while self.colors and self._depths:
            stamp, color = self.colors[0]
            decided = self._depths[-1][0] >= stamp
            decided &= not self._labeled or max(self._labels, default=-1) >= stamp
            if not (decided or final):
                return
            self.colors.popleft()
            depths = self._depths
            while len(depths) > 1 and abs(depths[1][0] - stamp) <= abs(depths[0][0] - stamp):
                depths.popleft()
            skew = abs(depths[0][0] - stamp)
            if skew <= MAX_SKEW_S * 1e9:
                infos = [info for at, info in self._infos if at <= stamp]
                info = infos[-1] if infos else None
                yield Match(stamp, color, depths[0][1], self._labels.get(stamp), info)
            else:
                self.nearest_ns = _least(self.nearest_ns, skew)
            self._labels = {s: m for s, m in self._labels.items() if s > stamp}
