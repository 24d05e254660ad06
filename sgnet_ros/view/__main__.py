"""Show images, labels and point cloud live: `python -m sgnet_ros.view`.

A window of rerun (`pip install 'sgnet_ros[viz]'`) shows color, depth, labels, the semantic point
cloud, and curves of age, inference and overhead. On a machine without a screen, write a file and
open it elsewhere with `rerun FILE`, or send everything to a viewer on another machine.

The viewer subscribes to `rgb/image_raw`, `rgb/camera_info`, `depth/image_raw` and the topics of the
node `sgnet`; remap them with `--ros-args -r rgb/image_raw:=/camera/color/image_raw`. The node
computes `~/points` only while it has a subscriber, such as this viewer.
"""

from __future__ import annotations

import argparse
import functools
import math
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from sgnet_msgs.msg import ClassMap, FrameStats

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_ros.messages.camera_model import intrinsics_of, is_rectified
from sgnet_ros.messages.class_map import label_set_of
from sgnet_ros.messages.clouds import read_points
from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.messages.images import depth_view, rgb_view
from sgnet_ros.system.environment import prepare_environment
from sgnet_ros.system.qos import latched
from sgnet_ros.system.throttle import Throttle
from sgnet_ros.view.log import ViewError, ViewLog

# More points would take long to send and hardly change the picture.
_MAX_POINTS = 100_000
_WARN_EVERY_S = 10.0
_WAIT_S = 0.2  # longest wait for messages, because a signal does not end it


class ViewNode(Node):
    """Node that passes every message to a `ViewLog`, and skips unreadable ones with a warning."""

    def __init__(self, log: ViewLog, **kwargs: Any) -> None:
        super().__init__("sgnet_view", **kwargs)
        self._log = log
        self._throttle = Throttle(_WARN_EVERY_S)
        self._info: CameraInfo | None = None
        self._camera: Intrinsics | None = None
        for kind, topic, show in (
            (Image, "rgb/image_raw", self._on_rgb),
            (CameraInfo, "rgb/camera_info", self._on_camera_info),
            (Image, "depth/image_raw", self._on_depth),
            (Image, "sgnet/labels", self._on_labels),
            (PointCloud2, "sgnet/points", self._on_points),
            (FrameStats, "sgnet/stats", self._on_stats),
        ):
            self._subscribe(kind, topic, show, qos_profile_sensor_data)
        self._subscribe(ClassMap, "sgnet/class_map", self._on_class_map, latched())

    def _subscribe(
        self, kind: type, topic: str, show: Callable[[Any], None], qos: QoSProfile
    ) -> None:
        self.create_subscription(kind, topic, functools.partial(self._show, topic, show), qos)

    def _show(self, topic: str, show: Callable[[Any], None], message: Any) -> None:
        try:
            show(message)
        except ValueError as error:
            if self._throttle.passes(topic):
                self.get_logger().warning(f"{self.resolve_topic_name(topic)}: {error}")

    def _on_rgb(self, message: Image) -> None:
        image = rgb_view(message).array
        self._log.rgb(stamp_ns(message.header), image)
        if self._info is not None:
            self._show_camera(self._info, *image.shape[:2])

    def _show_camera(self, info: CameraInfo, height: int, width: int) -> None:
        rectified = is_rectified(self.resolve_topic_name("rgb/image_raw"))
        try:
            camera = intrinsics_of(info, width, height, rectified)
        except ValueError as error:
            raise ValueError(f"camera_info: {error}") from error
        if camera != self._camera:
            self._camera = camera
            self._log.camera(camera)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_depth(self, message: Image) -> None:
        self._log.depth(stamp_ns(message.header), depth_view(message).array)

    def _on_labels(self, message: Image) -> None:
        self._log.labels(stamp_ns(message.header), rgb_view(message).array[:, :, 0])

    def _on_points(self, message: PointCloud2) -> None:
        cloud = read_points(message)
        every = math.ceil(math.sqrt(max(1, cloud.size / _MAX_POINTS)))
        cloud = cloud[::every, ::every]
        cloud = cloud[np.isfinite(cloud["z"])]
        positions = np.stack([cloud["x"], cloud["y"], cloud["z"]], axis=-1)
        self._log.points(stamp_ns(message.header), positions, cloud["label"])

    def _on_stats(self, message: FrameStats) -> None:
        self._log.times(
            stamp_ns(message.header),
            age=message.age_ms,
            inference=message.inference_ms,
            overhead=message.overhead_ms,
        )

    def _on_class_map(self, message: ClassMap) -> None:
        self._log.classes(label_set_of(message))


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line without its `--ros-args`."""
    parser = argparse.ArgumentParser("python -m sgnet_ros.view", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--save",
        type=Path,
        metavar="FILE.rrd",
        help="write a recording instead of opening a window",
    )
    target.add_argument(
        "--connect", metavar="URL", help="URL of a running viewer: rerun+http://HOST:9876/proxy"
    )
    return parser.parse_args(argv)


def main() -> None:
    """Run until SIGINT or SIGTERM; exit with 1 and the reason if nothing can be shown."""
    args = parse_arguments(remove_ros_args(sys.argv)[1:])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # an exception could truncate the file
        signal.signal(number, lambda *_: stop.set())
    prepare_environment()
    try:
        log = ViewLog(args.save, args.connect)
        try:
            rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
            executor = SingleThreadedExecutor()
            executor.add_node(ViewNode(log))
            while not stop.is_set():
                executor.spin_once(timeout_sec=_WAIT_S)
        finally:
            log.close()
            rclpy.try_shutdown()
    except ViewError as error:
        sys.exit(f"view: {error}")
    if args.save is not None:
        print(f"written: {args.save}; open it with: rerun {args.save}")


if __name__ == "__main__":
    main()
