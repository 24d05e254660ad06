"""The launch file, started for real: `launch_test test/launch/launch_test_sgnet.py`.

pytest runs it through test_sgnet_launch.py.
"""

from __future__ import annotations

import array
import atexit
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import launch_testing.asserts
import numpy as np
import rclpy
import torch
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing.actions import ReadyToTest
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from sgnet_msgs.msg import ClassMap

from sgnet_core import Intrinsics, create_model
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import save_model
from sgnet_ros.system.names import OUTPUTS

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "sgnet.launch.py"
WIDTH, HEIGHT = 129, 97
INTRINSICS = Intrinsics(110.0, 112.0, 63.0, 49.0, WIDTH, HEIGHT)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def model_file() -> str:
    """A model with weights drawn from a fixed seed, in a folder that goes with this process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    torch.manual_seed(7)
    path = Path(folder.name) / "launch_test.safetensors"
    save_model(create_model("sgnet_r18", num_classes=5), path)
    return str(path)


MODEL = model_file()


def generate_test_description() -> LaunchDescription:
    """The shipped launch file with every argument set that changes what the node does."""
    arguments = {
        "namespace": "robot",
        "rgb_topic": "/left/color",
        "depth_topic": "/left/depth",
        "camera_info_topic": "/left/calibration",
        "model": MODEL,
        "device": "cpu",
        "precision": "fp32",
        "backend": "torch",
        "outputs": "[labels, overlay]",
        "overlay_alpha": "1",
    }
    source = PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    include = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    return LaunchDescription([include, ReadyToTest()])


def frame() -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) uint8 and its depth (H, W) uint16 in millimeters."""
    rng = np.random.default_rng(3)
    rgb = np.kron(rng.integers(0, 256, (13, 17, 3)), np.ones((8, 8, 1)))[:HEIGHT, :WIDTH]
    depth = np.linspace(800, 4000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    return rgb.astype(np.uint8), depth.astype(np.uint16)


def image(encoding: str, pixels: np.ndarray) -> Image:
    message = Image(width=WIDTH, height=HEIGHT, encoding=encoding)
    message.step = pixels.strides[0]
    message.data = array.array("B", pixels.tobytes())
    message.header.frame_id = "left_optical"
    return message


def pixels(message: Image, channels: int) -> np.ndarray:
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    return np.frombuffer(message.data, np.uint8).reshape(shape)


class TestTheLaunchedNode(unittest.TestCase):
    """Checks while the launch file runs."""

    def setUp(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("launch_test")

    def tearDown(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown()

    def spin_until(self, condition: Callable[[], Any], every: Callable[[], None]) -> None:
        deadline = time.monotonic() + 300
        while not condition():
            self.assertLess(time.monotonic(), deadline, "nothing came")
            every()
            rclpy.spin_once(self.node, timeout_sec=0.1)

    def wait_until_active(self) -> None:
        client = self.node.create_client(GetState, "/robot/sgnet/get_state")
        self.assertTrue(client.wait_for_service(timeout_sec=300.0), "the node is not there")
        states: list[int] = []

        def ask() -> None:
            future = client.call_async(GetState.Request())
            rclpy.spin_until_future_complete(self.node, future, timeout_sec=300.0)
            states.append(future.result().current_state.id)

        self.spin_until(lambda: State.PRIMARY_STATE_ACTIVE in states, ask)

    def test_frames_on_the_given_topics_become_labels_of_the_given_model(self) -> None:
        self.wait_until_active()
        rgb, depth = frame()
        messages = {"/left/color": image("rgb8", rgb), "/left/depth": image("16UC1", depth)}
        info = CameraInfo(width=WIDTH, height=HEIGHT, k=INTRINSICS.matrix().ravel())
        messages["/left/calibration"] = info
        publishers = {
            topic: self.node.create_publisher(type(message), topic, qos_profile_sensor_data)
            for topic, message in messages.items()
        }
        received: dict[str, Any] = {}
        for name, kind, qos in (
            ("labels", Image, qos_profile_sensor_data),
            ("overlay", Image, qos_profile_sensor_data),
            ("class_map", ClassMap, LATCHED),
        ):
            on_message = lambda message, name=name: received.setdefault(name, message)  # noqa: E731
            self.node.create_subscription(kind, f"/robot/sgnet/{name}", on_message, qos)
        stamps = set()

        def publish() -> None:
            stamp = self.node.get_clock().now().to_msg()
            stamps.add((stamp.sec, stamp.nanosec))
            for topic, message in messages.items():
                message.header.stamp = stamp
                publishers[topic].publish(message)

        self.spin_until(lambda: len(received) == 3, publish)

        segmenter = Segmenter(MODEL, device="cpu", precision="fp32")
        expected = segmenter.segment(rgb, depth, INTRINSICS).labels
        self.assertGreater(len(np.unique(expected)), 1)
        labels, overlay = received["labels"], received["overlay"]
        np.testing.assert_array_equal(pixels(labels, 1), expected)
        # overlay_alpha 1: the classes' colors alone
        np.testing.assert_array_equal(pixels(overlay, 3), segmenter.labels.colorize(expected))
        self.assertEqual(labels.encoding, "mono8")
        self.assertEqual(labels.header.frame_id, "left_optical")
        self.assertIn((labels.header.stamp.sec, labels.header.stamp.nanosec), stamps)
        self.assertEqual(list(received["class_map"].ids), [0, 1, 2, 3, 4])
        offered = {name: self.node.count_publishers(f"/robot/sgnet/{name}") for name in OUTPUTS}
        expected_outputs = dict.fromkeys(OUTPUTS, 0) | {"labels": 1, "overlay": 1}
        self.assertEqual(offered, expected_outputs)


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):
    """Checks after the launch file has shut down."""

    def test_the_node_has_exited_cleanly(self, proc_info: Any) -> None:
        self.assertEqual(len(proc_info.process_names()), 1)
        launch_testing.asserts.assertExitCodes(proc_info)
