"""RGB-D frames out of a bag: which topics, and which messages belong together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sgnet_core.models.labels import LabelSet
from sgnet_ros.messages.class_map import label_set_of
from sgnet_ros.messages.images import ImageError
from sgnet_ros.recordings.bag_geometry import Geometry, beside
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.frames import Frame, Source

MAX_SKEW_S = 0.2
"""A colour image has no depth when the nearest one in time is further away than this."""

_MAX_WAITING = 60  # images; bounds the memory when one of the topics pauses

_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_COLOR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "8UC3")
_DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")


class Topics(NamedTuple):
    """Names of the topics that make a frame; ``labels`` is ground truth, if there is any."""

    rgb: str
    depth: str
    labels: str | None


def find_topics(
    bag: Bag, rgb: str | None = None, depth: str | None = None, labels: str | None = None
) -> Topics:
    """Finds colour, depth and label images by encoding and name.

    Args:
        bag: the recording.
        rgb, depth, labels: taken as they are where the caller knows them.

    Raises:
        BagError: nothing fits, or several do; the message lists the candidates. Labels are left
            out in both cases, for they aren't always wanted: see `label_topics`.
    """
    kinds = _kinds(bag)
    for topic in (rgb, depth, labels):
        if topic is not None and topic not in bag.topics:
            raise BagError(f"{bag.path} has no topic {topic}; it has images on {_listed(kinds)}")
    masks = _truths(bag, kinds)
    return Topics(
        rgb=rgb or _only(bag, kinds, "color", ("color", "rgb"), "--rgb-topic"),
        depth=depth or _only(bag, kinds, "depth", ("aligned", "registered"), "--depth-topic"),
        labels=labels or (masks[0] if len(masks) == 1 else None),
    )


def label_topics(bag: Bag) -> list[str]:
    """Topics that may hold ground truth: label images, but not those that a node answered with."""
    return _truths(bag, _kinds(bag))


def _kinds(bag: Bag) -> dict[str, str]:
    """What the images on each topic are, as `_kind` says."""
    kinds = {t: _kind(t, bag.first(t)) for t in bag.of_type(_IMAGE, _COMPRESSED)}
    # A driver offers each image raw and compressed under one base name: the raw one is exact.
    raw = [t for t in kinds if bag.topics[t] == _IMAGE]
    return {t: k for t, k in kinds.items() if t in raw or not t.startswith(tuple(raw))}


def _truths(bag: Bag, kinds: dict[str, str]) -> list[str]:
    # A mask that a node left beside its FrameStats is its answer, not the truth.
    return [
        t
        for t, kind in kinds.items()
        if kind == "mask" and str(PurePosixPath(t).with_name("stats")) not in bag.topics
    ]


def _kind(topic: str, message: Any) -> str:
    """``color``, ``depth``, ``mask`` or ``other``, by encoding."""
    encoding, codec = getattr(message, "encoding", None), ""
    if encoding is None:  # CompressedImage: "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth"
        encoding, _, codec = message.format.partition(";")
        if "jpeg" in codec or not codec:
            return "color"
    if encoding in _COLOR_ENCODINGS:
        return "color"
    if encoding in _DEPTH_ENCODINGS:
        return "depth"
    return "mask" if encoding == "mono8" and "label" in topic else "other"


def _only(bag: Bag, kinds: dict[str, str], kind: str, preferred: tuple[str, ...], flag: str) -> str:
    """The one topic of a kind; among several, the one whose name holds a preferred word."""
    candidates = [t for t, k in kinds.items() if k == kind]
    if not candidates:
        raise BagError(f"{bag.path} has no {kind} image; it has images on {_listed(kinds)}")
    if len(candidates) > 1:
        named = [t for t in candidates if any(word in t for word in preferred)]
        if len(named) != 1:
            raise BagError(
                f"{bag.path} has several {kind} images: {', '.join(candidates)}; "
                f"choose one with {flag}"
            )
        candidates = named
    return candidates[0]


def _listed(kinds: dict[str, str]) -> str:
    return ", ".join(f"{t} ({k})" for t, k in kinds.items()) or "no topic"


class BagSource(Source):
    """Frames of a recording in the order of their colour images.

    Each colour image goes with the depth nearest to it in time (by header stamp, `MAX_SKEW_S` at
    most) and with the labels of the same stamp. Depth of another camera than colour's is registered
    with the recorded intrinsics and transforms.

    Args:
        path: the bag.
        rgb_topic, depth_topic: needed where the bag holds several.
        labels_topic: ground truth, where the bag holds several label images.

    Attributes:
        path: of the bag.
        topics: the names that were found or given.
        geometry: the cameras.
        complete: as of `Bag`.
        classes: that the labels are in, where the bag says it in a ClassMap beside them.

    Raises:
        BagError: the bag can't be read, a topic is missing or ambiguous, there is no calibration,
            or depth isn't registered and the bag holds no transform between the cameras.
    """

    def __init__(
        self,
        path: Path,
        rgb_topic: str | None = None,
        depth_topic: str | None = None,
        labels_topic: str | None = None,
    ) -> None:
        self.path = path
        with Bag(path) as bag:
            self.topics = find_topics(bag, rgb_topic, depth_topic, labels_topic)
            self.geometry = Geometry.of(bag, self.topics.rgb, self.topics.depth)
            self.classes = _classes(bag, self.topics.labels)
            self.complete = bag.complete
            count = bag.counts[self.topics.rgb]
            rate_hz = (count - 1) / bag.duration_s if count > 1 and bag.duration_s else None
        super().__init__(str(path), count, self.classes.name if self.classes else None, rate_hz)

    def __iter__(self) -> Iterator[Frame]:
        with Bag(self.path) as bag:
            for match in matched(bag, self.topics, self.geometry.info_topic):
                try:
                    yield self.geometry.frame(*match)
                except ImageError as error:
                    raise BagError(f"{self.name}: a damaged image: {error}") from error


class Match(NamedTuple):
    """Messages of one frame: colour, the depth nearest to it in time, labels of its stamp.

    ``info`` is the CameraInfo of colour's stamp, or else the last one before.
    """

    stamp_ns: int
    rgb: Any
    depth: Any
    labels: Any
    info: Any


def stamp_ns(message: Any, time: int) -> int:
    """A message's stamp in ns; the time of its recording where its header has none."""
    stamp = message.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec or time)


