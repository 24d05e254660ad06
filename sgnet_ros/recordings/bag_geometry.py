"""Cameras of a recording: calibration, transforms between them, images as registered frames."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sgnet_core.data.depth_units import FARTHEST_M, likely_scale, median_depth
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_ros.messages.camera_model import camera_of, intrinsics_of, is_rectified, same_pinhole
from sgnet_ros.messages.compressed import compressed_depth_view, compressed_rgb_view
from sgnet_ros.messages.headers import frame_of
from sgnet_ros.messages.images import ImageError, depth_view, rgb_view
from sgnet_ros.messages.transforms import Pose, StaticTransforms, matrix_of
from sgnet_ros.recordings.bag_topics import BagTopics
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.frames import Size, in_millimeters

logger = logging.getLogger(__name__)

PinholeValues = tuple[float, float, float, float]
"""fx, fy, cx, cy in pixels."""

_ALIGN_HINT = "the driver's registered depth (realsense2_camera: align_depth.enable:=true)"
_FIRST_INFOS = 300  # CameraInfo messages among which a usable one is searched
_FIRST_IMAGES = 10  # of a topic, in case the first ones cannot be read or hold no measurement


@dataclass(frozen=True)
class Overrides:
    """Calibration given by the user, which takes precedence over the recorded one.

    Attributes:
        intrinsics: intrinsics of the color image.
        depth_scale: meters per unit of the depth images, whether integers or floats.
    """

    intrinsics: PinholeValues | None = None
    depth_scale: float | None = None


@dataclass(frozen=True)
class BagGeometry:
    """Cameras of a recording.

    Attributes:
        size: width and height of the color images: CameraInfo's, or the first image's.
        rgb: first usable intrinsics of the color image; None if the recording has none and needs
            none.
        depth: intrinsics of the depth image; None if depth is registered to color.
        registration: registration of depth to color; None if depth is registered.
        depth_to_rgb: (4, 4) from the optical frame of depth to that of color; None if depth is
            registered.
        depth_scale: meters per unit of an integer depth image.
        float_scale: meters per unit of a floating-point depth image.
        info_topic: CameraInfo topic of the color image; None if it is missing or not to be used.
        rectified: True if the color image is rectified.
        median: median depth in meters of the first depth image that holds a measurement; None if
            the first images hold none.
    """

    size: Size
    rgb: Intrinsics | None
    depth: Intrinsics | None
    registration: DepthRegistration | None
    depth_to_rgb: Pose | None
    depth_scale: float
    float_scale: float
    info_topic: str | None
    rectified: bool
    median: float | None

    @classmethod
    def of(cls, bag: Bag, topics: BagTopics, given: Overrides | None = None) -> BagGeometry:
        """Read calibration and transforms.

        Raises:
            BagError: depth needs a registration that the recording does not allow, or is not in
                meters.
        """
        given = given or Overrides()
        depth_scale = given.depth_scale or _recorded_scale(bag, topics.depth)
        float_scale = given.depth_scale or 1.0
        median = _median_depth(bag, topics.depth, depth_scale, float_scale)
        size = _size(bag, topics.rgb, "color")
        rgb = _camera(bag, topics.rgb, size)
        rgb_info = info_topic(bag, topics.rgb)
        if rgb is None and given.intrinsics is None and rgb_info:
            logger.warning("%s: no CameraInfo for %s is usable", bag.path, topics.rgb)
        depth = _camera(bag, topics.depth, _size(bag, topics.depth, "depth"))
        if given.intrinsics is not None:
            rgb, rgb_info = Camera(Intrinsics(*given.intrinsics, *size)), None
        pinhole = None if rgb is None else rgb.pinhole
        registration = pose = None
        if not _is_registered(bag, topics, rgb, depth):
            cameras = _calibrated(bag, topics, rgb, depth)
            pose = _depth_to_rgb(bag, topics)
            registration = DepthRegistration(*cameras, pose)
        return cls(
            size=size,
            rgb=pinhole,
            depth=depth.pinhole if depth and registration else None,
            registration=registration,
            depth_to_rgb=pose,
            depth_scale=depth_scale,
            float_scale=float_scale,
            info_topic=rgb_info,
            rectified=is_rectified(topics.rgb),
            median=median,
        )

    def camera(self, info: Any) -> Intrinsics | None:
        """Return the intrinsics of a color image that came with a CameraInfo.

        These are the first usable ones of the recording if ``info`` is None or unusable, or if
        depth is registered here, which uses the first ones, too.
        """
        if info is not None and self.info_topic is not None and self.registration is None:
            with suppress(ValueError):
                return intrinsics_of(info, *self.size, self.rectified)
        return self.rgb

    def color(self, message: Any) -> npt.NDArray[np.uint8]:
        """Return a color message as (H, W, 3) uint8 RGB.

        Raises:
            ImageError: the message cannot be read, or is not of the camera's size.
        """
        return _checked(decoded(message, "color"), self.size)

    def labels(self, message: Any) -> npt.NDArray[np.uint8]:
        """Return a label message as (H, W) uint8 ids; raise as `color` does."""
        return self.color(message)[:, :, 0]

    def recorded_depth(self, message: Any) -> npt.NDArray[Any]:
        """Return a depth message as (h, w) in recorded units; raise as `color` does."""
        size = (self.depth.width, self.depth.height) if self.depth else self.size
        return _checked(decoded(message, "depth"), size)

    def registered(self, message: Any) -> npt.NDArray[np.uint16]:
        """Return a depth message as (H, W) millimeters of the color image, 0 = no measurement.

        Raises:
            ImageError: as `color` does.
        """
        meters = self.recorded_meters(message)
        if self.registration is not None:
            meters = self.registration(torch.from_numpy(meters.astype(np.float32))).numpy()
        return in_millimeters(meters)

    def recorded_meters(self, message: Any) -> npt.NDArray[np.float64]:
        """Return a depth message as (h, w) meters of the depth camera; raise as `color` does."""
        return in_meters(self.recorded_depth(message), self.depth_scale, self.float_scale)


def in_meters(
    depth: npt.NDArray[Any], integer_scale: float, float_scale: float = 1.0
) -> npt.NDArray[np.float64]:
    """Return depth in meters, with 0 for pixels without a measurement.

    Args:
        depth: (H, W) uint16 or floating point; 0, 65535, NaN and ±Inf mean no measurement.
        integer_scale: meters per unit of uint16.
        float_scale: meters per unit of floating point.
    """
    if depth.dtype.kind == "f":
        return np.nan_to_num(depth.astype(np.float64), posinf=0, neginf=0) * float_scale
    return np.where(depth == np.iinfo(np.uint16).max, 0, depth) * integer_scale


def decoded(message: Any, kind: str) -> npt.NDArray[Any]:
    """Return the pixels of an Image or CompressedImage.

    They are (H, W, 3) uint8 RGB for the kind ``color``, (H, W) for ``depth``.

    Raises:
        ImageError: the message cannot be read.
    """
    if hasattr(message, "encoding"):
        return rgb_view(message).array if kind == "color" else depth_view(message).array
    view = compressed_rgb_view if kind == "color" else compressed_depth_view
    return view(message).array


def _checked(image: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    """Return the image, or raise ImageError if it is not of its camera's size."""
    if image.shape[1::-1] != size:
        raise ImageError(
            "width", f"{image.shape[1]}x{image.shape[0]}, but its camera is {size[0]}x{size[1]}"
        )
    return image


