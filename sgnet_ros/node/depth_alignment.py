"""Depth that another camera than the colour camera has taken, brought to the colour image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import CameraInfo
from torch import Tensor

from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.camera_model import camera_of, is_rectified, same_pinhole
from sgnet_ros.messages.images import ImageArray
from sgnet_ros.messages.transforms import Pose, StaticTransforms
from sgnet_ros.node.inputs import FrameDropped, Topics
from sgnet_ros.node.synchronizer import Pair

_REMEDY = (
    "Start realsense2_camera with align_depth.enable:=true and use its topic "
    "aligned_depth_to_color/image_raw, other drivers with depth_registration:=true; or let this "
    "node register depth: remap depth/camera_info to the depth camera's, and set the parameter "
    "depth_to_rgb where /tf_static doesn't connect the frames"
)


class DepthAligner:
    """Registers depth to colour on the model's device where frame, size or K differ.

    Args:
        topics: for messages about them.
        transforms: what ``/tf_static`` says.
        depth_to_rgb: gives the pose of the parameter; None leaves it to ``/tf_static``.

    Attributes:
        camera_info: the depth camera's, the last one received.
    """

    def __init__(
        self,
        topics: Topics,
        transforms: StaticTransforms,
        depth_to_rgb: Callable[[], Pose | None] = lambda: None,
    ) -> None:
        self.camera_info: CameraInfo | None = None
        self._topics = topics
        self._transforms = transforms
        self._depth_to_rgb = depth_to_rgb
        self._made: tuple[tuple[Any, ...], DepthRegistration] | None = None

    def align(
        self,
        pair: Pair[Any],
        size: tuple[int, int],
        depth: ImageArray,
        rgb_camera: Callable[[], Camera],
        segmenter: Segmenter,
    ) -> ImageArray | Tensor:
        """Depth as the colour camera sees it.

        Args:
            pair: the messages, for their frames.
            size: (H, W) of the colour image.
            depth: (h, w) uint16 millimetres or float32 metres.
            rgb_camera: gives the colour camera; called only if needed, may raise `FrameDropped`.
            segmenter: on whose device depth is registered.

        Returns:
            (H, W): ``depth`` itself if it is registered, else float32 metres on the device.

        Raises:
            FrameDropped: depth needs registration and the geometry isn't known.
        """
        frames = (pair.rgb.header.frame_id, pair.depth.header.frame_id)
        camera, problem = self._depth_camera(frames[1], depth.shape)
        if frames[0] == frames[1] and depth.shape == size:
            if camera is None:
                return depth
            try:
                if same_pinhole(camera.pinhole, rgb_camera().pinhole):
                    return depth
            except FrameDropped:  # colour isn't calibrated: nothing speaks against the images
                return depth
        pose = self._pose(*frames)
        if camera is None or pose is None:
            raise FrameDropped(
                "not_registered", self._explanation(frames, size, depth.shape, problem)
            )
        registration = self._registration(camera, rgb_camera(), pose, segmenter)
        return registration(segmenter.metres(depth))

    def _depth_camera(self, frame: str, shape: tuple[int, ...]) -> tuple[Camera | None, str]:
        """The depth camera, or None and why it isn't known."""
        info, topic = self.camera_info, self._topics.depth_info
        if info is None:
            return None, f"nothing was received on {topic}"
        if info.header.frame_id not in ("", frame):
            return None, f"{topic} is of frame '{info.header.frame_id}'"
        try:
            rectified = is_rectified(self._topics.depth)
            return camera_of(info, shape[1], shape[0], rectified), ""
        except ValueError as error:
            return None, f"{topic}: {error}"

    def _pose(self, rgb_frame: str, depth_frame: str) -> Pose | None:
        given = self._depth_to_rgb()
        return self._transforms.between(depth_frame, rgb_frame) if given is None else given

    def _explanation(
        self,
        frames: tuple[str, str],
        size: tuple[int, int],
        depth_size: tuple[int, ...],
        problem: str,
    ) -> str:
        unknown = problem or (
            f"there is no transform from '{frames[1]}' to '{frames[0]}': neither depth_to_rgb nor "
            "/tf_static gives it"
        )
        return (
            f"{self._topics.rgb} is {size[1]}x{size[0]} in frame '{frames[0]}', but "
            f"{self._topics.depth} is {depth_size[1]}x{depth_size[0]} in frame '{frames[1]}', and "
            f"{unknown}. {_REMEDY}"
        )

    def _registration(
        self, camera: Camera, rgb_camera: Camera, pose: Pose, segmenter: Segmenter
    ) -> DepthRegistration:
        key = (camera, rgb_camera, pose.tobytes(), segmenter.device)
        if self._made is None or self._made[0] != key:
            made = DepthRegistration(camera, rgb_camera, pose, segmenter.device)
            self._made = (key, made)
        return self._made[1]
