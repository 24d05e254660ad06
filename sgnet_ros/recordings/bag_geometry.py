"""Cameras of a recording: calibration, transforms between them, images as registered frames."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_ros.messages.camera_model import camera_of, intrinsics_of, is_rectified, same_pinhole
from sgnet_ros.messages.compressed import compressed_depth_view, compressed_rgb_view
from sgnet_ros.messages.images import ImageError, depth_view, rgb_view
from sgnet_ros.messages.transforms import Pose, StaticTransforms, matrix_of
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.frames import Frame, millimetres

_ALIGN_HINT = "the driver's registered depth (realsense2_camera: align_depth.enable:=true)"


@dataclass(frozen=True)
class Geometry:
    """Cameras of a recording.

    Attributes:
        rgb: intrinsics of the colour image, the first that were recorded.
        depth: intrinsics of the depth image; None where depth is registered to colour.
        registration: of depth to colour, where it is needed.
        depth_scale: metres per unit of an integer depth image.
        info_topic: CameraInfo of the colour image.
        rectified: whether the colour image is.
    """

    rgb: Intrinsics
    depth: Intrinsics | None
    registration: DepthRegistration | None
    depth_scale: float
    info_topic: str
    rectified: bool

    @classmethod
    def of(cls, bag: Bag, rgb_topic: str, depth_topic: str) -> Geometry:
        """Reads calibration and transforms.

        Raises:
            BagError: colour has no CameraInfo, or depth needs registration and can't have it.
        """
        rgb, depth = _camera(bag, rgb_topic), _camera(bag, depth_topic)
        info_topic, rectified = _info_topic(bag, rgb_topic), is_rectified(rgb_topic)
        if rgb is None or info_topic is None:
            raise BagError(f"{bag.path} has no calibrated CameraInfo for {rgb_topic}; record it")
        units = beside(bag, depth_topic, "std_msgs/msg/Float32", "/option/Depth Units/value")
        scale = float(bag.first(units).data) if units else 0.001
        frames = [bag.first(t).header.frame_id.lstrip("/") for t in (rgb_topic, depth_topic)]
        if "aligned" in depth_topic or "registered" in depth_topic:
            return cls(rgb.pinhole, None, None, scale, info_topic, rectified)
        if frames[0] == frames[1] and (depth is None or same_pinhole(rgb.pinhole, depth.pinhole)):
            return cls(rgb.pinhole, None, None, scale, info_topic, rectified)
        if depth is None:
            raise BagError(
                f"{bag.path}: depth on {depth_topic} is not registered to colour and has no "
                f"CameraInfo; record it, or {_ALIGN_HINT}"
            )
        pose = _depth_to_rgb(bag, (rgb_topic, depth_topic), frames)
        registration = DepthRegistration(depth, rgb, pose)
        return cls(rgb.pinhole, depth.pinhole, registration, scale, info_topic, rectified)

    def frame(self, stamp_ns: int, rgb: Any, depth: Any, labels: Any, info: Any) -> Frame:
        """Messages → a frame of that stamp, depth registered to colour.

        Args:
            info: colour's CameraInfo at that time; None takes the first.

        Raises:
            ImageError: an image that can't be read, or isn't of the size that CameraInfo says.
        """
        mask = None
        if labels is not None:
            mask = _checked("labels", _decoded(labels, "color")[:, :, 0], self.rgb)
        return Frame(self.color(rgb), self.registered(depth), mask, self.camera(info), stamp_ns)

    def camera(self, info: Any) -> Intrinsics:
        """Of the colour image while a CameraInfo holds; the first where that is None or unusable.

        Depth is registered for the first alone.
        """
        if info is not None and self.registration is None:
            with suppress(ValueError):
                return intrinsics_of(info, self.rgb.width, self.rgb.height, self.rectified)
        return self.rgb

    def color(self, message: Any) -> npt.NDArray[np.uint8]:
        """A colour message as (H, W, 3) uint8 RGB; raises as `frame` does."""
        return _checked("colour", _decoded(message, "color"), self.rgb)

    def registered(self, message: Any) -> npt.NDArray[np.uint16]:
        """A depth message as (H, W) millimetres of the colour image; raises as `frame` does."""
        depth = _checked("depth", _decoded(message, "depth"), self.depth or self.rgb)
        if depth.dtype.kind == "f":
            metres = np.asarray(np.nan_to_num(depth, posinf=0, neginf=0))
        else:
            metres = np.asarray(depth * self.depth_scale)
        if self.registration is not None:
            metres = self.registration(torch.from_numpy(metres.astype(np.float32))).numpy()
        return millimetres(metres)

    @property
    def as_recorded(self) -> bool:
        """Whether raw depth images are in their standard units and registered already."""
        return self.depth is None and self.depth_scale == 0.001


def _checked(name: str, image: npt.NDArray[Any], camera: Intrinsics) -> npt.NDArray[Any]:
    """The image, if it is of its camera's size."""
    if image.shape[:2] != (camera.height, camera.width):
        raise ImageError(
            "width",
            f"{name} is {image.shape[1]}x{image.shape[0]}, CameraInfo says "
            f"{camera.width}x{camera.height}",
        )
    return image


