"""The direction of gravity, from an IMU to the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Imu

from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.transforms import StaticTransforms, parse_pose, pose_matrix
from sgnet_ros.node.imu import Gravity, ImuHistory

STAMP = 1_000_000_000_000


def imu(*quaternion: float, stamp_ns: int = STAMP) -> Imu:
    message = Imu()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = "imu_link"
    q = message.orientation
    q.x, q.y, q.z, q.w = quaternion
    return message


def test_a_level_camera_has_up_against_its_y_axis() -> None:
    # IMU axes as a body's (x forward, y left, z up), the camera's x right, y down, z forward
    history = ImuHistory(StaticTransforms(), lambda: parse_pose("0 0 0 0.5 -0.5 0.5 0.5"))
    history.receive(imu(0.0, 0.0, 0.0, 1.0))
    np.testing.assert_allclose(history.at(STAMP, "camera").up, [0, -1, 0], atol=1e-12)
    half = np.deg2rad(30) / 2  # nose down by 30°
    history.receive(imu(0.0, np.sin(half), 0.0, np.cos(half)))
    expected = [0, -np.cos(np.deg2rad(30)), -np.sin(np.deg2rad(30))]
    np.testing.assert_allclose(history.at(STAMP, "camera").up, expected, atol=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8))
def test_up_is_the_worlds_z_axis_seen_from_the_camera(numbers: list[float]) -> None:
    body, mount = np.array(numbers[:4]), np.array(numbers[4:])
    if min(np.linalg.norm(body), np.linalg.norm(mount)) < 0.1:
        return
    pose = pose_matrix((1, 2, 3), mount)
    history = ImuHistory(StaticTransforms(), lambda: pose)
    history.receive(imu(*body))
    up = np.array(history.at(STAMP, "camera").up)
    assert np.linalg.norm(up) == pytest.approx(1)
    in_imu = pose[:3, :3].T @ up
    world = pose_matrix((0, 0, 0), body)[:3, :3] @ in_imu
    np.testing.assert_allclose(world, [0, 0, 1], atol=1e-9)


def test_the_orientation_nearest_in_time_is_taken() -> None:
    history = ImuHistory(StaticTransforms(), lambda: np.eye(4))
    for index, angle in enumerate((0.0, 0.1, 0.2, 0.3)):
        half = angle / 2
        history.receive(imu(np.sin(half), 0.0, 0.0, np.cos(half), stamp_ns=STAMP + index * 10**8))
    for stamp_ns, angle in ((STAMP - 10**8, 0.0), (STAMP + 14 * 10**7, 0.1), (STAMP + 10**9, None)):
        up = history.at(stamp_ns, "camera").up
        if angle is None:
            assert up is None
        else:
            np.testing.assert_allclose(up, [0, np.sin(angle), np.cos(angle)], atol=1e-12)


def test_an_unknown_direction_comes_with_the_reason() -> None:
    history = ImuHistory(StaticTransforms(), lambda: None)
    unknown = imu(0.0, 0.0, 0.0, 1.0)
    unknown.orientation_covariance[0] = -1.0
    problems = [history.at(STAMP, "camera")]
    for message in (imu(0.0, 0.0, 0.0, 1.0, stamp_ns=STAMP - 3 * 10**9), imu(0.0, 0.0, 0.0, 1.0)):
        history.receive(message)
        problems.append(history.at(STAMP, "camera"))
    for message in (unknown, imu(0.0, 0.0, 0.0, 0.0)):
        history = ImuHistory(StaticTransforms(), lambda: None)
        history.receive(message)
        problems.append(history.at(STAMP, "camera"))
    words = (
        *("no message on the topic imu", "the nearest is 3 s away"),
        *("pose of 'imu_link' in 'camera'", "hold no orientation", "hold no orientation"),
    )
    for gravity, expected in zip(problems, words, strict=True):
        assert gravity.up is None
        assert expected in gravity.problem


def test_transforms_of_frames_with_a_slash_are_found() -> None:
    transforms = StaticTransforms()
    stamped = TransformStamped(child_frame_id="/imu_link")
    stamped.header.frame_id = "/camera"
    stamped.transform.rotation.w = 1.0
    transforms.add([stamped])
    history = ImuHistory(transforms, lambda: None)
    history.receive(imu(0.0, 0.0, 0.0, 1.0))
    assert history.at(STAMP, "camera") == Gravity((0.0, 0.0, 1.0))


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
    history = running.node._active.inputs.imu

    def heard() -> int:
        publisher.publish(imu(0.0, 0.0, 0.0, 1.0, stamp_ns=robot.next_stamp()))
        return len(history)

    robot.spin_until(heard)
    robot.info.publish(scene.camera_info())
    robot.send_until(lambda: robot.labels, scene.messages())
    heard()
    robot.labels.clear()
    robot.send_until(lambda: robot.labels, scene.messages())
    assert any(up is not None and np.allclose(up, [0, -1, 0]) for up in given_up)