def matched(bag: Bag, topics: Topics, info_topic: str) -> Iterator[Match]:
    """The frames by colour stamp; ``info_topic`` has colour's CameraInfo."""
    matcher = _Matcher(topics.labels is not None)
    for topic, time, message in bag.messages([*(t for t in topics if t), info_topic]):
        stamp = stamp_ns(message, time)
        if stamp < matcher.newest - 10**9:  # looped: the recording's clock starts again
            yield from matcher.pop(final=True)
            matcher = _Matcher(topics.labels is not None)
        matcher.newest = max(stamp, matcher.newest)
        if topic == topics.rgb:
            matcher.colors.append((stamp, message))
        elif topic == topics.depth:
            matcher.depths.append((stamp, message))
        elif topic == info_topic:
            matcher.infos.append((stamp, message))
        else:
            matcher.labels[stamp] = message
        yield from matcher.pop(final=len(matcher.colors) > _MAX_WAITING)
    yield from matcher.pop(final=True)


class _Matcher:
    """Messages that wait for those of their neighbours in time that are yet to be read."""

    def __init__(self, labelled: bool) -> None:
        self.newest = 0
        self.colors: deque[tuple[int, Any]] = deque()
        self.depths: deque[tuple[int, Any]] = deque(maxlen=_MAX_WAITING)
        self.labels: dict[int, Any] = {}
        self.infos: deque[tuple[int, Any]] = deque(maxlen=2 * _MAX_WAITING)
        self._labelled = labelled

    def pop(self, final: bool) -> Iterator[Match]:
        """Frames that are decided; ``final`` decides all of them with what is there."""
        while self.colors and self.depths:
            stamp, color = self.colors[0]
            decided = self.depths[-1][0] >= stamp
            decided &= not self._labelled or max(self.labels, default=-1) >= stamp
            if not (decided or final):
                return
            self.colors.popleft()
            depths = self.depths
            while len(depths) > 1 and abs(depths[1][0] - stamp) <= abs(depths[0][0] - stamp):
                depths.popleft()
            if abs(depths[0][0] - stamp) <= MAX_SKEW_S * 1e9:
                infos = [info for at, info in self.infos if at <= stamp]
                info = infos[-1] if infos else None
                yield Match(stamp, color, depths[0][1], self.labels.get(stamp), info)
            self.labels = {s: m for s, m in self.labels.items() if s > stamp}


def _classes(bag: Bag, labels_topic: str | None) -> LabelSet | None:
    """What a ClassMap beside the labels says of them."""
    if labels_topic is None:
        return None
    topic = beside(bag, labels_topic, "sgnet_msgs/msg/ClassMap", "/class_map")
    return None if topic is None else label_set_of(bag.first(topic))
