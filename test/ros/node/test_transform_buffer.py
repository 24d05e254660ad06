"""Poses at a stamp, from /tf_static and /tf by tf2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import Imu

from robots import pixels
from sgnet_ros.node import transform_buffer
from sgnet_ros.node.imu import ImuHistory
from sgnet_ros.node.transform_buffer import TransformBuffer

needs_tf2 = pytest.mark.skipif(
    transform_buffer.tf2_py is None, reason="tf2_py is not among the ROS 2 wheels"
)
SECOND = 10**9


def edge(parent: str, child: str, x: float = 0.0, roll: float = 0.0, at: int = 0) -> Any:
    stamped = TransformStamped(child_frame_id=child)
    stamped.header.frame_id = parent
    stamped.header.stamp.sec, stamped.header.stamp.nanosec = divmod(at, SECOND)
    stamped.transform.translation.x = x
    stamped.transform.rotation.x = math.sin(roll / 2)
    stamped.transform.rotation.w = math.cos(roll / 2)
    return stamped


def x_at(buffer: TransformBuffer, stamp: int, source: str = "camera") -> float | None:
    pose = buffer.between(source, "base", stamp)
    return None if pose is None else float(pose[0, 3])


def test_without_tf2_static_poses_are_known_and_tf_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transform_buffer, "tf2_py", None)
    buffer = TransformBuffer()
    buffer.add([edge("base", "camera", 2.0)])
    buffer.add_moving([edge("base", "imu", 3.0, at=100 * SECOND)])
    assert x_at(buffer, 100 * SECOND) == 2
    assert x_at(buffer, 100 * SECOND, "imu") is None
    assert not buffer.wants_moving


@needs_tf2
def test_moving_poses_are_interpolated_at_the_stamp() -> None:
    buffer = TransformBuffer()
    buffer.add([edge("head", "camera", 1.0)])
    assert not buffer.wants_moving
    for second in (100, 101, 102):
        buffer.add_moving([edge("base", "head", float(second), at=second * SECOND)])
    assert x_at(buffer, 100 * SECOND) == pytest.approx(101)
    assert x_at(buffer, 101 * SECOND + SECOND // 4) == pytest.approx(102.25)
    assert buffer.wants_moving
    assert x_at(buffer, 102 * SECOND + SECOND // 4) == pytest.approx(103), "the newest, not older"
    assert x_at(buffer, 103 * SECOND) is None, "too old by then"
    assert x_at(buffer, 99 * SECOND) is None, "nothing is known of the time before"
    assert buffer.between("camera", "elsewhere", 100 * SECOND) is None
    pose = buffer.between("/base", "/camera", 101 * SECOND)
    assert pose is not None and pose[0, 3] == pytest.approx(-102)


@needs_tf2
def test_a_jump_back_in_time_clears_moving_poses_and_keeps_static_ones() -> None:
    buffer = TransformBuffer()
    for child, x in (("/camera", 1.0), ("camera", 2.0), ("/camera", 1.0)):  # one frame
        buffer.add([edge("head", child, x)])
    buffer.add_moving([edge("base", "head", 5.0, at=1000 * SECOND)])
    assert x_at(buffer, 1000 * SECOND) == pytest.approx(6)
    buffer.add_moving([edge("base", "head", 7.0, at=10 * SECOND)])
    assert x_at(buffer, 10 * SECOND) == pytest.approx(8)


@needs_tf2
def test_a_frame_with_wrong_stamps_leaves_the_others_alone() -> None:
    buffer = TransformBuffer()
    for second in (100, 101):
        buffer.add_moving([edge("base", "camera", float(second), at=second * SECOND)])
        buffer.add_moving([edge("base", "wheel"), edge("base", "arm", at=5000 * SECOND)])
    assert x_at(buffer, 100 * SECOND + SECOND // 2) == pytest.approx(100.5)


@needs_tf2
@pytest.mark.parametrize(
    ("stamp", "behind"), [(99.0, False), (101.5, False), (102.2, True), (102.7, False)]
)
def test_a_pose_is_awaited_if_it_may_still_come(stamp: float, behind: bool) -> None:
    buffer = TransformBuffer()
    assert not buffer.is_behind("camera", "base", round(stamp * SECOND))
    for second in (100, 101, 102):
        buffer.add_moving([edge("base", "camera", at=second * SECOND)])
    assert buffer.is_behind("camera", "base", round(stamp * SECOND)) == behind
    buffer.add([edge("base", "fixed")])
    assert not buffer.is_behind("fixed", "base", round(stamp * SECOND))


@needs_tf2
def test_gravity_is_seen_from_a_camera_that_moves_on_the_robot() -> None:
    """A camera that rolls about x, as of the image's stamp and not the latest."""
    buffer = TransformBuffer()
    for second, roll in ((100, 0.0), (101, 0.5), (102, 1.0)):
        buffer.add_moving([edge("imu_link", "camera", roll=roll, at=second * SECOND)])
    history = ImuHistory(buffer, lambda: None)
    message = Imu()
    message.header.frame_id = "imu_link"
    message.orientation.w = 1.0
    message.header.stamp.sec = 101
    history.receive(message)
    gravity = history.at(101 * SECOND, "camera")
    expected = [0.0, math.sin(0.5), math.cos(0.5)]
    np.testing.assert_allclose(gravity.up, expected, atol=1e-9)


@needs_tf2
def test_the_node_listens_to_tf_once_it_needs_it(
    run_node: Any, robot: Any, scene: Any, segmenters: Any
) -> None:
    from tf2_msgs.msg import TFMessage

    running = run_node("depth")
    moving = robot.create_publisher(TFMessage, "/tf", 10)
    robot.connect(scene.messages())
    robot.spin_for(1.0)
    assert moving.get_subscription_count() == 0, "registered depth needs no pose"
    rgb, depth = scene.messages()
    depth.header.frame_id = "depth_camera"
    info = scene.camera_info()
    depth_info = scene.camera_info()
    depth_info.header.frame_id = "depth_camera"
    infos = robot.create_publisher(type(info), "depth/camera_info", 10)

    def labeled() -> bool:
        robot.info.publish(info)
        infos.publish(depth_info)
        stamp = robot.next_stamp()
        for at in (stamp - SECOND // 20, stamp + SECOND // 20):
            moving.publish(TFMessage(transforms=[edge(scene.frame_id, "depth_camera", at=at)]))
        robot.spin_for(0.1)
        robot.send(rgb, depth, stamp)
        robot.spin_for(0.2)
        return bool(robot.labels)

    robot.spin_until(labeled)
    expected = segmenters["depth"].segment(scene.rgb, scene.depth).labels
    # the pose is the identity: registration moves nothing
    assert (pixels(robot.labels[-1]) == expected).mean() > 0.95
    running.stop()