def _size(bag: Bag, topic: str, kind: str) -> Size:
    """Return the most frequent size of the first images on a topic.

    Raises:
        BagError: none of the first images can be read.
    """
    problem: ImageError | None = None
    sizes: list[Size] = []
    for _, _, message in islice(bag.messages([topic]), _FIRST_IMAGES):
        try:
            height, width = decoded(message, kind).shape[:2]
            sizes.append((width, height))
        except ImageError as error:
            problem = error
    if not sizes:
        raise BagError(f"{bag.path}: none of the first images on {topic} can be read: {problem}")
    return max(sizes, key=sizes.count)


def _recorded_scale(bag: Bag, depth_topic: str) -> float:
    """Return meters per unit of integer depth, as librealsense records it, or 0.001."""
    units = sibling_topic(bag, depth_topic, "std_msgs/msg/Float32", "/option/Depth Units/value")
    scale = float(bag.first(units).data) if units else 0.001
    if 0 < scale < np.inf:
        return scale
    logger.warning("%s: %s is %g; assuming millimeters", bag.path, units, scale)
    return 0.001


def _median_depth(bag: Bag, topic: str, integer_scale: float, float_scale: float) -> float | None:
    """Return the median in meters of the first depth image that holds a measurement, or None.

    Raises:
        BagError: the median is so large that the images must be in another unit.
    """
    for _, _, message in islice(bag.messages([topic]), _FIRST_IMAGES):
        with suppress(ImageError):
            image = decoded(message, "depth")
            median = median_depth(image)
            if median is None:
                continue
            scale = float_scale if image.dtype.kind == "f" else integer_scale
            if median * scale > FARTHEST_M:
                likely = likely_scale(median)
                remedy = (
                    f"give predict or bag_export --depth-scale {likely:g}, or " if likely else ""
                )
                unit = "likely in millimeters" if likely == 0.001 else "in another unit"
                raise BagError(
                    f"{bag.path}: the images on {topic} have a median of {median * scale:.0f} m, "
                    f"too far for a depth camera; the numbers are {unit}: {remedy}"
                    "have the driver publish meters in 32FC1 or millimeters in 16UC1 (REP 118)"
                )
            return median * scale
    return None


