"""Cameras of a recording: calibration, transforms between them, images as registered frames."""

from __future__ import annotations

import io
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgnet_core.camera import Intrinsics
from sgnet_ros.bags import Bag, BagError
from sgnet_ros.frames import Frame, millimetres
from sgnet_ros.images import ImageError, depth_view, rgb_view
from sgnet_ros.registration import register_depth

_ALIGN_HINT = "the driver's registered depth (realsense2_camera: align_depth.enable:=true)"


@dataclass(frozen=True)
class Geometry:
    """Cameras of a recording.

    Attributes:
        rgb: intrinsics of the colour image.
        depth: intrinsics of the depth image; None where depth is registered to colour.
        depth_to_rgb: (4, 4) float64, metres, from depth's optical frame to colour's.
        depth_scale: metres per unit of an integer depth image.
    """

    rgb: Intrinsics
    depth: Intrinsics | None
    depth_to_rgb: npt.NDArray[np.float64]
    depth_scale: float

    @classmethod
    def of(cls, bag: Bag, rgb_topic: str, depth_topic: str) -> Geometry:
        """Reads calibration and transforms.

        Raises:
            BagError: colour has no CameraInfo, or depth needs registration and can't have it.
        """
        rgb = _intrinsics(bag, rgb_topic)
        depth = _intrinsics(bag, depth_topic)
        if rgb is None:
            raise BagError(f"{bag.path} has no calibrated CameraInfo for {rgb_topic}; record it")
        units = beside(bag, depth_topic, "std_msgs/msg/Float32", "/option/Depth Units/value")
        scale = float(bag.first(units).data) if units else 0.001
        frames = [bag.first(t).header.frame_id.lstrip("/") for t in (rgb_topic, depth_topic)]
        if "aligned" in depth_topic or "registered" in depth_topic:
            return cls(rgb, None, np.eye(4), scale)
        if frames[0] == frames[1] and (depth is None or _same_camera(rgb, depth)):
            return cls(rgb, None, np.eye(4), scale)
        if depth is None:
            raise BagError(
                f"{bag.path}: depth on {depth_topic} is not registered to colour and has no "
                f"CameraInfo; record it, or {_ALIGN_HINT}"
            )
        return cls(rgb, depth, _depth_to_rgb(bag, (rgb_topic, depth_topic), frames), scale)

    def frame(self, stamp_ns: int, rgb: Any, depth: Any, labels: Any) -> Frame:
        """Messages → a frame of that stamp, depth registered to colour.

        Raises:
            ImageError: an image that can't be read, or isn't of the size that CameraInfo says.
        """
        mask = None
        if labels is not None:
            mask = _checked("labels", _decoded(labels, "color")[:, :, 0], self.rgb)
        return Frame(self.color(rgb), self.registered(depth), mask, self.rgb, stamp_ns)

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
        if self.depth is not None:
            metres = register_depth(metres, self.depth, self.rgb, self.depth_to_rgb)
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
    # compressedDepth puts 12 bytes before the PNG: parameters that 16-bit depth doesn't use
    skip = 12 if "compressedDepth" in message.format else 0
    try:
        image = Image.open(io.BytesIO(bytes(message.data[skip:])))
        return np.asarray(image.convert("RGB") if kind == "color" else image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError("data", f"can't be decoded as {message.format}: {error}") from error


def _intrinsics(bag: Bag, image_topic: str) -> Intrinsics | None:
    kind = "sensor_msgs/msg/CameraInfo"
    topic = beside(bag, image_topic, kind, "/camera_info", "/info/camera_info")
    if topic is None:
        return None
    info = bag.first(topic)
    k = info.K if hasattr(info, "K") else info.k  # ROS 1 spells it K
    return Intrinsics.from_matrix(k, info.width, info.height) if k[0] else None


def beside(bag: Bag, image_topic: str, msgtype: str, *suffixes: str) -> str | None:
    """The topic ``base + suffix`` of this type with the longest base that leads to the image."""
    bases = {
        topic: topic.removesuffix(suffix)
        for topic in bag.of_type(msgtype)
        for suffix in suffixes
        if topic.endswith(suffix) and image_topic.startswith(topic.removesuffix(suffix) + "/")
    }
    return max(bases, key=lambda topic: len(bases[topic]), default=None)


def _same_camera(a: Intrinsics, b: Intrinsics) -> bool:
    return a.width == b.width and a.height == b.height and np.allclose(a.matrix(), b.matrix())


def _depth_to_rgb(
    bag: Bag, image_topics: tuple[str, str], frames: list[str]
) -> npt.NDArray[np.float64]:
    """(4, 4) from depth's optical frame to colour's; both arguments name colour first."""
    recorded = [beside(bag, t, "geometry_msgs/msg/Transform", "/tf/0") for t in image_topics]
    if recorded[0] and recorded[1]:
        # librealsense's recorder writes, for each stream, the transform from the device's
        # reference frame to that stream's.
        rgb, depth = (_matrix(bag.first(t)) for t in recorded if t)
        return np.asarray(rgb @ np.linalg.inv(depth))
    poses = _static_poses(bag, frames[0])
    if frames[1] not in poses:
        raise BagError(
            f"{bag.path}: depth (frame {frames[1]!r}) is not registered to colour (frame "
            f"{frames[0]!r}) and /tf_static doesn't connect them; record /tf_static, or "
            + _ALIGN_HINT
        )
    return poses[frames[1]]


def _static_poses(bag: Bag, root: str) -> dict[str, npt.NDArray[np.float64]]:
    """Every frame that /tf_static connects with ``root`` → (4, 4) from that frame to ``root``."""
    edges: dict[str, dict[str, npt.NDArray[Any]]] = {}
    topics = [t for t in bag.of_type("tf2_msgs/msg/TFMessage") if t.endswith("tf_static")]
    for _, _, message in bag.messages(topics) if topics else ():
        for t in message.transforms:
            parent, child = t.header.frame_id.lstrip("/"), t.child_frame_id.lstrip("/")
            pose = _matrix(t.transform)
            edges.setdefault(parent, {})[child] = pose
            edges.setdefault(child, {})[parent] = np.asarray(np.linalg.inv(pose))
    poses: dict[str, npt.NDArray[np.float64]] = {root: np.eye(4)}
    queue = deque([root])
    while queue:
        frame = queue.popleft()
        for neighbour, pose in edges.get(frame, {}).items():
            if neighbour not in poses:
                poses[neighbour] = poses[frame] @ pose
                queue.append(neighbour)
    return poses


def _matrix(transform: Any) -> npt.NDArray[np.float64]:
    """geometry_msgs/Transform → (4, 4) float64."""
    q, t = transform.rotation, transform.translation
    x, y, z, w = np.array([q.x, q.y, q.z, q.w]) / np.linalg.norm([q.x, q.y, q.z, q.w])
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), t.x],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), t.y],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), t.z],
            [0, 0, 0, 1],
        ]
    )
