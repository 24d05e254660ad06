"""Direction of gravity from an IMU, for models with HHA input."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import Imu

from sgnet_ros.messages.headers import frame_of, stamp_ns
from sgnet_ros.messages.transforms import Pose, StaticTransforms, pose_matrix

_FRESH_NS = 500_000_000
"""Largest time between the stamps of an image and of its orientation."""
_KEPT = 1000  # messages: 2.5 s at 400 Hz


@dataclass(frozen=True)
class Gravity:
    """Direction against gravity at the stamp of a frame.

    Attributes:
        up: unit vector in the color camera's frame; None to estimate it from depth.
        problem: why ``up`` is None.
    """

    up: tuple[float, float, float] | None
    problem: str = ""


class ImuHistory:
    """Keep the latest orientations and find the direction at a stamp, in the camera's frame.

    Args:
        transforms: give the rotation between IMU and camera if ``imu_to_rgb`` returns None.
        imu_to_rgb: returns the pose that the parameter gives, or None.
    """

    def __init__(self, transforms: StaticTransforms, imu_to_rgb: Callable[[], Pose | None]) -> None:
        self._transforms = transforms
        self._imu_to_rgb = imu_to_rgb
        self._messages: deque[Imu] = deque(maxlen=_KEPT)

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def frame(self) -> str | None:
        """Frame of the message received last; None before the first."""
        return frame_of(self._messages[-1].header) if self._messages else None

    def receive(self, message: Imu) -> None:
        """Store a sensor_msgs/Imu; its orientation rotates its frame to a world with z up."""
        self._messages.append(message)

    def at(self, stamp: int, rgb_frame: str) -> Gravity:
        """Return the direction from the message nearest in time.

        As in REP 145, an orientation covariance that begins with -1 means no orientation.

        Args:
            stamp: of the color image, nanoseconds.
            rgb_frame: frame of the color camera.
        """
        nearest = min(  # of equal stamps, the one received last
            reversed(self._messages), key=lambda m: abs(stamp_ns(m.header) - stamp), default=None
        )
        if nearest is None:
            return Gravity(None, "no message on the topic imu")
        distance = abs(stamp_ns(nearest.header) - stamp)
        if distance > _FRESH_NS:
            return Gravity(
                None,
                f"no message on the topic imu within {_FRESH_NS / 1e9:g} s of the image's stamp, "
                f"the nearest is {distance / 1e9:.3g} s away: check that both have the same clock",
            )
        q = nearest.orientation
        world = pose_matrix((0, 0, 0), (q.x, q.y, q.z, q.w))[:3, :3]  # IMU axes to the world
        if nearest.orientation_covariance[0] == -1 or not np.isfinite(world).all():
            return Gravity(
                None,
                "the messages on imu hold no orientation: run imu_filter_madgwick or "
                "imu_complementary_filter on them",
            )
        pose = self._imu_to_rgb()
        if pose is None:
            pose = self._transforms.between(nearest.header.frame_id, rgb_frame, stamp)
        if pose is None:
            frame = frame_of(nearest.header)
            return Gravity(
                None,
                f"neither imu_to_rgb nor TF gives the pose of '{frame}' in '{rgb_frame}'",
            )
        x, y, z = (float(v) for v in pose[:3, :3] @ world[2])
        return Gravity((x, y, z))