def info_topic(bag: Bag, image_topic: str) -> str | None:
    """Return the CameraInfo topic of an image topic; None if it has none."""
    kind = "sensor_msgs/msg/CameraInfo"
    return sibling_topic(bag, image_topic, kind, "/camera_info", "/info/camera_info")


def _camera(bag: Bag, image_topic: str, size: Size) -> Camera | None:
    """Return the camera of an image topic's first usable CameraInfo; None if it has none."""
    topic = info_topic(bag, image_topic)
    rectified = is_rectified(image_topic)
    for _, _, info in islice(bag.messages([topic]), _FIRST_INFOS) if topic else ():
        try:
            pinhole = intrinsics_of(info, *size, rectified)
        except ValueError:
            continue  # some drivers publish zeros until they have read their calibration
        try:
            return camera_of(info, *size, rectified)
        except ValueError:  # an unknown distortion model: the pinhole camera is close
            return Camera(pinhole)
    return None


def _is_registered(bag: Bag, topics: BagTopics, rgb: Camera | None, depth: Camera | None) -> bool:
    """Return whether depth is registered to the color camera."""
    if "aligned" in topics.depth or "registered" in topics.depth:
        return True
    rgb_frame, depth_frame = image_frames(bag, topics)
    if rgb_frame != depth_frame:
        return False
    return rgb is None or depth is None or same_pinhole(rgb.pinhole, depth.pinhole)


def image_frames(bag: Bag, topics: BagTopics) -> tuple[str, str]:
    """Return the frame ids of the first color image and the first depth image."""
    rgb, depth = (frame_of(bag.first(topic).header) for topic in (topics.rgb, topics.depth))
    return rgb, depth


def _calibrated(
    bag: Bag, topics: BagTopics, rgb: Camera | None, depth: Camera | None
) -> tuple[Camera, Camera]:
    """Return the cameras of depth and color; raise BagError if one has no CameraInfo."""
    for camera, topic in ((rgb, topics.rgb), (depth, topics.depth)):
        if camera is None:
            raise BagError(
                f"{bag.path}: depth on {topics.depth} is not registered to color, and there is no "
                f"calibrated CameraInfo for {topic}; record it, or {_ALIGN_HINT}"
            )
    assert rgb is not None and depth is not None
    return depth, rgb


def sibling_topic(bag: Bag, image_topic: str, msgtype: str, *suffixes: str) -> str | None:
    """Return the topic of a message type that belongs to an image topic; None without one.

    Its name is a base and a suffix; the base is the longest with which the image topic begins.
    """
    bases = {
        topic: topic.removesuffix(suffix)
        for topic in bag.of_type(msgtype)
        for suffix in suffixes
        if topic.endswith(suffix) and image_topic.startswith(topic.removesuffix(suffix) + "/")
    }
    return max(bases, key=lambda topic: len(bases[topic]), default=None)


def _depth_to_rgb(bag: Bag, topics: BagTopics) -> Pose:
    """Return (4, 4) from the optical frame of depth to that of color.

    Raises:
        BagError: the recording has no transform between them.
    """
    kind = "geometry_msgs/msg/Transform"
    recorded = [sibling_topic(bag, t, kind, "/tf/0") for t in (topics.rgb, topics.depth)]
    if recorded[0] and recorded[1]:
        # librealsense records, for each stream, the transform from the device's reference frame
        # to the frame of the stream.
        rgb, depth = (matrix_of(bag.first(t)) for t in recorded if t)
        return np.asarray(rgb @ np.linalg.inv(depth))
    transforms = StaticTransforms()
    transforms.add(static_transforms(bag))
    rgb_frame, depth_frame = image_frames(bag, topics)
    pose = transforms.between(depth_frame, rgb_frame)
    if pose is None:
        raise BagError(
            f"{bag.path}: depth (frame {depth_frame!r}) is not registered to color (frame "
            f"{rgb_frame!r}) and /tf_static does not connect them; record /tf_static, or "
            + _ALIGN_HINT
        )
    return pose


def static_transforms(bag: Bag) -> list[Any]:
    """Return the transforms of ``/tf_static`` in the order of their messages."""
    topics = [t for t in bag.of_type("tf2_msgs/msg/TFMessage") if t.endswith("tf_static")]
    messages = bag.messages(topics) if topics else ()
    return [stamped for _, _, message in messages for stamped in message.transforms]
