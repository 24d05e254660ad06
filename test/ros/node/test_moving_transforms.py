"""A camera that moves on the robot: poses at the image's stamp, from /tf as tf2_ros sends it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, Imu

from robots import Scene, pixels, say_each_once, stamped
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.camera_model import camera_of
from sgnet_ros.messages.transforms import pose_matrix
from sgnet_ros.node import inputs

tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not among the ROS 2 wheels")

SECOND = 10**9
STEP = SECOND // 20  # between poses on /tf
OPTICAL = (0.5, -0.5, 0.5, -0.5)  # w x y z: from x forward, y left to x right, y down


def pitch_at(stamp: int) -> float:
    """Return the camera's pitch in rad: it nods by ±0.4, fastest at the multiples of 0.8 s."""
    return 0.4 * math.sin(2 * math.pi * (stamp % (1600 * 10**6)) / 1.6e9)


def up_at(stamp: int) -> list[float]:
    """Return the direction against gravity in the optical frame of the camera."""
    return [0.0, -math.cos(pitch_at(stamp)), -math.sin(pitch_at(stamp))]


def product(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    """Return the product of two quaternions w x y z."""
    (w, x, y, z), (s, i, j, k) = a, b
    return (
        w * s - x * i - y * j - z * k,
        w * i + x * s + y * k - z * j,
        w * j - x * k + y * s + z * i,
        w * k + x * j - y * i + z * s,
    )


class Head:
    """A level body with an IMU, and on it a nodding camera whose pose goes out on /tf."""

    def __init__(self, robot: Any, scene: Any, ups: list[Any]) -> None:
        self.robot, self.scene, self.ups = robot, scene, ups
        self._broadcaster = tf2_ros.TransformBroadcaster(robot)
        self._imu = robot.create_publisher(Imu, "imu", 10)
        self.depth_info = robot.create_publisher(CameraInfo, "depth/camera_info", 10)

    def attend(self, node: Any) -> None:
        """Look at what a node receives."""
        self.inputs = node._active.inputs
        self.node = node

    def move(self, *stamps: int) -> None:
        """Publish the camera's pose at some stamps, and wait until the node has them."""
        for stamp in stamps:
            message = stamped(TransformStamped(), stamp, "imu_link")
            message.child_frame_id = self.scene.frame_id
            half = pitch_at(stamp) / 2
            q = message.transform.rotation
            q.w, q.x, q.y, q.z = product((math.cos(half), 0.0, math.sin(half), 0.0), OPTICAL)
            self.send_pose(message)

    def send_pose(self, message: TransformStamped) -> None:
        stamp = message.header.stamp.sec * SECOND + message.header.stamp.nanosec
        self._broadcaster.sendTransform(message)
        newest = self.inputs.transforms._newest
        self.robot.spin_until(lambda: newest.get(message.child_frame_id) == stamp)

    def send(self, stamp: int, depth: Any = None) -> None:
        """Publish a frame after the IMU's message of its stamp."""
        message = stamped(Imu(), stamp, "imu_link")
        message.orientation.w = 1.0
        heard = len(self.inputs.imu)
        self._imu.publish(message)
        self.robot.spin_until(lambda: len(self.inputs.imu) > heard)
        rgb, registered = self.scene.messages()
        self.robot.send(rgb, registered if depth is None else depth, stamp)

    def expect(self, *stamps: int) -> None:
        """Wait for frames whose gravity is that of the stamps."""
        self.robot.spin_until(lambda: len(self.robot.labels) >= len(stamps))
        assert len(self.ups) == len(stamps)
        np.testing.assert_allclose(self.ups, [up_at(s) for s in stamps], atol=3e-3)

    def labels(self, depth: Any, up: Any) -> np.ndarray:
        """Return the labels of the scene with a depth image and a direction of gravity."""
        info = self.scene.camera_info()
        camera = camera_of(info, info.width, info.height).pinhole
        return self.segmenter.segment(self.scene.rgb, depth, camera, up=up).labels


@pytest.fixture(scope="module")
def running_head(run_node: Any, shared_robot: Any, segmenters: Any) -> Iterator[Head]:
    """Yield the head of a robot whose node listens to /tf, after it has said that none came."""
    ups: list[Any] = []
    segment = Segmenter.segment

    def spy(self: Segmenter, *args: Any, up: Any = None, **kwargs: Any) -> Any:
        if self is not head.segmenter:
            ups.append(up)
        return segment(self, *args, up=up, **kwargs)

    robot, head = shared_robot, Head(shared_robot, Scene(), ups)
    head.segmenter = segmenters["hha"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "segment", spy)
        node = run_node("hha", use_imu=True).node
        head.attend(node)
        robot.spin_until(head._imu.get_subscription_count)
        robot.info.publish(head.scene.camera_info())
        robot.connect(head.scene.messages())
        head.send(robot.next_stamp())
        robot.spin_until(head._broadcaster.pub_tf.get_subscription_count)
        robot.spin_for(0.2)
        yield head


@pytest.fixture
def head(running_head: Head, robot: Any, monkeypatch: pytest.MonkeyPatch) -> Head:
    """Return the head at a time of which /tf says nothing yet; frames wait for poses."""
    monkeypatch.setattr(inputs, "_HOLD_S", 1000.0)
    running_head.ups.clear()
    return running_head


@pytest.fixture
def begin(robot: Any) -> int:
    """Return a stamp, 16 s or more after that of the last test, at which the camera nods fast."""
    robot._stamp_ns = (robot._stamp_ns // (16 * SECOND) + 2) * 16 * SECOND
    return robot._stamp_ns


def test_without_tf_gravity_is_estimated_and_the_reason_is_logged(
    running_head: Head, robot: Any, begin: int
) -> None:
    say_each_once(running_head.node)
    running_head.ups.clear()
    running_head.send(begin)
    robot.spin_until(lambda: robot.labels)
    assert running_head.ups == [None]
    words = "neither imu_to_rgb nor TF gives the pose of 'imu_link' in 'camera_color_optical_frame'"
    robot.spin_until(lambda: [m for m in robot.log if words in m.msg])


def test_poses_from_before_and_after_the_stamp_are_interpolated(
    head: Head, robot: Any, begin: int
) -> None:
    """The labels are those with gravity at the stamp, and not those with the newest pose."""
    head.move(*(begin + number * STEP for number in range(-3, 6)))
    stamp = begin + STEP // 3
    head.send(stamp)
    head.expect(stamp)
    labels = pixels(robot.labels[0])
    np.testing.assert_array_equal(labels, head.labels(head.scene.depth, head.ups[0]))
    newest = head.labels(head.scene.depth, up_at(begin + 5 * STEP))
    assert not np.array_equal(labels, newest)


def test_a_frame_waits_for_a_pose_that_comes_later(head: Head, robot: Any, begin: int) -> None:
    stamps = begin + STEP // 3, begin + STEP + STEP // 3
    head.move(begin - STEP, begin)
    for stamp in stamps:
        head.send(stamp)
    robot.spin_for(0.5)
    assert head.ups == [], "the newest pose is not yet that of the stamp"
    head.move(begin + STEP)
    head.expect(stamps[0])
    head.move(begin + 2 * STEP)
    head.expect(*stamps)
    assert robot.stats[0].wait_ms > 500


def test_the_newest_pose_is_used_if_none_arrives_in_time(
    head: Head, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_HOLD_S", 0.2)
    head.move(begin - STEP, begin)
    head.send(begin + STEP // 3)
    head.expect(begin)


def test_an_old_pose_is_not_used(head: Head, robot: Any, begin: int) -> None:
    head.move(begin - STEP, begin)
    head.send(begin + SECOND)
    robot.spin_until(lambda: robot.labels)
    assert head.ups == [None]


def test_depth_is_registered_with_the_pose_at_its_stamp(head: Head, robot: Any, begin: int) -> None:
    """A depth camera that moves to the right of the color camera by 1 m/s."""
    info = head.scene.camera_info()
    info.header.frame_id = "depth_camera"
    head.depth_info.publish(info)
    robot.spin_until(lambda: head.inputs.depth_infos.newest)
    depth = head.scene.messages()[1]
    depth.header.frame_id = "depth_camera"
    stamp = begin + STEP // 4
    head.move(begin - STEP, begin, begin + STEP)
    for at in (begin, begin + STEP, begin + 4 * STEP):
        message = stamped(TransformStamped(), at, head.scene.frame_id)
        message.child_frame_id = "depth_camera"
        message.transform.translation.x = (at - begin) / SECOND
        message.transform.rotation.w = 1.0
        head.send_pose(message)
    head.send(stamp, depth)
    head.expect(stamp)

    def registered(x: float) -> np.ndarray:
        camera = camera_of(info, info.width, info.height)
        pose = pose_matrix((x, 0, 0), (0, 0, 0, 1))
        meters = torch.from_numpy(head.scene.depth.astype(np.float32) * 0.001)
        return head.labels(DepthRegistration(camera, camera, pose)(meters), head.ups[0])

    labels = pixels(robot.labels[0])
    np.testing.assert_array_equal(labels, registered(0.0125))
    assert not np.array_equal(labels, registered(0.2)), "the newest pose"
