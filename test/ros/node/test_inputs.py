"""Subscriptions of an active node and the frames made from their messages, without a model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.parameter import Parameter
from rclpy.qos import QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, Imu

from robots import stamped
from sgnet_ros.node import inputs
from sgnet_ros.node.frame import Frame
from sgnet_ros.node.inputs import Inputs
from sgnet_ros.node.parameters import Settings
from sgnet_ros.system.qos import latched
from waiting import wait_until

SECOND = 10**9
WaitSet = rclpy_implementation.WaitSet


class Listener:
    """Inputs of a node, a camera that publishes to it, and the frames that came."""

    def __init__(self, settings: Settings, *overrides: Parameter) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.camera = rclpy.create_node("camera", context=self.context)
        self.rgb = self.camera.create_publisher(Image, "rgb/image_raw", 10)
        self.depth = self.camera.create_publisher(Image, "depth/image_raw", 10)
        self.node = rclpy.create_node(
            "sgnet", context=self.context, parameter_overrides=list(overrides)
        )
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.camera)
        self.executor.add_node(self.node)
        self.frames: list[Frame] = []
        self.settings = settings

    def listen(self) -> Inputs:
        self.inputs = Inputs(self.node, lambda: self.settings, self.frames.append, pytest.fail)
        return self.inputs

    def spin_until(self, done: Callable[[], Any]) -> None:
        wait_until(done, lambda: self.executor.spin_once(timeout_sec=0.05))

    def send(self, stamp_ns: int) -> Frame:
        """Publish a pair until its frame is there."""
        self.frames.clear()
        messages = stamped(Image(), stamp_ns), stamped(Image(), stamp_ns)
        self.spin_until(lambda: self.rgb.get_subscription_count())
        self.spin_until(lambda: self.depth.get_subscription_count())

        def publish() -> None:
            self.rgb.publish(messages[0])
            self.depth.publish(messages[1])
            for _ in range(10):
                self.executor.spin_once(timeout_sec=0.05)

        return wait_until(lambda: self.frames, publish)[0]

    def holds(self, count: int) -> bool:
        """Return whether messages wait in ``count`` of the node's subscriptions."""
        found = list(self.node.subscriptions)
        waiting = WaitSet(len(found), 0, 0, 0, 0, 0, self.context.handle)
        with waiting:
            for subscription in found:
                waiting.add_subscription(subscription.handle)
            waiting.wait(0)
            return len(waiting.get_ready_entities("subscription")) >= count

    def close(self) -> None:
        self.inputs.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.camera.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def start() -> Iterator[Callable[..., Listener]]:
    started: list[Listener] = []

    def start(*overrides: Parameter, **settings: Any) -> Listener:
        started.append(Listener(Settings(**settings), *overrides))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_a_calibration_that_was_published_once_before_the_node_is_received(start: Any) -> None:
    listener = start()
    info = listener.camera.create_publisher(CameraInfo, "rgb/camera_info", latched())
    info.publish(CameraInfo(width=7, k=[5.0, *[0.0] * 8]))
    received = listener.listen()
    listener.spin_until(lambda: received.rgb_infos.newest)
    assert received.rgb_infos.newest.width == 7
    assert received.depth_infos.newest is None


def test_a_volatile_publisher_gets_one_subscription_that_fits(start: Any) -> None:
    listener = start()
    info = listener.camera.create_publisher(CameraInfo, "rgb/camera_info", 10)
    received = listener.listen()
    listener.spin_until(lambda: info.get_subscription_count())
    received._subscribe_to_latched_infos()
    assert len(listener.node.get_subscriptions_info_by_topic("/rgb/camera_info")) == 1
    info.publish(CameraInfo(width=9, k=[5.0, *[0.0] * 8]))
    listener.spin_until(lambda: received.rgb_infos.newest)


def test_a_frame_has_calibrations_and_gravity_at_its_stamp(start: Any) -> None:
    listener = start(use_imu=True, imu_to_rgb="0 0 0 0 0 0 1")
    received = listener.listen()
    for second, focal in ((1, 10.0), (2, 20.0), (3, 30.0)):
        info = stamped(CameraInfo(k=[focal, *[0.0] * 8]), second * SECOND)
        received.rgb_infos.receive(info)
        received.depth_infos.receive(info)
        imu = stamped(Imu(), second * SECOND)
        imu.orientation.w = 1.0 if second == 2 else 0.0
        received.imu.receive(imu)
    frame = listener.send(2 * SECOND + 1)
    assert frame.camera_info.k[0] == frame.depth_info.k[0] == 20.0
    assert frame.gravity.up == (0.0, 0.0, 1.0)
    assert (frame.pair.rgb_ns, frame.pair.depth_ns) == (2 * SECOND + 1,) * 2
    with pytest.raises(AttributeError):
        frame.camera_info = None


