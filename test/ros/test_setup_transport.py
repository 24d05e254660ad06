"""With the shipped profile no image is lost between the processes of one machine.

Run as a program this file is the camera process of its test: `test_setup_transport.py N HZ`.
"""

from __future__ import annotations

import array
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from sgnet_ros.environment import share_file

pytest.importorskip("rclpy", reason="no ROS 2 here")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

WIDTH, HEIGHT = 640, 480
FRAMES, RATE_HZ = 120, 30.0
BYTES_PER_PIXEL = {"rgb8": 3, "16UC1": 2}
# Deep enough that a busy machine's scheduler is not what gets measured.
BEST_EFFORT = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)


def image(encoding: str) -> Image:
    step = WIDTH * BYTES_PER_PIXEL[encoding]
    message = Image(width=WIDTH, height=HEIGHT, step=step, encoding=encoding)
    message.data = array.array("B", bytes(range(256)) * (step * HEIGHT // 256))
    return message


def publish(frames: int, rate_hz: float) -> None:
    """Publishes RGB-D pairs; the pair's number is in the stamp and in the first byte."""
    rclpy.init()
    node = rclpy.create_node("transport_camera")
    messages = {encoding: image(encoding) for encoding in BYTES_PER_PIXEL}
    publishers = {
        encoding: node.create_publisher(Image, f"transport/image_{encoding}", BEST_EFFORT)
        for encoding in messages
    }
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        time.sleep(0.02)
    time.sleep(0.5)  # the other direction of discovery
    start = time.monotonic()
    for number in range(frames):
        time.sleep(max(0.0, start + number / rate_hz - time.monotonic()))
        for encoding, message in messages.items():
            message.header.stamp.sec = number
            message.data[0] = number
            publishers[encoding].publish(message)
    time.sleep(0.5)
    node.destroy_node()
    rclpy.shutdown()


def test_every_vga_pair_at_30_hz_arrives_best_effort_from_another_process() -> None:
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("transport_observer", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    received: dict[str, list[int]] = {encoding: [] for encoding in BYTES_PER_PIXEL}
    damaged: list[str] = []

    def on_image(message: Image) -> None:
        expected = image(message.encoding)
        expected.data[0] = message.header.stamp.sec
        if message.data != expected.data:
            damaged.append(f"{message.encoding} {message.header.stamp.sec}")
        received[message.encoding].append(message.header.stamp.sec)

    for encoding in received:
        node.create_subscription(Image, f"transport/image_{encoding}", on_image, BEST_EFFORT)
    camera = subprocess.Popen([sys.executable, __file__, str(FRAMES), str(RATE_HZ)])
    try:
        deadline = time.monotonic() + 30.0
        while camera.poll() is None and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
    finally:
        camera.kill()
        camera.wait()
        node.destroy_node()
        executor.shutdown()
        rclpy.shutdown(context=context)

    assert received == {"rgb8": list(range(FRAMES)), "16UC1": list(range(FRAMES))}
    assert damaged == []


def test_the_profile_keeps_udp_beside_a_segment_that_holds_several_frames() -> None:
    root = ElementTree.parse(share_file("config/fastdds.xml")).getroot()
    namespace = {"dds": root.tag.partition("}")[0].strip("{")}
    transports = {
        transport.findtext("dds:type", namespaces=namespace): transport
        for transport in root.iterfind(".//dds:transport_descriptor", namespace)
    }
    in_use = [e.text for e in root.iterfind(".//dds:userTransports/dds:transport_id", namespace)]

    assert set(transports) == {"SHM", "UDPv4"}
    ids = [t.findtext("dds:transport_id", namespaces=namespace) for t in transports.values()]
    assert in_use == ids
    shared_memory = transports["SHM"]
    assert int(shared_memory.findtext("dds:segment_size", "", namespace)) >= 32 * 2**20
    assert int(shared_memory.findtext("dds:maxMessageSize", "", namespace)) >= 16 * 2**20


if __name__ == "__main__":
    publish(int(sys.argv[1]), float(sys.argv[2]))
