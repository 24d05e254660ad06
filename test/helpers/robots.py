"""A robot's side of the node: a camera that talks to it over DDS, and frames to publish."""

from __future__ import annotations

import array
import contextlib
import gc
import math
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import rclpy
from rcl_interfaces.msg import Log
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from sgnet_msgs.msg import FrameStats

from sgnet_ros.node.lifecycle import SGNetNode
from sgnet_ros.system.throttle import Throttle
from waiting import PATIENCE_S, wait_until


class Robot(Node):
    """A camera that publishes frames and collects the answers.

    Attributes:
        labels, stats, log: messages received on ~/labels, ~/stats and /rosout since `forget`.
    """

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("robot", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)
        self._stamp_ns = 1_000_000_000_000
        self._received: dict[str, list[Any]] = {}
        self.rgb = self.create_publisher(Image, "rgb/image_raw", 10)
        self.depth = self.create_publisher(Image, "depth/image_raw", 10)
        self.info = self.create_publisher(CameraInfo, "rgb/camera_info", 10)
        self.labels = self.listen(Image, "/sgnet/labels")
        self.stats = self.listen(FrameStats, "/sgnet/stats")
        # Latched, as it is published, so that lines from before the discovery arrive.
        latched = QoSProfile(depth=1000, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.log = self.listen(Log, "/rosout", latched)

    def listen(self, kind: type, topic: str, qos: Any = 100) -> list[Any]:
        """Subscribe and return a list that fills while the robot spins."""
        messages: list[Any] = []
        self._received[topic] = messages
        self.create_subscription(kind, topic, messages.append, qos)
        return messages

    def stop_listening(self, *topics: str) -> None:
        """Destroy the subscriptions to topics."""
        for subscription in list(self.subscriptions):
            if subscription.topic_name in topics:
                self.destroy_subscription(subscription)

    def forget(self) -> None:
        """Empty all lists."""
        for messages in self._received.values():
            messages.clear()

    def spin_until(self, done: Callable[[], Any]) -> Any:
        """Spin until ``done`` is true and return its value."""
        return wait_until(
            done,
            lambda: self._executor.spin_once(timeout_sec=0.05),
            lambda: {topic: len(messages) for topic, messages in self._received.items()},
        )

    def wait_until_alone(self) -> None:
        """Wait until no camera of a test before publishes; a killed one is known for a while."""

        def publishers() -> list[str]:
            return [info.node_name for info in self.get_publishers_info_by_topic("rgb/image_raw")]

        wait_until(
            lambda: len(publishers()) == 1,
            lambda: self._executor.spin_once(timeout_sec=0.05),
            lambda: f"rgb/image_raw is published by {publishers()}",
        )

    def drain(self) -> None:
        """Receive what is still under way."""
        before = -1
        while (count := sum(map(len, self._received.values()))) > before:
            before = count
            self.spin_for(0.02)

    def spin_for(self, seconds: float) -> None:
        """Spin for a number of seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def call(self, kind: type, service: str, request: Any) -> Any:
        """Call a service and return the response."""
        client = self.create_client(kind, service)
        self.spin_until(client.service_is_ready)
        # The server has to find the client too, or the request or its answer is lost.
        self.spin_until(lambda: all(each.knows_client(service) for each in RunningNode.spinning))
        self.spin_for(0.1)
        future = client.call_async(request)
        self.spin_until(future.done)
        self.destroy_client(client)
        return future.result()

    def next_stamp(self) -> int:
        """Return a stamp in nanoseconds, 0.1 s after the last one."""
        self._stamp_ns += 100_000_000
        return self._stamp_ns

    def send(
        self, rgb: Image, depth: Image, stamp_ns: int | None = None, skew_ns: int = 0
    ) -> Image:
        """Publish a pair with a new stamp, the depth's ``skew_ns`` later, and return the RGB."""
        stamp_ns = self.next_stamp() if stamp_ns is None else stamp_ns
        for message, publisher, at in (
            (rgb, self.rgb, stamp_ns),
            (depth, self.depth, stamp_ns + skew_ns),
        ):
            publisher.publish(stamped(message, at))
        return rgb

    def send_until(self, done: Callable[[], Any], messages: tuple[Image, Image], **how: int) -> Any:
        """Send pairs until ``done`` is true, since discovery takes time in both directions."""

        def send() -> None:
            self.send(*messages, **how)
            self.spin_for(0.2)

        return wait_until(done, send)

    def connect(self, messages: tuple[Image, Image]) -> None:
        """Send pairs until the node answers, wait until none is under way, and forget all."""
        self.send_until(lambda: self.labels and self.stats, messages)
        self.segment(*messages)
        self.drain()
        self.forget()

    def segment(self, rgb: Image, depth: Image, **kwargs: int) -> tuple[Image, FrameStats]:
        """Send a pair and return its label image and its statistics."""
        stamp = self.send(rgb, depth, **kwargs).header.stamp
        both = (self.labels, self.stats)
        self.spin_until(lambda: all(m and m[-1].header.stamp == stamp for m in both))
        return self.labels[-1], self.stats[-1]


class RunningNode:
    """An `SGNetNode` that spins in a thread of its own."""

    spinning: ClassVar[list[RunningNode]] = []

    def __init__(self, **parameters: Any) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = SGNetNode(context=self.context, parameter_overrides=overrides)
        if self.node.parameters.settings.autostart:
            assert self.node.trigger_configure().name == "SUCCESS"
            assert self.node.trigger_activate().name == "SUCCESS"
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()
        self.spinning.append(self)

    def knows_client(self, service: str) -> bool:
        """Return whether the node has found a client of a service, or has no such service."""
        count = getattr(self.node, "count_clients", None)  # not in Humble
        if count is None or not service.startswith(f"{self.node.get_fully_qualified_name()}/"):
            return True
        return bool(count(service))

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def stop(self) -> None:
        self.spinning.remove(self)
        self._executor.shutdown()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self.node.destroy_node()
        # The publisher of a node's log ends with the parts of the node; until then, the next node
        # of this name logs to nobody. A test's arguments may keep the node itself.
        vars(self.node).clear()
        del self.node, self._executor
        gc.collect()
        self.context.try_shutdown()
        time.sleep(0.2)  # Until others know, or a call would go to this node and not the next.


def stamped(message: Any, stamp_ns: int, frame: str | None = None) -> Any:
    """Give a message a stamp, and a frame if one is named; return it."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    if frame is not None:
        message.header.frame_id = frame
    return message


def say_each_once(node: SGNetNode) -> None:
    """Let the node log each warning about frames once from here on, however long a test takes."""
    processor = node._active.processor
    processor._throttle, processor._warning_throttle = Throttle(math.inf), Throttle(math.inf)


class Scene:
    """A random but repeatable frame and its messages."""

    frame_id = "camera_color_optical_frame"

    def __init__(self, height: int = 60, width: int = 80, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (height // 12 + 1, width // 12 + 1, 3), np.uint8)
        self.rgb = np.kron(coarse, np.ones((12, 12, 1), np.uint8))[:height, :width].copy()
        ramp = np.linspace(700, 4000, width) + np.linspace(0, 900, height)[:, None]
        self.depth = ramp.astype(np.uint16)
        self.depth[rng.random(self.depth.shape) < 0.1] = 0

    @property
    def meters(self) -> np.ndarray:
        """Return the depth in meters, (H, W) float32, with NaN at invalid pixels."""
        return np.where(self.depth > 0, self.depth / 1000, np.nan).astype(np.float32)

    def messages(self) -> tuple[Image, Image]:
        """Return the frame as rgb8 and 16UC1 messages."""
        return self.message(self.rgb, "rgb8"), self.message(self.depth, "16UC1")

    def message(self, pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
        """Return an image message with ``padding`` bytes behind each row."""
        rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
        message = Image(
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            step=rows.shape[1],
            data=array.array("B", rows.tobytes()),
        )
        message.header.frame_id = self.frame_id
        return message

    def camera_info(self) -> CameraInfo:
        """Return the CameraInfo of a camera with a field of view of about 60°."""
        height, width = self.depth.shape
        f = 0.9 * width
        info = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
        info.k = [f, 0.0, width / 2 - 3, 0.0, f, height / 2 + 2, 0.0, 0.0, 1.0]
        info.header.frame_id = self.frame_id
        return info


def pixels(message: Image, channels: int = 1) -> np.ndarray:
    """Return the pixels of an unpadded 8-bit image message."""
    assert message.step == message.width * channels
    assert len(message.data) == message.step * message.height
    shape = (message.height, message.width, channels)
    flat = np.frombuffer(message.data, np.uint8)
    return flat.reshape(shape if channels > 1 else shape[:2])
