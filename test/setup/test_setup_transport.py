"""The shipped profile loses no image between the processes of one machine.

Run as a program, this file is the camera process of its test: `test_setup_transport.py N HZ WxH`.
"""

from __future__ import annotations

import array
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sgnet_ros.system.environment import share_file

pytest.importorskip("rclpy", reason="no ROS 2 here")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

FRAMES, RATE_HZ = 120, 30.0
BYTES_PER_PIXEL = {"rgb8": 3, "16UC1": 2}
# Deep enough to keep the scheduler of a busy machine out of the result.
BEST_EFFORT = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
SEGMENTS = 2 * 34  # MiB of /dev/shm: one segment of the profile for each process, and a little
BUSY_S = 0.25  # From here on, a pause may fill the camera's segment.


def image(encoding: str, size: tuple[int, int]) -> Image:
    width, height = size
    step = width * BYTES_PER_PIXEL[encoding]
    message = Image(width=width, height=height, step=step, encoding=encoding)
    message.data = array.array("B", bytes(range(256)) * (step * height // 256))
    return message


def publish(frames: int, rate_hz: float, size: tuple[int, int]) -> None:
    """Publish RGB-D pairs with the number of the pair in the stamp and in the first byte.

    Print the longest time by which a pair was late.
    """
    rclpy.init()
    node = rclpy.create_node("transport_camera")
    messages = {encoding: image(encoding, size) for encoding in BYTES_PER_PIXEL}
    publishers = {
        encoding: node.create_publisher(Image, f"transport/image_{encoding}", BEST_EFFORT)
        for encoding in messages
    }
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        time.sleep(0.02)
    time.sleep(0.5)  # the other direction of discovery
    late = 0.0
    start = time.monotonic()
    for number in range(frames):
        time.sleep(max(0.0, start + number / rate_hz - time.monotonic()))
        for encoding, message in messages.items():
            message.header.stamp.sec = number
            message.data[0] = number
            publishers[encoding].publish(message)
        late = max(late, time.monotonic() - start - number / rate_hz)
    time.sleep(0.5)
    print(json.dumps({"late_s": late}))
    node.destroy_node()
    rclpy.shutdown()


class Receiver:
    """A receiver of the images that a camera process sends.

    Attributes:
        received: Numbers of the images by encoding, in the order of arrival.
        damaged: images whose bytes aren't those that were sent.
        busy_s: The longest pause of the camera or the receiver.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.received: dict[str, list[int]] = {encoding: [] for encoding in BYTES_PER_PIXEL}
        self.damaged: list[str] = []
        self.busy_s = 0.0
        self._expected = {encoding: image(encoding, size) for encoding in BYTES_PER_PIXEL}
        context = Context()
        rclpy.init(context=context)
        node = rclpy.create_node("transport_observer", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        for encoding in self.received:
            topic = f"transport/image_{encoding}"
            node.create_subscription(Image, topic, self._on_image, BEST_EFFORT)
        arguments = [str(FRAMES), str(RATE_HZ), "x".join(map(str, size))]
        camera = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE)
        try:
            deadline = time.monotonic() + 60.0
            while camera.poll() is None and time.monotonic() < deadline:
                before = time.monotonic()
                executor.spin_once(timeout_sec=0.02)
                self.busy_s = max(self.busy_s, time.monotonic() - before)
            output = camera.communicate()[0] if camera.poll() is not None else b""
            assert camera.returncode in (0, None), "the camera failed"
        finally:
            camera.kill()
            camera.wait()
            node.destroy_node()
            executor.shutdown()
            rclpy.shutdown(context=context)
        late_s = json.loads(output)["late_s"] if output else 60.0
        self.busy_s = max(self.busy_s, late_s)

    @property
    def complete(self) -> bool:
        """Return whether every image came once, in order and as it was sent."""
        everything = {encoding: list(range(FRAMES)) for encoding in BYTES_PER_PIXEL}
        return self.received == everything and not self.damaged

    def _on_image(self, message: Image) -> None:
        number = message.header.stamp.sec
        expected = self._expected[message.encoding]
        expected.data[0] = number
        if message.data != expected.data:
            self.damaged.append(f"{message.encoding} {number}")
        self.received[message.encoding].append(number)


def shared_memory_mib() -> float:
    """Return the free MiB in /dev/shm, or plenty where there is no such folder."""
    shm = Path("/dev/shm")
    return shutil.disk_usage(shm).free / 2**20 if shm.exists() else 1e9


@pytest.mark.slow
@pytest.mark.parametrize("size", [(640, 480), (1920, 1080)], ids=["vga", "1080p"])
def test_every_pair_at_30_hz_arrives_best_effort_from_another_process(
    size: tuple[int, int],
) -> None:
    if shared_memory_mib() < SEGMENTS:
        pytest.skip(f"/dev/shm has {shared_memory_mib():.0f} MiB free, needs {SEGMENTS}")
    result: Any = None
    for _ in range(2):  # Once more if the machine was busy.
        result = Receiver(size)
        assert result.damaged == []
        if result.complete:
            return
    lost = {encoding: FRAMES - len(numbers) for encoding, numbers in result.received.items()}
    if result.busy_s > BUSY_S:
        pytest.skip(f"this machine is busy: a pause of {result.busy_s:.2f} s; lost {lost}")
    assert result.received == {encoding: list(range(FRAMES)) for encoding in BYTES_PER_PIXEL}


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
    width, _, height = sys.argv[3].partition("x")
    publish(int(sys.argv[1]), float(sys.argv[2]), (int(width), int(height)))
