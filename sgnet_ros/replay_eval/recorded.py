"""Messages of a bag as they are played to the node."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from sgnet_ros.messages.camera_model import is_calibrated
from sgnet_ros.messages.images import ImageError, image_message
from sgnet_ros.messages.serialized import restamped
from sgnet_ros.messages.transforms import Pose, StaticTransforms, pose_matrix, pose_text
from sgnet_ros.node.inputs import TFMessage
from sgnet_ros.recordings.bag_geometry import image_frames, info_topic, static_transforms
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bag_topics import COMPRESSED
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.frames import in_millimeters
from sgnet_ros.recordings.matching import matched, recorded_stamp_ns

RGB, DEPTH, RGB_INFO, DEPTH_INFO, IMU, TF = "rgb", "depth", "rgb_info", "depth_info", "imu", "tf"
"""Kinds of messages."""
_INPUTS = {
    RGB: "rgb/image_raw",
    DEPTH: "depth/image_raw",
    RGB_INFO: "rgb/camera_info",
    DEPTH_INFO: "depth/camera_info",
    IMU: "imu",
}
"""The node's inputs that are remapped, by kind."""
_FIRST_INFOS = 300  # CameraInfo messages among which a calibrated one is searched


class Item(NamedTuple):
    """One message of a bag.

    Attributes:
        time_ns: recording time.
        kind: input of the node, such as `RGB`.
        stamp_ns: stamp of the header, or the recording time if it has none.
        data: CDR bytes; None for an image that cannot be read.
    """

    time_ns: int
    kind: str
    stamp_ns: int
    data: bytes | None

    def at(self, stamp: int) -> Item:
        """Return the message with another stamp in ns."""
        data = None if self.data is None else restamped(self.data, stamp)
        return self._replace(stamp_ns=stamp, data=data)


class RecordedFrame(NamedTuple):
    """Color and depth with the stamp of color.

    ``others`` are the messages that the node needs before them: those recorded since the previous
    frame, but only the IMU message nearest in time.
    """

    rgb: Item
    depth: Item
    others: Sequence[Item]

    @property
    def readable(self) -> bool:
        """True if both images can be read."""
        return self.rgb.data is not None and self.depth.data is not None