def _decoded(message: Any, kind: str) -> npt.NDArray[Any]:
    """Pixels of an Image or CompressedImage: (H, W, 3) for ``color``, (H, W) for ``depth``."""
    if hasattr(message, "encoding"):
        return rgb_view(message).array if kind == "color" else depth_view(message).array
    view = compressed_rgb_view if kind == "color" else compressed_depth_view
    return view(message).array


def _info_topic(bag: Bag, image_topic: str) -> str | None:
    kind = "sensor_msgs/msg/CameraInfo"
    return beside(bag, image_topic, kind, "/camera_info", "/info/camera_info")


def _camera(bag: Bag, image_topic: str) -> Camera | None:
    """The camera of an image topic; None where it has no calibrated CameraInfo."""
    topic = _info_topic(bag, image_topic)
    if topic is None:
        return None
    info = bag.first(topic)
    rectified = is_rectified(image_topic)
    try:
        pinhole = intrinsics_of(info, info.width, info.height, rectified)
    except ValueError:
        return None
    try:
        return camera_of(info, info.width, info.height, rectified)
    except ValueError:  # a lens that isn't known: its pinhole is better than nothing
        return Camera(pinhole)


def beside(bag: Bag, image_topic: str, msgtype: str, *suffixes: str) -> str | None:
    """The topic ``base + suffix`` of this type with the longest base that leads to the image."""
    bases = {
        topic: topic.removesuffix(suffix)
        for topic in bag.of_type(msgtype)
        for suffix in suffixes
        if topic.endswith(suffix) and image_topic.startswith(topic.removesuffix(suffix) + "/")
    }
    return max(bases, key=lambda topic: len(bases[topic]), default=None)


def _depth_to_rgb(bag: Bag, image_topics: tuple[str, str], frames: list[str]) -> Pose:
    """(4, 4) from depth's optical frame to colour's; both arguments name colour first."""
    recorded = [beside(bag, t, "geometry_msgs/msg/Transform", "/tf/0") for t in image_topics]
    if recorded[0] and recorded[1]:
        # librealsense's recorder writes, for each stream, the transform from the device's
        # reference frame to that stream's.
        rgb, depth = (matrix_of(bag.first(t)) for t in recorded if t)
        return np.asarray(rgb @ np.linalg.inv(depth))
    transforms = StaticTransforms()
    topics = [t for t in bag.of_type("tf2_msgs/msg/TFMessage") if t.endswith("tf_static")]
    for _, _, message in bag.messages(topics) if topics else ():
        transforms.add(message.transforms)
    pose = transforms.between(frames[1], frames[0])
    if pose is None:
        raise BagError(
            f"{bag.path}: depth (frame {frames[1]!r}) is not registered to colour (frame "
            f"{frames[0]!r}) and /tf_static doesn't connect them; record /tf_static, or "
            + _ALIGN_HINT
        )
    return pose
