"""What comes in: the names of the topics, and an RGB-D pair's messages as arrays."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from sgnet_ros.messages.compressed import compressed_depth_view, compressed_rgb_view
from sgnet_ros.messages.images import ImageArray, ImageError, ImageView, depth_view, rgb_view
from sgnet_ros.messages.transforms import StaticTransforms
from sgnet_ros.node.synchronizer import Pair

# As tf2's own listener: every publisher's last message comes, however late one subscribes.
_LATCHED = QoSProfile(
    depth=100,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)


@dataclass(frozen=True)
class Topics:
    """Resolved names of the inputs."""

    rgb: str
    depth: str
    camera_info: str
    depth_info: str


class FrameDropped(Exception):
    """A pair that cannot become a label image: the cause to count it under, and what to do."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(remedy)
        self.cause = cause


def image_topic(node: Node, name: str, transport: str) -> tuple[type, str]:
    """Message type and topic of images that come by a transport.

    As image_transport does it, the suffix goes to the end of the topic that ``name`` is remapped
    to.
    """
    if transport == "raw":
        return Image, name
    return CompressedImage, f"{node.resolve_topic_name(name)}/{transport}"


def subscribe_transforms(node: Node, transforms: StaticTransforms) -> list[Any]:
    """Feeds ``/tf_static`` to ``transforms``.

    Returns:
        The subscription, in a list; an empty one where tf2_msgs isn't installed.
    """
    try:
        message_type = importlib.import_module("tf2_msgs.msg").TFMessage
    except ImportError:
        return []

    def receive(message: Any) -> None:
        transforms.add(message.transforms)

    return [node.create_subscription(message_type, "/tf_static", receive, _LATCHED)]


def pair_arrays(pair: Pair[Any], topics: Topics) -> tuple[ImageArray, ImageArray, int]:
    """(H, W, 3) RGB and (h, w) depth as `images` gives them, and the number of copies made.

    Raises:
        FrameDropped: one of them can't be read.
    """
    rgb = _read(pair.rgb, rgb_view, compressed_rgb_view, "bad_rgb", topics.rgb)
    depth = _read(pair.depth, depth_view, compressed_depth_view, "bad_depth", topics.depth)
    return rgb.array, depth.array, rgb.copies + depth.copies


def _read(
    message: Any,
    raw: Callable[[Any], ImageView],
    compressed: Callable[[Any], ImageView],
    cause: str,
    topic: str,
) -> ImageView:
    try:
        return raw(message) if hasattr(message, "encoding") else compressed(message)
    except ImageError as error:
        raise FrameDropped(cause, f"{topic}: {error}") from error
