"""Processing of one RGB-D pair, up to its published label image."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from sgnet_msgs.msg import FrameStats
from torch import Tensor

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.spatial import NEEDS_INTRINSICS
from sgnet_core.inference.segmenter import Prediction, Segmenter
from sgnet_core.models.labels import LabelSet
from sgnet_ros.messages.camera_model import camera_of, intrinsics_of
from sgnet_ros.messages.clouds import point_cloud
from sgnet_ros.messages.images import ImageArray
from sgnet_ros.node.chosen_classes import ground_ids, kept_ids, obstacle_ids, unknown_names
from sgnet_ros.node.depth_alignment import DepthAligner
from sgnet_ros.node.depth_check import depth_problem
from sgnet_ros.node.device_health import cause_of
from sgnet_ros.node.diagnostics import FrameCounters
from sgnet_ros.node.frame import Frame, FrameDropped, InputTopics, read_images
from sgnet_ros.node.imu import Gravity
from sgnet_ros.node.matcher import MatchCounts, Pair
from sgnet_ros.node.parameters import Settings
from sgnet_ros.node.publishers import Publishers
from sgnet_ros.system.throttle import Throttle

Read = TypeVar("Read")

_BEND_PX = 1.0
"""Largest displacement by a lens, in pixels, that does not affect the network."""


class FrameProcessor:
    """Segment frames and publish the results; runs in the worker's thread.

    Unusable frames are counted and logged, at most every five seconds per cause.

    Args:
        node: for its clock and its log.
        publishers: publish the outputs.
        topics: names of the input topics, for error messages.
        aligner: registers depth to color.
        rectified: returns whether the images of a topic are rectified.
        settings: returns the current values of the parameters.
        model: returns the current model; None while there is none.
        match_counts: returns the counters of the synchronizer for ``~/stats``.
        on_outcome: called with the model that ran on a frame and the cause for which the frame was
            dropped, None if it was published.

    Attributes:
        counters: counters of published and dropped frames.
    """

    def __init__(
        self,
        node: Node,
        publishers: Publishers,
        topics: InputTopics,
        aligner: DepthAligner,
        rectified: Callable[[str], bool],
        settings: Callable[[], Settings],
        model: Callable[[], Segmenter | None],
        match_counts: Callable[[], MatchCounts],
        on_outcome: Callable[[Segmenter, str | None], None],
    ) -> None:
        self.counters = FrameCounters()
        self._node = node
        self._publishers = publishers
        self._topics = topics
        self._aligner = aligner
        self._rectified = rectified
        self._settings = settings
        self._model = model
        self._match_counts = match_counts
        self._on_outcome = on_outcome
        self._lens: tuple[Any, ...] = ()
        self._throttle = Throttle(interval_s=5.0)
        self._warning_throttle = Throttle(interval_s=60.0)
        self._stats_ms = 0.0

    def process(self, frame: Frame) -> None:
        """Publish the frame's labels and statistics, or drop it and log the reason."""
        segmenter = self._model()
        if segmenter is None:
            return
        cause = None
        try:
            self._process(frame, segmenter)
        except FrameDropped as dropped:
            self.drop(dropped.cause, str(dropped))
            cause = dropped.cause
        self._on_outcome(segmenter, cause)

    def drop(self, cause: str, remedy: str) -> None:
        """Count a dropped frame and log it, at most every five seconds per cause."""
        self.counters.drop(cause, remedy)
        if self._throttle.passes(cause):
            self._node.get_logger().error(f"frame dropped ({cause}): {remedy}")

    def _process(self, frame: Frame, segmenter: Segmenter) -> None:
        taken = time.perf_counter()
        pair, camera_info = frame.pair, frame.camera_info
        rgb, raw_depth, copies = read_images(pair, self._topics)
        size = rgb.shape[:2]
        self._check_depth(raw_depth)
        self._check_names(segmenter.labels)
        with _dropped_on_failure(segmenter):
            depth = self._aligner.align(
                frame,
                size,
                raw_depth,
                lambda: self._camera(camera_info, size, "registering depth"),
                segmenter,
            )
        intrinsics = None
        if segmenter.model.config.spatial in NEEDS_INTRINSICS:
            intrinsics = self._intrinsics(camera_info, size)
        up = None
        if frame.gravity is not None and segmenter.model.config.spatial == "hha":
            up = self._up(frame.gravity)
        converted = time.perf_counter()
        prediction = self._segment(segmenter, rgb, depth, intrinsics, up)
        segmented = time.perf_counter()
        header = pair.rgb.header
        copies += self._publishers.publish_frame(header, prediction, segmenter.labels, camera_info)
        if self._publishers.wants_points:
            self._publish_points(pair, camera_info, rgb, depth, prediction, segmenter.labels)
        published = time.perf_counter()
        stages = prediction.stages_ms
        stats = FrameStats(
            header=header,
            age_ms=self._age_ms(pair.rgb_ns),
            skew_ms=pair.skew_ms,
            wait_ms=(taken - frame.complete_s) * 1e3,
            convert_ms=(converted - taken) * 1e3,
            preprocess_ms=stages["preprocess"],
            network_ms=stages["network"],
            postprocess_ms=stages["postprocess"],
            inference_ms=(segmented - converted) * 1e3,
            publish_ms=(published - segmented) * 1e3,
            # The time to publish these statistics is known only afterwards: add the previous one.
            overhead_ms=frame.matching_ms
            + (converted - taken + published - segmented) * 1e3
            + self._stats_ms,
        )
        self.counters.done(stats, copies)
        self._publish_stats(stats)
        self._stats_ms = (time.perf_counter() - published) * 1e3

    def _check_depth(self, depth: ImageArray) -> None:
        """Warn about depth in a wrong unit or without a measurement."""
        problem = depth_problem(depth)
        self._warn("depth", f"{self._topics.depth}: {problem}" if problem else "")

    def _check_names(self, labels: LabelSet) -> None:
        """Warn about names in parameters that are not classes of this model."""
        now = self._settings()
        lists = (now.keep_classes, now.obstacle_classes, now.ground_classes)
        unknown = ", ".join(unknown_names(labels, *lists))
        text = (
            f"keep_classes, obstacle_classes or ground_classes name {unknown}, which this model "
            f"does not have; its classes are on {self._publishers.class_map.topic_name}"
        )
        self._warn("classes", text if unknown else "")

    def _age_ms(self, stamp: int) -> float:
        """Return the age of a stamp in milliseconds; NaN while simulated time has no clock."""
        now = self._node.get_clock().now().nanoseconds
        missing = now == 0  # the value before the first message on /clock
        text = "use_sim_time is set, but nothing is received on /clock: age_ms is not known"
        self._warn("clock", text if missing else "")
        return math.nan if missing else (now - stamp) / 1e6

    def _warn(self, subject: str, text: str) -> None:
        """Set the warning about a subject in the log and on /diagnostics; an empty text ends it."""
        self.counters.set_warning(subject, text)
        # Texts that differ only in numbers are one warning.
        if text and self._warning_throttle.passes(re.sub(r"[\d.]+", "", text)):
            self._node.get_logger().warning(text)

    def _up(self, gravity: Gravity) -> tuple[float, float, float] | None:
        """Return the direction against gravity, or None and warn that it is estimated."""
        if gravity.up is None and self._warning_throttle.passes(gravity.problem.split(":")[0]):
            self._node.get_logger().warning(
                f"direction of gravity is estimated from depth: {gravity.problem}"
            )
        return gravity.up

    def _calibrated(
        self, info: CameraInfo | None, user: str, read: Callable[[CameraInfo], Read]
    ) -> Read:
        """Return ``read(info)``, the color camera's calibration in another form.

        Raises:
            FrameDropped: there is no calibration, or it cannot be used; the message names ``user``,
                which needs it.
        """
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
        rectified = self._rectified(self._topics.rgb)
        return self._calibrated(info, user, lambda i: camera_of(i, size[1], size[0], rectified))

    def _intrinsics(self, info: CameraInfo | None, size: tuple[int, int]) -> Intrinsics:
        """Return the pinhole camera that the network assumes for the image."""
        rectified = self._rectified(self._topics.rgb)
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
        """Warn if the network's 3D coordinates or HHA are wrong because the image is distorted."""
        try:
            bend_px = self._camera(info, size, "this model").bend_px()
        except FrameDropped:  # the distortion model is unknown
            bend_px = math.inf
        moves = f"moves pixels by up to {bend_px:.0f}"
        effect = moves if math.isfinite(bend_px) else "distorts the image"
        if bend_px > _BEND_PX and self._throttle.passes("lens"):
            self._node.get_logger().warning(
                f"{self._topics.camera_info}: the lens ({info.distortion_model}) {effect}, but "
                "this model assumes a pinhole camera: remap the node's inputs to rectified topics "
                "(image_proc's image_rect) for exact 3D input; registration and ~/points use the "
                "lens model"
            )

    def _publish_points(
        self,
        pair: Pair[Any],
        info: CameraInfo | None,
        rgb: ImageArray,
        depth: ImageArray | Tensor,
        prediction: Prediction,
        labels: LabelSet,
    ) -> None:
        """Publish the clouds, or log what is missing."""
        try:
            camera = self._camera(info, rgb.shape[:2], "~/points")
        except FrameDropped as missing:
            if self._throttle.passes("points"):
                self._node.get_logger().error(f"no point clouds: {missing}")
            return
        if prediction.confidence is None:  # the subscriber came during inference
            return
        if isinstance(depth, Tensor):
            depth = depth.cpu().numpy()
        cloud = point_cloud(
            pair.rgb.header, depth, camera, rgb, prediction.labels, prediction.confidence
        )
        settings = self._settings()
        ground = ground_ids(labels, settings.ground_classes)
        obstacles = obstacle_ids(labels, settings.obstacle_classes, ground)
        self._publishers.publish_clouds(cloud, obstacles, ground)

    def _segment(
        self,
        segmenter: Segmenter,
        rgb: ImageArray,
        depth: ImageArray | Tensor,
        intrinsics: Intrinsics | None,
        up: tuple[float, float, float] | None,
    ) -> Prediction:
        settings = self._settings()
        with _dropped_on_failure(segmenter):
            return segmenter.segment(
                rgb,
                depth,
                intrinsics,
                confidence=self._publishers.wants_confidence,
                overlay=settings.overlay_alpha if self._publishers.wants_overlay else None,
                up=up,
                holes=None if settings.fill_holes == "auto" else settings.fill_holes,
                min_confidence=settings.min_confidence,
                classes=kept_ids(segmenter.labels, settings.keep_classes),
            )

    def _publish_stats(self, stats: FrameStats) -> None:
        """Add the current counters and publish."""
        matched, counts = self._match_counts(), self.counters.counts()
        drops = {
            **counts.drops,
            "unmatched_rgb": matched.rgb.lost,
            "unmatched_depth": matched.depth.lost,
        }
        stats.rgb_received = matched.rgb.received
        stats.depth_received = matched.depth.received
        stats.pairs = matched.pairs
        stats.segmented = counts.segmented
        stats.copies = counts.copies
        stats.drop_causes = [cause for cause, number in drops.items() if number]
        stats.drops = [number for number in drops.values() if number]
        self._publishers.stats.publish(stats)


@contextmanager
def _dropped_on_failure(segmenter: Segmenter) -> Iterator[None]:
    """Convert any error to a `FrameDropped` that names the model and its device."""
    try:
        yield
    except FrameDropped:
        raise
    except Exception as error:
        text = f"{segmenter.info.name} on {segmenter.device}: {error}"
        raise FrameDropped(cause_of(error), text) from error
