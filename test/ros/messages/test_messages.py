"""The messages of sgnet_msgs carry what their fields say, over the real middleware."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="no ROS 2 here")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sgnet_msgs.msg import ClassMap, FrameStats
from std_msgs.msg import ColorRGBA

from waiting import wait_until

STAGES = ("wait", "convert", "preprocess", "network", "postprocess", "inference", "publish")


@pytest.fixture
def executor() -> Iterator[SingleThreadedExecutor]:
    context = Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    yield executor
    for node in executor.get_nodes():
        node.destroy_node()
    executor.shutdown()
    rclpy.shutdown(context=context)


def add_node(executor: SingleThreadedExecutor, name: str) -> Node:
    node = Node(name, context=executor.context)
    executor.add_node(node)
    return node


def class_map() -> ClassMap:
    message = ClassMap(model="plain_r18", label_set="nyu40", ids=[0, 39], ignore_id=255)
    message.header.frame_id = "camera_color_optical_frame"
    message.names = ["wall", "otherprop"]
    message.colors = [ColorRGBA(r=0.5, g=0.25, b=0.0, a=1.0), ColorRGBA(r=1.0, a=1.0)]
    return message


def test_a_class_map_reaches_a_node_that_starts_after_it_was_published(executor) -> None:
    latched = QoSProfile(
        depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
    )
    publisher = add_node(executor, "early").create_publisher(ClassMap, "class_map", latched)
    publisher.publish(class_map())

    received: list[ClassMap] = []
    add_node(executor, "late").create_subscription(ClassMap, "class_map", received.append, latched)
    wait_until(lambda: received, lambda: executor.spin_once(timeout_sec=0.05))

    assert received == [class_map()]
    assert received[0].colors[0].g == 0.25
    assert list(received[0].ids) == [0, 39]


def test_frame_stats_keep_every_duration_and_counter() -> None:
    message = FrameStats(age_ms=12.5, skew_ms=-3.25, overhead_ms=1.5, drop_causes=["overload"])
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 123_456_789
    for milliseconds, stage in enumerate(STAGES):
        setattr(message, f"{stage}_ms", float(milliseconds))
    message.rgb_received = 2**40
    message.depth_received, message.pairs, message.segmented, message.copies = 4, 3, 2, 1
    message.drops = [2**33]

    back = deserialize_message(serialize_message(message), FrameStats)

    assert back == message
    assert [getattr(back, f"{stage}_ms") for stage in STAGES] == list(range(len(STAGES)))
    assert back.rgb_received == 2**40
    assert (back.drop_causes, list(back.drops)) == (["overload"], [2**33])
