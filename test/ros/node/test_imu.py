"""The direction of gravity, from an IMU to the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Imu

from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.transforms import StaticTransforms, parse_pose, pose_matrix
from sgnet_ros.node.imu import Gravity


class Log:
    """Stands for a node: keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def get_logger(self) -> Log:
        return self

    def warning(self, text: str) -> None:
        self.lines.append(text)


def imu(*quaternion: float) -> Imu:
    message = Imu()
    message.header.frame_id = "imu_link"
    q = message.orientation
    q.x, q.y, q.z, q.w = quaternion
    return message


def test_a_level_camera_has_up_against_its_y_axis() -> None:
    # IMU axes as a body's (x forward, y left, z up), the camera's x right, y down, z forward
    gravity = Gravity(Log(), StaticTransforms(), lambda: parse_pose("0 0 0 0.5 -0.5 0.5 0.5"))
    gravity.receive(imu(0.0, 0.0, 0.0, 1.0))
    np.testing.assert_allclose(gravity.up("camera"), [0, -1, 0], atol=1e-12)
    half = np.deg2rad(30) / 2  # nose down by 30°
    gravity.receive(imu(0.0, np.sin(half), 0.0, np.cos(half)))
    expected = [0, -np.cos(np.deg2rad(30)), -np.sin(np.deg2rad(30))]
    np.testing.assert_allclose(gravity.up("camera"), expected, atol=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8))
def test_up_is_the_worlds_z_axis_seen_from_the_camera(numbers: list[float]) -> None:
    body, mount = np.array(numbers[:4]), np.array(numbers[4:])
    if min(np.linalg.norm(body), np.linalg.norm(mount)) < 0.1:
        return
    pose = pose_matrix((1, 2, 3), mount)
    gravity = Gravity(Log(), StaticTransforms(), lambda: pose)
    gravity.receive(imu(*body))
    up = np.array(gravity.up("camera"))
    assert np.linalg.norm(up) == pytest.approx(1)
    in_imu = pose[:3, :3].T @ up
    world = pose_matrix((0, 0, 0), body)[:3, :3] @ in_imu
    np.testing.assert_allclose(world, [0, 0, 1], atol=1e-9)


def test_without_a_direction_it_is_left_to_be_estimated_and_said_once() -> None:
    now, log = [0.0], Log()
    gravity = Gravity(log, StaticTransforms(), lambda: None, lambda: now[0])
    assert gravity.up("camera") is None
    gravity.receive(imu(0.0, 0.0, 0.0, 1.0))
    assert gravity.up("camera") is None
    unknown = imu(0.0, 0.0, 0.0, 1.0)
    unknown.orientation_covariance[0] = -1.0
    for message in (unknown, unknown, imu(0.0, 0.0, 0.0, 0.0)):
        gravity.receive(message)
        assert gravity.up("camera") is None
    gravity.receive(imu(0.0, 0.0, 0.0, 1.0))
    now[0] = 1.0
    assert gravity.up("camera") is None
    assert [
        words
        for line in log.lines
        for words in ("no message", "how 'imu_link'", "hold no")
        if words in line
    ] == [
        "no message",
        "how 'imu_link'",
        "hold no",
    ]


def test_the_network_gets_the_direction_of_the_topic(
    run_node: Any, robot: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[Any] = []
    segment = Segmenter.segment

    def spy(self: Segmenter, *args: Any, up: Any = None, **kwargs: Any) -> Any:
        given_up.append(up)
        return segment(self, *args, up=up, **kwargs)

    monkeypatch.setattr(Segmenter, "segment", spy)
    running = run_node("hha", use_imu=True, imu_to_rgb="0 0 0 0.5 -0.5 0.5 0.5")
    publisher = robot.create_publisher(Imu, "imu", 10)
    gravity = running.node._active.processor.gravity

    def heard() -> bool:
        publisher.publish(imu(0.0, 0.0, 0.0, 1.0))
        return gravity._last is not None

    robot.spin_until(heard)
    robot.info.publish(scene.camera_info())
    robot.send_until(lambda: robot.labels, scene.messages())
    heard()
    robot.labels.clear()
    robot.send_until(lambda: robot.labels, scene.messages())
    assert any(up is not None and np.allclose(up, [0, -1, 0]) for up in given_up)
