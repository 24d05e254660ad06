"""From one RGB-D pair to its published label image."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from sgnet_msgs.msg import FrameStats
from torch import Tensor

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.spatial import NEEDS_INTRINSICS
from sgnet_core.inference.segmenter import Prediction, Segmenter
from sgnet_ros.messages.camera_model import camera_of, intrinsics_of, is_rectified
from sgnet_ros.messages.clouds import point_cloud
from sgnet_ros.messages.images import ImageArray
from sgnet_ros.node.depth_alignment import DepthAligner
from sgnet_ros.node.device_health import cause_of
from sgnet_ros.node.diagnostics import FrameCounters
from sgnet_ros.node.imu import Gravity
from sgnet_ros.node.inputs import FrameDropped, Topics, pair_arrays
from sgnet_ros.node.parameters import Settings
from sgnet_ros.node.publishers import Publishers
from sgnet_ros.node.synchronizer import Pair, PairMatcher
from sgnet_ros.system.throttle import Throttle

Read = TypeVar("Read")

_BEND_PX = 1.0
"""A lens that moves pixels by no more than this is as good as none to the network."""


@dataclass(frozen=True)
class Frame:
    """A pair on its way to the worker; ``complete`` is when it was matched (``perf_counter``)."""

    pair: Pair[Any]
    matching_ms: float
    complete: float


class FrameProcessor:
    """Segments frames and publishes the outcome; runs in the worker's thread.

    Frames that cannot be used are counted and reported, by cause at most every five seconds.

    Args:
        node: for its clock and its log.
        publishers: of the outputs.
        matcher: where the frames come from, for the counters in ``~/stats``.
        topics: for messages about them.
        aligner: registers depth where it has to be.
        settings: gives the parameters' present values.

    Attributes:
        aligner: as given.
        gravity: tells which way is up; None estimates it, where a model needs it.
        counters: what became of the frames.
        camera_info: the colour camera's, the last one received.
    """

    def __init__(
        self,
        node: Node,
        publishers: Publishers,
        matcher: PairMatcher[Any],
        topics: Topics,
        aligner: DepthAligner,
        settings: Callable[[], Settings],
    ) -> None:
        self.counters = FrameCounters()
        self.camera_info: CameraInfo | None = None
        self._node = node
        self._publishers = publishers
        self._matcher = matcher
        self._topics = topics
        self.aligner = aligner
        self.gravity: Gravity | None = None
        self._settings = settings
        self._lens: tuple[Any, ...] = ()
        self._throttle = Throttle(interval_s=5.0)
        self._stats_ms = 0.0

    def process(self, frame: Frame, segmenter: Segmenter) -> str | None:
        """Publishes the frame's labels and statistics, or drops it; then returns the cause."""
        try:
            self._process(frame, segmenter)
        except FrameDropped as dropped:
            self.drop(dropped.cause, str(dropped))
            return dropped.cause
        return None

    def drop(self, cause: str, remedy: str) -> None:
        """Counts a lost frame and tells the user, unless that was done a moment ago."""
        self.counters.drop(cause, remedy)
        if self._throttle.passes(cause):
            self._node.get_logger().error(f"frame dropped ({cause}): {remedy}")

    def _process(self, frame: Frame, segmenter: Segmenter) -> None:
        taken = time.perf_counter()
        pair, camera_info = frame.pair, self.camera_info
        rgb, raw_depth, copies = pair_arrays(pair, self._topics)
        size = rgb.shape[:2]
        with _failures_lose_the_frame(segmenter):
            depth = self.aligner.align(
                pair,
                size,
                raw_depth,
                lambda: self._camera(camera_info, size, "registering depth"),
                segmenter,
            )
        intrinsics = None
        if segmenter.model.config.spatial in NEEDS_INTRINSICS:
            intrinsics = self._intrinsics(camera_info, size)
        up = None
        if self.gravity is not None and segmenter.model.config.spatial == "hha":
            up = self.gravity.up(pair.rgb.header.frame_id)
        converted = time.perf_counter()
        prediction = self._segment(segmenter, rgb, depth, intrinsics, up)
        segmented = time.perf_counter()
        header = pair.rgb.header
        copies += self._publishers.publish_frame(header, prediction, segmenter.labels, camera_info)
        if self._publishers.wants_points:
            self._publish_points(pair, camera_info, rgb, depth, prediction)
        published = time.perf_counter()
        age_ns = self._node.get_clock().now().nanoseconds - pair.rgb_ns
        stages = prediction.stages_ms
        stats = FrameStats(
            header=header,
            age_ms=age_ns / 1e6,
            skew_ms=pair.skew_ms,
            wait_ms=(taken - frame.complete) * 1e3,
            convert_ms=(converted - taken) * 1e3,
            preprocess_ms=stages["preprocess"],
            network_ms=stages["network"],
            postprocess_ms=stages["postprocess"],
            inference_ms=(segmented - converted) * 1e3,
            publish_ms=(published - segmented) * 1e3,
            # what publishing the statistics costs is known when they are out: it counts next time
            overhead_ms=frame.matching_ms
            + (converted - taken + published - segmented) * 1e3
            + self._stats_ms,
        )
        self.counters.done(stats, copies)
        self._publish_stats(stats)
        self._stats_ms = (time.perf_counter() - published) * 1e3

    def _calibrated(
        self, info: CameraInfo | None, user: str, read: Callable[[CameraInfo], Read]
    ) -> Read:
        """What ``read`` makes of the colour camera's calibration, which ``user`` needs."""
        topic = self._topics.camera_info
        if info is None:
            raise FrameDropped(
                "no_camera_info",
                f"nothing received on {topic}, and {user} needs the camera's intrinsics: start the "
                "driver's camera_info, or remap rgb/camera_info",
            )
        try:
            return read(info)
        except ValueError as error:
            raise FrameDropped("no_camera_info", f"{topic}: {error}") from error

    def _camera(self, info: CameraInfo | None, size: tuple[int, int], user: str) -> Camera:
        rectified = is_rectified(self._topics.rgb)
        return self._calibrated(info, user, lambda i: camera_of(i, size[1], size[0], rectified))

    def _intrinsics(self, info: CameraInfo | None, size: tuple[int, int]) -> Intrinsics:
        """For the network, which is trained on pinhole cameras."""
        rectified = is_rectified(self._topics.rgb)
        intrinsics = self._calibrated(
            info, "this model", lambda i: intrinsics_of(i, size[1], size[0], rectified)
        )
        assert info is not None
        lens = (info.distortion_model, *info.d)
        if lens != self._lens:
            self._lens = lens
            self._check_lens(info, size)
        return intrinsics

    def _check_lens(self, info: CameraInfo, size: tuple[int, int]) -> None:
        """Warns if the network's 3D coordinates or HHA are off because the image is distorted."""
        try:
            bend_px = self._camera(info, size, "this model").bend_px()
        except FrameDropped:  # a lens that isn't known
            bend_px = math.inf
        if bend_px > _BEND_PX and self._throttle.passes("lens"):
            self._node.get_logger().warning(
                f"{self._topics.camera_info}: the lens ({info.distortion_model}) moves pixels by "
                f"up to {bend_px:.0f}, and this model takes the images for a pinhole camera's: "
                "give it rectified topics (image_proc's image_rect) for exact 3D input; "
                "registration and ~/points go through the lens model"
            )

    def _publish_points(
        self,
        pair: Pair[Any],
        info: CameraInfo | None,
        rgb: ImageArray,
        depth: ImageArray | Tensor,
        prediction: Prediction,
    ) -> None:
        """Publishes ~/points, or says what is missing; the labels are out already."""
        try:
            camera = self._camera(info, rgb.shape[:2], "~/points")
        except FrameDropped as missing:
            if self._throttle.passes("points"):
                self._node.get_logger().error(f"no ~/points: {missing}")
            return
        if prediction.confidence is None:  # somebody has subscribed during inference
            return
        if isinstance(depth, Tensor):
            depth = depth.cpu().numpy()
        cloud = point_cloud(
            pair.rgb.header, depth, camera, rgb, prediction.labels, prediction.confidence
        )
        self._publishers.points.publish(cloud)

    def _segment(
        self,
        segmenter: Segmenter,
        rgb: ImageArray,
        depth: ImageArray | Tensor,
        intrinsics: Intrinsics | None,
        up: tuple[float, float, float] | None,
    ) -> Prediction:
        settings = self._settings()
        with _failures_lose_the_frame(segmenter):
            return segmenter.segment(
                rgb,
                depth,
                intrinsics,
                confidence=self._publishers.wants_confidence,
                overlay=settings.overlay_alpha if self._publishers.wants_overlay else None,
                up=up,
                holes=None if settings.fill_holes == "auto" else settings.fill_holes,
            )

    def _publish_stats(self, stats: FrameStats) -> None:
        """Adds the counters as they are now."""
        matcher, counts = self._matcher, self.counters.counts()
        drops = {
            **counts.drops,
            "unmatched_rgb": matcher.rgb.lost,
            "unmatched_depth": matcher.depth.lost,
        }
        stats.rgb_received = matcher.rgb.received
        stats.depth_received = matcher.depth.received
        stats.pairs = matcher.pairs
        stats.segmented = counts.segmented
        stats.copies = counts.copies
        stats.drop_causes = [cause for cause, number in drops.items() if number]
        stats.drops = [number for number in drops.values() if number]
        self._publishers.stats.publish(stats)


@contextmanager
def _failures_lose_the_frame(segmenter: Segmenter) -> Iterator[None]:
    """Whatever the model's device raises, the node goes on, and knows that it was the device."""
    try:
        yield
    except FrameDropped:
        raise
    except Exception as error:
        text = f"{segmenter.info.name} on {segmenter.device}: {error}"
        raise FrameDropped(cause_of(error), text) from error
