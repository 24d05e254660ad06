"""Which way is up, from an IMU, for models steered by HHA."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Imu

from sgnet_ros.messages.transforms import Pose, StaticTransforms, pose_matrix
from sgnet_ros.system.throttle import Throttle

_FRESH_S = 0.5


class Gravity:
    """Keeps the last orientation and turns it into the camera's frame.

    Where there is none, or it is older than half a second, the direction is left to be estimated
    from the depth, and the log says why.

    Args:
        node: for its log.
        transforms: give the rotation between IMU and camera if the parameter doesn't.
        imu_to_rgb: gives the pose of the parameter, or None.
        clock: seconds.
    """

    def __init__(
        self,
        node: Node,
        transforms: StaticTransforms,
        imu_to_rgb: Callable[[], Pose | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._transforms = transforms
        self._imu_to_rgb = imu_to_rgb
        self._clock = clock
        self._throttle = Throttle(interval_s=60.0, clock=clock)
        self._last: tuple[Imu, float] | None = None

    def receive(self, message: Imu) -> None:
        """Takes a sensor_msgs/Imu: ``orientation`` is its frame's in a world whose z is up."""
        self._last = (message, self._clock())

    def up(self, rgb_frame: str) -> tuple[float, float, float] | None:
        """Unit vector against gravity in the colour camera's frame; None to estimate it.

        Orientation as in REP 145: a covariance that begins with -1 means that there is none.
        """
        up, problem = self._find(rgb_frame)
        if up is None and self._throttle.passes(problem):
            text = f"direction of gravity is estimated from depth: {problem}"
            self._node.get_logger().warning(text)
        return up

    def _find(self, rgb_frame: str) -> tuple[tuple[float, float, float] | None, str]:
        """The vector, or None and why."""
        if self._last is None or self._clock() - self._last[1] > _FRESH_S:
            return None, "no message on the topic imu for half a second"
        message = self._last[0]
        q = message.orientation
        world = pose_matrix((0, 0, 0), (q.x, q.y, q.z, q.w))[:3, :3]  # takes IMU axes to the world
        if message.orientation_covariance[0] == -1 or not np.isfinite(world).all():
            return None, (
                "the messages on imu hold no orientation: run imu_filter_madgwick or "
                "imu_complementary_filter on them"
            )
        frame, pose = message.header.frame_id, self._imu_to_rgb()
        if pose is None:
            pose = self._transforms.between(frame, rgb_frame)
        if pose is None:
            return None, (
                f"neither imu_to_rgb nor /tf_static tells how '{frame}' stands to '{rgb_frame}'"
            )
        x, y, z = (float(v) for v in pose[:3, :3] @ world[2])
        return (x, y, z), ""
