"""Images of a driver in another process arrive with the profile; without it, the loss is told.

Run as a program, this file is the driver: `test_transport.py PAIRS BURST WxH`.
"""

from __future__ import annotations

import array
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from sgnet_msgs.msg import FrameStats

from sgnet_ros.system.environment import profile_variable

ROOT = Path(__file__).resolve().parents[3]
PAIRS, RATE_HZ = 120, 30.0
STALL_S = 30.0  # longest wait for images that a busy node has not taken yet
SEGMENTS = 2 * 34  # MiB of /dev/shm: one segment of the profile for each process, and a little


def image(encoding: str, size: tuple[int, int]) -> Image:
    """Return blocks of color, or a slope of 0.5 to 4 m in millimeters."""
    width, height = size
    rng = np.random.default_rng(1)
    if encoding == "rgb8":
        blocks = rng.integers(0, 256, (height // 40, width // 40, 3), np.uint8)
        pixels = np.kron(blocks, np.ones((40, 40, 1), np.uint8))
    else:
        pixels = np.tile(np.linspace(500, 4000, width).astype(np.uint16), (height, 1))
    message = Image(width=width, height=height, step=pixels.strides[0], encoding=encoding)
    message.data = array.array("B", pixels.tobytes())
    message.header.frame_id = "camera"
    return message


class Driver(Node):
    """Driver that publishes best effort, and listens to what the node says of it."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__("driver")
        self.images = image("rgb8", size), image("16UC1", size)
        self._topics = [
            self.create_publisher(Image, topic, qos_profile_sensor_data)
            for topic in ("rgb/image_raw", "depth/image_raw")
        ]
        self.stats = FrameStats()
        self.labels: set[bytes] = set()
        self.warnings: list[str] = []
        self.sent = 0
        self.create_subscription(FrameStats, "/sgnet/stats", self._on_stats, 10)
        self.create_subscription(Image, "/sgnet/labels", self._on_labels, 10)
        latched = QoSProfile(depth=1000, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(Log, "/rosout", self._on_log, latched)

    @property
    def received(self) -> tuple[int, int, int]:
        """Images and pairs that the node has received."""
        return self.stats.rgb_received, self.stats.depth_received, self.stats.pairs

    def connect(self) -> None:
        """Wait until all topics have found each other."""
        while not (
            all(topic.get_subscription_count() for topic in self._topics)
            and self.count_publishers("/sgnet/labels")
            and self.count_publishers("/sgnet/stats")
        ):
            rclpy.spin_once(self, timeout_sec=0.1)
        self.wait(1.0)

    def publish(self) -> None:
        """Publish a pair with the stamps of a steady camera."""
        stamp = 10**9 + round(self.sent * 1e9 / RATE_HZ)
        for topic, message in zip(self._topics, self.images, strict=True):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
            topic.publish(message)
        self.sent += 1

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self, timeout_sec=left)

    def wait_for_node(self) -> None:
        """Wait until the node has received all that was sent, or nothing more for a while."""
        before, end = self.received, time.monotonic() + STALL_S
        while self.received != (self.sent,) * 3 and time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.1)
            if self.received != before:
                before, end = self.received, time.monotonic() + STALL_S

    def _on_stats(self, message: FrameStats) -> None:
        self.stats = message

    def _on_labels(self, message: Image) -> None:
        self.labels.add(bytes(message.data))

    def _on_log(self, message: Log) -> None:
        if "did not arrive" in message.msg:
            self.warnings.append(message.msg)


def drive(pairs: int, burst: int, size: tuple[int, int]) -> None:
    """Publish pairs and print what became of them.

    Args:
        pairs: number of pairs.
        burst: pairs that are published at once; the next ones after the node has received these. 0
            publishes at the rate, until the node warns or all are sent.
    """
    rclpy.init()
    driver = Driver(size)
    driver.connect()
    start = time.monotonic()
    while driver.sent < pairs and not driver.warnings:
        driver.publish()
        if burst == 0:
            driver.wait(start + driver.sent / RATE_HZ - time.monotonic())
        elif driver.sent % burst == 0:
            driver.wait_for_node()
            if driver.received != (driver.sent,) * 3:
                break
    driver.wait(2.0)
    outcome = {name: getattr(driver, name) for name in ("sent", "received", "warnings")}
    print(json.dumps(outcome | {"labels": [data.hex() for data in driver.labels]}))
    driver.destroy_node()
    rclpy.shutdown()


def run_driver(
    tmp_path: Path, model: Path, environment: dict[str, str], *arguments: object
) -> dict[str, Any]:
    """Run the node and a driver with an environment, and return what the driver prints."""
    if shutil.disk_usage("/dev/shm").free < SEGMENTS * 2**20:
        pytest.skip(f"/dev/shm has less than {SEGMENTS} MiB free")
    log = tmp_path / "node.log"
    words = ["--ros-args", "-p", f"model:={model}", "-p", "device:=cpu", "-p", "always_run:=true"]
    with log.open("w") as file:
        node = subprocess.Popen(
            [sys.executable, "-m", "sgnet_ros.node", *words], cwd=ROOT, stdout=file, stderr=file
        )
    try:
        driver = subprocess.run(
            [sys.executable, __file__, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        node.send_signal(signal.SIGINT)
        assert node.wait() == 0, log.read_text()
    finally:
        node.kill()
        node.wait()
    outcome: dict[str, Any] = json.loads(driver.stdout)
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize(("size", "burst"), [((640, 480), 4), ((1920, 1080), 2)])
def test_with_the_profile_every_pair_arrives(
    size: tuple[int, int], burst: int, tmp_path: Path, models: Any, segmenters: Any
) -> None:
    width, height = size
    environment = dict(os.environ)  # conftest.py has set it as dds_profile:=launch does
    outcome = run_driver(tmp_path, models["depth"], environment, PAIRS, burst, f"{width}x{height}")
    assert (outcome["sent"], outcome["received"]) == (PAIRS, [PAIRS] * 3)
    assert outcome["warnings"] == []
    rgb, depth = (np.frombuffer(image(e, size).data, np.uint8) for e in ("rgb8", "16UC1"))
    expected = segmenters["depth"].segment(
        rgb.reshape(height, width, 3), depth.view(np.uint16).reshape(height, width)
    )
    assert outcome["labels"] == [expected.labels.astype(np.uint8).tobytes().hex()]


@pytest.mark.slow
def test_a_driver_without_the_profile_loses_images_and_the_node_says_how_many(
    tmp_path: Path, models: Any
) -> None:
    environment = {name: value for name, value in os.environ.items() if "PROFILES_FILE" not in name}
    outcome = run_driver(tmp_path, models["depth"], environment, 3000, 0, "640x480")
    (text, *_) = outcome["warnings"]
    found = re.match(r"/(rgb|depth)/image_raw: (\d+) of (\d+) images did not arrive", text)
    assert found is not None, text
    lost, sent = int(found[2]), int(found[3])
    assert sent - lost == 60, "the node looks at the last 60 images that arrived"
    assert 0.1 * sent <= lost < sent <= outcome["sent"]
    assert "camera 30.0 Hz" in text
    assert f"{profile_variable()[0]}={profile_variable()[1]}" in text


if __name__ == "__main__":
    width, _, height = sys.argv[3].partition("x")
    drive(int(sys.argv[1]), int(sys.argv[2]), (int(width), int(height)))
