"""From one RGB-D pair to its published label image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from sgnet_msgs.msg import FrameStats

from sgnet_core.camera import Intrinsics
from sgnet_core.segmenter import Prediction, Segmenter
from sgnet_core.spatial import NEEDS_INTRINSICS
from sgnet_ros.camera_model import intrinsics_of
from sgnet_ros.diagnostics import FrameCounters, Throttle
from sgnet_ros.images import ImageArray, ImageError, depth_view, rgb_view
from sgnet_ros.publishers import Publishers
from sgnet_ros.recovery import cause_of
from sgnet_ros.synchronizer import Pair, PairMatcher


@dataclass(frozen=True)
class Topics:
    """Resolved names of the inputs."""

    rgb: str
    depth: str
    camera_info: str


@dataclass(frozen=True)
class Frame:
    """A pair on its way to the worker; ``complete`` is when it was matched (``perf_counter``)."""

    pair: Pair[Image]
    matching_ms: float
    complete: float


class FrameDropped(Exception):
    """A pair that cannot become a label image: the cause to count it under, and what to do."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(remedy)
        self.cause = cause


class FrameProcessor:
    """Segments frames and publishes the outcome; runs in the worker's thread.

    Frames that cannot be used are counted and reported, by cause at most every five seconds.

    Args:
        node: for its clock and its log.
        publishers: of the outputs.
        matcher: where the frames come from, for the counters in ``~/stats``.
        topics: for messages about them.
        overlay_alpha: gives the opacity of the overlay.
    """

    def __init__(
        self,
        node: Node,
        publishers: Publishers,
        matcher: PairMatcher[Image],
        topics: Topics,
        overlay_alpha: Callable[[], float],
    ) -> None:
        self.counters = FrameCounters()
        self.camera_info: CameraInfo | None = None
        self._node = node
        self._publishers = publishers
        self._matcher = matcher
        self._topics = topics
        self._overlay_alpha = overlay_alpha
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
        rgb, depth, copies = self._convert(pair)
        self._require_registration(pair)
        intrinsics = None
        if segmenter.model.config.spatial in NEEDS_INTRINSICS:
            intrinsics = self._intrinsics(camera_info, pair.rgb)
        converted = time.perf_counter()
        prediction = self._segment(segmenter, rgb, depth, intrinsics)
        segmented = time.perf_counter()
        header = pair.rgb.header
        copies += self._publishers.publish_frame(header, prediction, segmenter.labels, camera_info)
        published = time.perf_counter()
        age = self._node.get_clock().now() - Time.from_msg(header.stamp)
        stages = prediction.stages_ms
        stats = FrameStats(
            header=header,
            age_ms=age.nanoseconds / 1e6,
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

    def _convert(self, pair: Pair[Image]) -> tuple[ImageArray, ImageArray, int]:
        """RGB, depth, and the number of copies made."""
        try:
            rgb, rgb_copies = rgb_view(pair.rgb)
        except ImageError as error:
            raise FrameDropped("bad_rgb", f"{self._topics.rgb}: {error}") from error
        try:
            depth, depth_copies = depth_view(pair.depth)
        except ImageError as error:
            raise FrameDropped("bad_depth", f"{self._topics.depth}: {error}") from error
        return rgb, depth, rgb_copies + depth_copies

    def _require_registration(self, pair: Pair[Image]) -> None:
        rgb, depth = pair.rgb, pair.depth
        same_size = (rgb.width, rgb.height) == (depth.width, depth.height)
        if same_size and rgb.header.frame_id == depth.header.frame_id:
            return
        raise FrameDropped(
            "not_registered",
            f"{self._topics.rgb} is {rgb.width}x{rgb.height} in frame '{rgb.header.frame_id}', but "
            f"{self._topics.depth} is {depth.width}x{depth.height} in frame "
            f"'{depth.header.frame_id}'. Depth must be registered to the colour image: start "
            "realsense2_camera with align_depth.enable:=true and use its topic "
            "aligned_depth_to_color/image_raw, other drivers with depth_registration:=true, or run "
            "depth_image_proc's register node",
        )

    def _intrinsics(self, info: CameraInfo | None, rgb: Image) -> Intrinsics:
        if info is None:
            raise FrameDropped(
                "no_camera_info",
                f"nothing received on {self._topics.camera_info}, and this model needs the "
                "camera's intrinsics: start the driver's camera_info, or remap rgb/camera_info",
            )
        try:
            return intrinsics_of(info, rgb.width, rgb.height)
        except ValueError as error:
            text = f"{self._topics.camera_info}: {error}"
            raise FrameDropped("no_camera_info", text) from error

    def _segment(
        self,
        segmenter: Segmenter,
        rgb: ImageArray,
        depth: ImageArray,
        intrinsics: Intrinsics | None,
    ) -> Prediction:
        try:
            return segmenter.segment(
                rgb,
                depth,
                intrinsics,
                confidence=self._publishers.wants_confidence,
                overlay=self._overlay_alpha() if self._publishers.wants_overlay else None,
            )
        except Exception as error:  # whatever a device may raise, the node goes on
            text = f"{segmenter.info.name} on {segmenter.device}: {error}"
            raise FrameDropped(cause_of(error), text) from error

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
