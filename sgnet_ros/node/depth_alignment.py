"""Registration of depth from another camera to the color image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import CameraInfo
from torch import Tensor

from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_core.inference.cuda_graph import replayed
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.camera_model import camera_of, is_rectified, same_pinhole
from sgnet_ros.messages.headers import frame_of
from sgnet_ros.messages.images import ImageArray
from sgnet_ros.messages.transforms import Pose, StaticTransforms
from sgnet_ros.node.frame import Frame, FrameDropped, InputTopics

_REMEDY = (
    "Start realsense2_camera with align_depth.enable:=true and use its topic "
    "aligned_depth_to_color/image_raw; start other drivers with depth_registration:=true; or let "
    "this node register depth: remap depth/camera_info to that of the depth camera, and set the "
    "parameter depth_to_rgb if TF does not connect the frames"
)


class DepthAligner:
    """Register depth to color on the model's device if frame, size or K differ.

    Args:
        topics: names of the input topics, for error messages.
        transforms: poses between frames, from ``/tf_static`` and ``/tf``.
        depth_to_rgb: returns the pose of the parameter; None takes the pose from TF.
        rectified: returns whether the images of a topic are rectified.
    """

    def __init__(
        self,
        topics: InputTopics,
        transforms: StaticTransforms,
        depth_to_rgb: Callable[[], Pose | None] = lambda: None,
        rectified: Callable[[str], bool] = is_rectified,
    ) -> None:
        self._rectified = rectified
        self._topics = topics
        self._transforms = transforms
        self._depth_to_rgb = depth_to_rgb
        self._made: tuple[tuple[Any, ...], Callable[[Tensor], Tensor]] | None = None

    def align(
        self,
        frame: Frame,
        size: tuple[int, int],
        depth: ImageArray,
        rgb_camera: Callable[[], Camera],
        segmenter: Segmenter,
    ) -> ImageArray | Tensor:
        """Return depth registered to the color image.

        Args:
            frame: the messages and their calibrations.
            size: (H, W) of the color image.
            depth: (h, w) uint16 millimeters or float32 meters.
            rgb_camera: returns the color camera, or raises `FrameDropped`; called only if needed.
            segmenter: model on whose device depth is registered.

        Returns:
            (H, W): ``depth`` itself if it is registered, else float32 meters on the device.

        Raises:
            FrameDropped: depth needs registration, and a calibration or the pose is missing.
        """
        frames = (frame_of(frame.pair.rgb.header), frame_of(frame.pair.depth.header))
        camera, problem = self._depth_camera(frame.depth_info, frames[1], depth.shape)
        if frames[0] == frames[1] and depth.shape == size:
            if camera is None:
                return depth
            try:
                if same_pinhole(camera.pinhole, rgb_camera().pinhole):
                    return depth
            except FrameDropped:  # without a calibration of color, frame and size decide
                return depth
        pose = self._pose(*frames, frame.pair.depth_ns)
        if camera is None or pose is None:
            raise FrameDropped(
                "not_registered", self._explanation(frames, size, depth.shape, problem)
            )
        registration = self._registration(camera, rgb_camera(), pose, segmenter)
        return registration(segmenter.meters(depth))

    def _depth_camera(
        self, info: CameraInfo | None, frame: str, shape: tuple[int, ...]
    ) -> tuple[Camera | None, str]:
        """Return the depth camera, or None and the reason."""
        topic = self._topics.depth_info
        if info is None:
            return None, f"nothing was received on {topic}"
        if frame_of(info.header) not in ("", frame):
            return None, f"{topic} is of frame '{frame_of(info.header)}'"
        try:
            rectified = self._rectified(self._topics.depth)
            return camera_of(info, shape[1], shape[0], rectified), ""
        except ValueError as error:
            return None, f"{topic}: {error}"

    def _pose(self, rgb_frame: str, depth_frame: str, stamp: int) -> Pose | None:
        given = self._depth_to_rgb()
        return self._transforms.between(depth_frame, rgb_frame, stamp) if given is None else given

    def _explanation(
        self,
        frames: tuple[str, str],
        size: tuple[int, int],
        depth_size: tuple[int, ...],
        problem: str,
    ) -> str:
        unknown = problem or (
            f"there is no transform from '{frames[1]}' to '{frames[0]}', neither in depth_to_rgb "
            "nor in TF (/tf_static, /tf)"
        )
        return (
            f"{self._topics.rgb} is {size[1]}x{size[0]} in frame '{frames[0]}', but "
            f"{self._topics.depth} is {depth_size[1]}x{depth_size[0]} in frame '{frames[1]}', and "
            f"{unknown}. {_REMEDY}"
        )

    def _registration(
        self, camera: Camera, rgb_camera: Camera, pose: Pose, segmenter: Segmenter
    ) -> Callable[[Tensor], Tensor]:
        key = (camera, rgb_camera, pose.tobytes(), segmenter.device)
        if self._made is None or self._made[0] != key:
            made = DepthRegistration(camera, rgb_camera, pose, segmenter.device)
            self._made = (key, replayed(made) if made.never_waits else made)
        return self._made[1]
