"""RGB-D frames from a bag."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgnet_core.data.depth_units import median_doubt
from sgnet_core.models.labels import LabelSet
from sgnet_ros.messages.class_map import label_set_of
from sgnet_ros.messages.images import ImageError
from sgnet_ros.recordings.bag_geometry import BagGeometry, Overrides, PinholeValues, sibling_topic
from sgnet_ros.recordings.bag_topics import find_topics
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.frames import CameraFrame, Source
from sgnet_ros.recordings.matching import Match, matched

logger = logging.getLogger(__name__)

_NAMED = 3  # frames left out that are logged one by one


class BagSource(Source):
    """Frames of a recording in the order of their color images.

    A frame consists of a color image, the depth image nearest in time (by header stamp, at most
    `matching.MAX_SKEW_S` apart), and the labels of the same stamp. Depth of another camera is
    registered with the recorded intrinsics and transforms. Frames with an image that cannot be read
    or is of another size are left out and counted.

    Args:
        path: the bag.
        rgb_topic, depth_topic: topics of the images; needed if the bag holds several.
        labels_topic: topic of the ground truth; needed if the bag holds several label topics.
        intrinsics: fx, fy, cx, cy of the color image in pixels, instead of the recorded ones.
        depth_scale: meters per unit of the depth images, instead of the recorded one.

    Attributes:
        path: path of the bag.
        topics: topics that were found or given.
        geometry: cameras of the bag.
        complete: as in `Bag`; complete iterations update it.
        classes: classes of the labels; None if the bag has no ClassMap for them.
        left_out: number of frames that the last iteration left out.

    Raises:
        BagError: the bag cannot be read, a topic is missing or ambiguous, or depth is not
            registered and the bag lacks a calibration or the transform between the cameras.
    """

    def __init__(
        self,
        path: Path,
        rgb_topic: str | None = None,
        depth_topic: str | None = None,
        labels_topic: str | None = None,
        intrinsics: PinholeValues | None = None,
        depth_scale: float | None = None,
    ) -> None:
        self.path = path
        self.left_out = 0
        with Bag(path) as bag:
            self.topics = find_topics(bag, rgb_topic, depth_topic, labels_topic)
            given = Overrides(intrinsics, depth_scale)
            self.geometry = BagGeometry.of(bag, self.topics, given)
            self.classes = _classes(bag, self.topics.labels)
            self.complete = bag.complete
            count = bag.counts[self.topics.rgb]
            rate_hz = (count - 1) / bag.duration_s if count > 1 and bag.duration_s else None
        if doubt := median_doubt(self.geometry.median):
            logger.warning("%s: in the first depth images on %s %s", path, self.topics.depth, doubt)
        super().__init__(str(path), count, self.classes.name if self.classes else None, rate_hz)

    def __iter__(self) -> Iterator[CameraFrame]:
        """Yield the frames that can be read.

        Raises:
            NoPairsError: the bag holds no color image with depth.
        """
        for frame in self.attempts():
            if isinstance(frame, CameraFrame):
                yield frame
            elif self.left_out <= _NAMED:
                logger.warning("left out: %s", frame)
        if self.left_out > _NAMED:
            logger.warning("%s: %d frames were left out", self.name, self.left_out)

    def attempts(self) -> Iterator[CameraFrame | BagError]:
        """Yield each frame, or the reason why it cannot be read; raise as `__iter__` does."""
        self.left_out = 0
        with Bag(self.path) as bag:
            for match in matched(bag, self.topics, self.geometry.info_topic):
                try:
                    yield self._frame(match)
                except BagError as error:
                    self.left_out += 1
                    yield error
            self.complete &= bag.complete

    def _frame(self, match: Match) -> CameraFrame:
        geometry, topics = self.geometry, self.topics

        def read(topic: str | None, method: Any, message: Any) -> Any:
            try:
                return method(message)
            except ImageError as error:
                raise BagError(
                    f"{self.name}: {topic} at {match.stamp_ns} is damaged: {error}"
                ) from error

        labels = None
        if match.labels is not None:
            labels = read(topics.labels, geometry.labels, match.labels)
        return CameraFrame(
            rgb=read(topics.rgb, geometry.color, match.rgb),
            depth=read(topics.depth, geometry.registered, match.depth),
            labels=labels,
            intrinsics=geometry.camera(match.info),
            stamp_ns=match.stamp_ns,
        )


def _classes(bag: Bag, labels_topic: str | None) -> LabelSet | None:
    """Return the classes in the ClassMap that belongs to the labels; None if there is none."""
    if labels_topic is None:
        return None
    topic = sibling_topic(bag, labels_topic, "sgnet_msgs/msg/ClassMap", "/class_map")
    return None if topic is None else label_set_of(bag.first(topic))
