"""Suite ``node`` of `sgnet_core.benchmark`: latency of a frame from a camera to a listener.

Camera, node and the benchmark are separate processes, which communicate over DDS. In each round,
the camera publishes one frame of its rooms, the benchmark waits for the node's labels, and then
segments the same frame itself with `Segmenter`. The difference is the latency that ROS adds.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from sgnet_core.benchmark.measure import Case, Group, Timing
from sgnet_core.benchmark.suites import SuiteError

try:
    import rclpy
    from sgnet_msgs.msg import ClassMap, FrameStats
except ModuleNotFoundError as error:
    raise SuiteError(
        f"suite node needs {error.name}: source a ROS 2 distribution with sgnet_msgs in it, or use "
        "the Python of `make setup`"
    ) from error
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.serialized import parse_header
from sgnet_ros.recordings.frames import CameraFrame, Size
from sgnet_ros.recordings.sources import open_source
from sgnet_ros.system.domains import free_domain, stay_local
from sgnet_ros.system.environment import prepare_environment
from sgnet_ros.system.processes import Child
from sgnet_ros.system.qos import best_effort, latched

SIZES = ((320, 240), (640, 480))

_READY_S, _ANSWER_S = 600.0, 10.0  # longest waits
_ATTEMPTS = 12  # largest number of frames until one is answered

_REFERENCE = "Segmenter, no ROS"


def node_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Yield the groups of the node's start and of its frames at each size.

    Raises:
        SuiteError: camera or node failed; the message has the end of the log.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    stay_local()
    prepare_environment()
    with tempfile.TemporaryDirectory() as folder, Robot(Path(folder), device) as robot:
        started = Case("node, ready", lambda _: robot.start, "node, ready")
        yield Group("node", "start", lambda: None, [started])
        segmenter = Segmenter(device=device)
        for size in [(96, 64)] if quick else SIZES:
            yield _group(robot, segmenter, size)


def _group(robot: Robot, segmenter: Segmenter, size: Size) -> Group:
    def alone(frame: CameraFrame) -> object:
        return segmenter.segment(frame.rgb, frame.depth, frame.intrinsics).labels

    def reported(milliseconds: Callable[[FrameStats], float], _: CameraFrame) -> Timing:
        """Return a time of the frame that `show` has just measured."""
        return Timing(milliseconds(robot.stats) / 1000, robot.node_mb())

    frame = next(iter(open_source("rooms", size)))
    cases = [
        Case(_REFERENCE, alone, _REFERENCE),
        Case("node, labels received", lambda _: robot.show(size), _REFERENCE),
        Case("node, labels published", partial(reported, lambda stats: stats.age_ms), _REFERENCE),
        Case("node, all but inference", partial(reported, _all_but_inference_ms), _REFERENCE),
        Case(
            "node, its own overhead", partial(reported, lambda stats: stats.overhead_ms), _REFERENCE
        ),
    ]
    return Group("node", f"{size[1]}x{size[0]}", lambda: frame, cases)


def _all_but_inference_ms(stats: FrameStats) -> float:
    return float(stats.age_ms - stats.inference_ms)


class Robot:
    """Camera and node as processes, and a listener in this one; a context manager.

    Args:
        folder: folder of the processes' logs.
        device: device of the node.

    Attributes:
        start: time from the start of the node's process until its model is loaded and warmed up.
        stats: statistics of the last frame shown.
    """

    start: Timing
    stats: FrameStats

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder, self._device = folder, device
        self._labels_ns: dict[int, int] = {}  # stamp → time of arrival
        self._stats: dict[int, FrameStats] = {}
        self._ready = False

    def __enter__(self) -> Robot:
        with contextlib.ExitStack() as stack:  # stops the processes if a later step fails
            arguments = ["--controlled", "--source", "rooms"]
            self._camera = Child("sgnet_ros.camera", arguments, self._folder, pipes=True)
            stack.callback(self._camera.stop)
            self._answer()  # its description; then the camera is idle
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
            stack.callback(rclpy.try_shutdown)
            self._listen()
            stack.callback(self._executor.shutdown)
            start = time.monotonic()
            arguments = ["--ros-args", "-p", f"device:={self._device.type}"]
            arguments += ["-p", "backend:=torch"]  # as in the reference
            self._node = Child("sgnet_ros.node", arguments, self._folder)
            stack.callback(self._node.stop)
            if not self._spin_until(lambda: self._ready, _READY_S):
                raise SuiteError(f"the node is not ready after {_READY_S:.0f} s: {self._log()}")
            self.start = Timing(time.monotonic() - start, self.node_mb())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _listen(self) -> None:
        node = Node("listener")
        qos = best_effort()
        node.create_subscription(Image, "sgnet/labels", self._on_labels, qos, raw=True)
        node.create_subscription(FrameStats, "sgnet/stats", self._on_stats, qos, raw=True)
        node.create_subscription(
            ClassMap, "sgnet/class_map", self._on_class_map, latched(), raw=True
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def _on_labels(self, data: bytes) -> None:
        self._labels_ns[parse_header(data)[0]] = time.time_ns()

    def _on_stats(self, data: bytes) -> None:
        self._stats[parse_header(data)[0]] = deserialize_message(data, FrameStats)

    def _on_class_map(self, _: bytes) -> None:
        self._ready = True

    def show(self, size: Size) -> Timing:
        """Make the camera publish its frame; return the time from its stamp to its labels.

        A lost frame is published again, because the processes discover each other in the first
        seconds.

        Raises:
            SuiteError: the node publishes no labels.
        """
        for attempt in range(_ATTEMPTS):
            stamp = self._publish(size)
            timeout_s = _ANSWER_S if attempt >= _ATTEMPTS // 2 else 1.0

            def answered(stamp: int = stamp) -> bool:
                return stamp in self._labels_ns and stamp in self._stats

            if self._spin_until(answered, timeout_s):
                self.stats = self._stats[stamp]
                return Timing((self._labels_ns[stamp] - stamp) / 1e9, self.node_mb())
        raise SuiteError(f"the node labels no frame: {self._log()}")

    def _publish(self, size: Size) -> int:
        """Make the camera publish its frame; return the stamp in ns."""
        assert self._camera.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_answer` reports that the camera has ended
            self._camera.process.stdin.write(json.dumps({"show": size}) + "\n")
            self._camera.process.stdin.flush()
        return int(json.loads(self._answer())["shown"])

    def _answer(self) -> str:
        """Return the camera's next line of output."""
        assert self._camera.process.stdout is not None
        line = self._camera.process.stdout.readline()
        if not line:
            raise SuiteError(f"the camera ended; the end of its log:\n{self._camera.tail()}")
        return line

    def _spin_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline or not self._node.running:
                return False
            self._executor.spin_once(timeout_sec=0.1)
        return True

    def node_mb(self) -> float:
        """Return the resident memory of the node in MB."""
        resident = self._node.rss_mib()
        return math.nan if resident is None else resident * 2**20 / 1e6

    def _log(self) -> str:
        state = "runs" if self._node.running else f"ended ({self._node.process.returncode})"
        return f"it {state}; the end of its log:\n{self._node.tail()}"