class Recording:
    """Messages of a bag for the node's inputs.

    Images keep their transport, encoding, frame id and, except in a `RecordedFrame`, their stamp.
    Depth in a unit that the node does not support is converted to millimeters.

    Args:
        source: the bag.

    Attributes:
        source: the bag.
        topics: names of the node's inputs by kind, for the kinds in the bag.
        transports: transport of color and depth by kind: ``raw``, ``compressed`` or
            ``compressedDepth``.
        changed: description of the messages that are not sent as recorded; empty without any.
        node_arguments: ROS arguments of the node for these messages.
        static_transforms: all of ``/tf_static`` as one serialized message; None without any, or if
            tf2_msgs is not installed.
        opening: the first calibrations and the first IMU message.
    """

    def __init__(self, source: BagSource) -> None:
        self.source = source
        geometry, images = source.geometry, source.topics
        self.changed = ""
        if not math.isclose(geometry.depth_scale, 0.001, rel_tol=1e-6):
            self.changed = f"depth, from units of {geometry.depth_scale:g} m to millimeters"
        with Bag(source.path) as bag:
            rgb_compressed, depth_compressed = (
                bag.topics[topic] == COMPRESSED for topic in (images.rgb, images.depth)
            )
            self.transports = {
                RGB: "compressed" if rgb_compressed else "raw",
                DEPTH: "compressedDepth" if depth_compressed and not self.changed else "raw",
            }
            recorded = {
                DEPTH_INFO: info_topic(bag, images.depth),
                RGB_INFO: info_topic(bag, images.rgb),
                IMU: _imu_topic(bag),
            }
            self._kinds = {topic: kind for kind, topic in recorded.items() if topic}
            self.topics = {kind: ros_name(topic) for kind, topic in recorded.items() if topic}
            self.topics[RGB] = ros_name(_base(images.rgb, rgb_compressed))
            self.topics[DEPTH] = ros_name(_base(images.depth, depth_compressed))
            self.opening = [item for topic in self._kinds if (item := self._first(bag, topic))]
            self.static_transforms: bytes | None = None
            known = StaticTransforms()
            if TFMessage is not None:
                moving = [t for t in bag.of_type("tf2_msgs/msg/TFMessage") if t.endswith("/tf")]
                self._kinds.update(dict.fromkeys(moving, TF))
                self.topics.update({TF: "/tf"} if moving else {})
                transforms = static_transforms(bag)
                known.add(transforms)
                self.static_transforms = _joined(bag, transforms)
            rgb_frame, depth_frame = image_frames(bag, images)
        pose, in_tf = geometry.depth_to_rgb, known.between(depth_frame, rgb_frame)
        given = in_tf is not None and pose is not None and np.array_equal(in_tf, pose)
        self.node_arguments = self._arguments(None if given else pose)

    def _arguments(self, depth_to_rgb: Pose | None) -> list[str]:
        """Return the node's arguments, with a pose that /tf_static does not contain."""
        remaps = [f"{_INPUTS[k]}:={name}" for k, name in self.topics.items() if k in _INPUTS]
        parameters = [f"{kind}_transport:={name}" for kind, name in self.transports.items()]
        if depth_to_rgb is not None:  # as in a recording of librealsense
            parameters.append(f"depth_to_rgb:={pose_text(depth_to_rgb)}")
        return [
            *(word for remap in remaps for word in ("-r", remap)),
            *(word for parameter in parameters for word in ("-p", parameter)),
        ]

    def frames(self, kinds: Sequence[str]) -> Iterator[RecordedFrame]:
        """Yield the frames of the `BagSource`, with the other messages of some kinds.

        Raises:
            NoPairsError: the bag has no frame.
        """
        others: list[Item] = []
        orientations: list[Item] = []
        with Bag(self.source.path) as bag:

            def keep(topic: str, time_ns: int, message: Any) -> None:
                item = self._item(bag, topic, time_ns, message)
                (orientations if item.kind == IMU else others).append(item)

            images = self.source.topics._replace(labels=None)
            for match in matched(bag, images, None, self._topics_of(kinds), keep):
                stamp = match.stamp_ns
                rgb, depth = (
                    Item(stamp, kind, stamp, self._image(bag, kind, message, stamp))
                    for kind, message in ((RGB, match.rgb), (DEPTH, match.depth))
                )
                if orientations:
                    near = min(reversed(orientations), key=lambda item: abs(item.stamp_ns - stamp))
                    others.append(near)
                    orientations = orientations[orientations.index(near) + 1 :]
                yield RecordedFrame(rgb, depth, others.copy())
                others.clear()

    def items(self, kinds: Sequence[str]) -> Iterator[Item]:
        """Yield every image, and the other messages of some kinds, in the order of recording."""
        images = self.source.topics
        with Bag(self.source.path) as bag:
            names = [images.rgb, images.depth, *self._topics_of(kinds)]
            for topic, time_ns, message in bag.messages(names):
                if topic in (images.rgb, images.depth):
                    kind = RGB if topic == images.rgb else DEPTH
                    stamp = recorded_stamp_ns(message, time_ns)
                    yield Item(time_ns, kind, stamp, self._image(bag, kind, message, stamp))
                else:
                    yield self._item(bag, topic, time_ns, message)

    def _topics_of(self, kinds: Sequence[str]) -> list[str]:
        return [topic for topic, kind in self._kinds.items() if kind in kinds]

    def _item(self, bag: Bag, topic: str, time_ns: int, message: Any) -> Item:
        kind = self._kinds[topic]
        stamp = time_ns if kind == TF else recorded_stamp_ns(message, time_ns)
        return Item(time_ns, kind, stamp, bytes(bag.serialized(message)))

    def _image(self, bag: Bag, kind: str, message: Any, stamp: int) -> bytes | None:
        """Return a serialized image with a stamp; None if it cannot be read or has another size."""
        geometry = self.source.geometry
        try:
            if kind == DEPTH and self.changed:
                depth = in_millimeters(geometry.recorded_meters(message))
                header = Header(frame_id=message.header.frame_id)
                return restamped(serialize_message(image_message(depth, header)), stamp)
            (geometry.color if kind == RGB else geometry.recorded_depth)(message)
            return restamped(bag.serialized(message), stamp)
        except ImageError:
            return None

    def _first(self, bag: Bag, topic: str) -> Item | None:
        """Return the first message of a topic; of CameraInfo, the first calibrated one."""
        for number, (_, time_ns, message) in enumerate(bag.messages([topic])):
            if self._kinds[topic] == IMU or is_calibrated(message):
                return self._item(bag, topic, time_ns, message)
            if number == _FIRST_INFOS:
                break
        return None


def ros_name(topic: str) -> str:
    """Return the name of a recorded topic, changed where only ROS 1 allows it."""
    words = [re.sub(r"\W", "_", word, flags=re.ASCII) for word in topic.split("/") if word]
    return "".join(f"/_{word}" if word[0].isdigit() else f"/{word}" for word in words)


def _base(topic: str, compressed: bool) -> str:
    """Return the base topic of image_transport, without the transport at its end."""
    return re.sub("/compressed(Depth)?$", "", topic) if compressed else topic


def _imu_topic(bag: Bag) -> str | None:
    """Return the first IMU topic with orientations (REP 145); None without any."""
    for topic in bag.of_type("sensor_msgs/msg/Imu"):
        message = bag.first(topic)
        q = message.orientation
        turn = pose_matrix((0, 0, 0), (q.x, q.y, q.z, q.w))
        if message.orientation_covariance[0] != -1 and math.isfinite(turn[0, 0]):
            return topic
    return None


def _joined(bag: Bag, transforms: list[Any]) -> bytes | None:
    """Return the bag's static transforms as one serialized message."""
    for topic in bag.of_type("tf2_msgs/msg/TFMessage"):
        if topic.endswith("tf_static"):
            message = bag.first(topic)
            return bytes(bag.serialized(type(message)(transforms)))
    return None
