"""One RGB-D frame on its way from the synchronizer to the publishers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import CameraInfo

from sgnet_ros.messages.compressed import compressed_depth_view, compressed_rgb_view
from sgnet_ros.messages.images import ImageArray, ImageError, ImageView, depth_view, rgb_view
from sgnet_ros.node.imu import Gravity
from sgnet_ros.node.matcher import Pair


@dataclass(frozen=True)
class Frame:
    """A pair of messages with the calibrations and gravity at its stamp.

    Attributes:
        pair: RGB and depth message.
        camera_info: calibration of the RGB camera; None if none was received.
        depth_info: calibration of the depth camera; None if none was received.
        gravity: direction of gravity from the IMU; None if the node does not use an IMU.
        matching_ms: milliseconds of matching since the previous frame.
        complete_s: time at which the pair was complete, by `time.perf_counter`.
    """

    pair: Pair[Any]
    camera_info: CameraInfo | None
    depth_info: CameraInfo | None
    gravity: Gravity | None
    matching_ms: float
    complete_s: float


@dataclass(frozen=True)
class InputTopics:
    """Resolved names of the inputs."""

    rgb: str
    depth: str
    camera_info: str
    depth_info: str


class FrameDropped(Exception):
    """A frame that cannot become a label image.

    Args:
        cause: name under which it is counted.
        message: the problem, with the topic, and the remedy.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def read_images(pair: Pair[Any], topics: InputTopics) -> tuple[ImageArray, ImageArray, int]:
    """Return (H, W, 3) RGB, (h, w) depth as `depth_view` gives it, and the number of copies made.

    Raises:
        FrameDropped: one of the images cannot be read.
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