def test_messages_that_arrive_with_the_images_are_used_for_their_frame(start: Any) -> None:
    """As after a pause of the executor: everything waits in its queue."""
    listener = start(use_imu=True, imu_to_rgb="0 0 0 0 0 0 1")
    camera, topics = listener.camera, ("rgb/camera_info", "depth/camera_info")
    infos = [camera.create_publisher(CameraInfo, topic, 10) for topic in topics]
    orientation = camera.create_publisher(Imu, "imu", 10)
    listener.listen()
    publishers = [listener.rgb, listener.depth, *infos, orientation]
    listener.spin_until(lambda: all(p.get_subscription_count() for p in publishers))
    first = listener.send(SECOND)  # both sides know each other
    listener.frames.clear()
    imu = stamped(Imu(), 2 * SECOND)
    imu.orientation.w = 1.0
    calibration = stamped(CameraInfo(k=[5.0, *[0.0] * 8]), 2 * SECOND)
    messages = [stamped(Image(), 2 * SECOND)] * 2 + [calibration] * 2 + [imu]
    for publisher, message in zip(publishers, messages, strict=True):
        publisher.publish(message)
    wait_until(lambda: listener.holds(len(publishers)))  # they arrive, and nobody spins
    listener.spin_until(lambda: listener.frames)
    (frame,) = listener.frames
    assert first.camera_info is None
    assert frame.camera_info.k[0] == frame.depth_info.k[0] == 5.0
    assert frame.gravity.up == (0.0, 0.0, 1.0)


def test_without_calibration_and_imu_a_frame_has_none(start: Any) -> None:
    listener = start()
    listener.listen()
    frame = listener.send(5 * SECOND)
    assert (frame.camera_info, frame.depth_info, frame.gravity) == (None, None, None)


def test_an_imu_that_says_nothing_is_named(start: Any) -> None:
    listener = start(use_imu=True)
    listener.listen()
    assert "no message on the topic imu" in listener.send(5 * SECOND).gravity.problem


def test_pairs_wait_for_a_pose_in_order_and_for_a_limited_time(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = start(queue_size=2)
    made = listener.listen()
    poses_until = 0
    monkeypatch.setattr(
        made.transforms, "is_behind", lambda source, target, stamp: stamp > poses_until
    )
    monkeypatch.setattr(inputs, "_HOLD_S", 1000.0)
    depth = Image()
    depth.header.frame_id = "depth_camera"

    def pair(number: int) -> None:
        made._on_pair(stamped(Image(), number), stamped(copy.deepcopy(depth), number))

    def passed_on() -> list[int]:
        return [frame.pair.rgb_ns for frame in listener.frames]

    for number in (1, 2):
        pair(number)
    made._pass_on()
    assert passed_on() == []
    poses_until = 1
    made._pass_on()
    assert passed_on() == [1]
    for number in (3, 4):  # more than queue_size
        pair(number)
    assert passed_on() == [1, 2]
    monkeypatch.setattr(inputs, "_HOLD_S", 0.01)
    listener.spin_until(lambda: passed_on() == [1, 2, 3, 4])
    monkeypatch.setattr(inputs, "_HOLD_S", 1000.0)
    pair(5)
    made.close()
    assert passed_on() == [1, 2, 3, 4, 5]
    listener.listen()


def test_the_quality_of_service_can_be_overridden(start: Any) -> None:
    override = Parameter("qos_overrides./rgb/image_raw.subscription.reliability", value="reliable")
    listener = start(override, use_imu=True)
    listener.listen()
    found = {
        topic: listener.node.get_subscriptions_info_by_topic(topic)[0].qos_profile.reliability
        for topic in ("/rgb/image_raw", "/depth/image_raw")
    }
    assert found == {
        "/rgb/image_raw": QoSReliabilityPolicy.RELIABLE,
        "/depth/image_raw": QoSReliabilityPolicy.BEST_EFFORT,
    }
    topics = ["/rgb/camera_info", "/depth/camera_info", "/imu"]
    if inputs.TFMessage is not None:
        topics.append("/tf_static")
        assert listener.inputs.transforms.between("arm", "camera") is None
        listener.inputs._subscribe_to_moving()
        topics += ["/tf"] * listener.inputs.transforms.wants_moving
    for topic in topics:
        assert listener.node.has_parameter(f"qos_overrides.{topic}.subscription.depth")
    listener.inputs.close()
    listener.listen()  # again, as after a deactivation


def test_closed_inputs_have_no_subscription(start: Any) -> None:
    listener = start(use_imu=True)
    before = {s.topic_name for s in listener.node.subscriptions}
    listener.listen().close()
    assert {s.topic_name for s in listener.node.subscriptions} == before
    listener.inputs = SimpleNamespace(close=lambda: None)
