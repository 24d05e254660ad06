"""Frame counters, and the node's state on /diagnostics once a second."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy
from sgnet_msgs.msg import FrameStats

from sgnet_ros.node.device_health import FAILURES
from sgnet_ros.node.matcher import MatchCounts
from sgnet_ros.node.resources import resources
from sgnet_ros.system.qos import overridable

TIMES = (
    *("age", "skew", "wait", "convert", "preprocess", "network", "postprocess"),
    *("inference", "publish", "overhead"),
)
"""Durations of `FrameStats`, without their suffix "_ms"."""

_WARNING_INTERVAL_S = 5.0
_TOLERATED_LOSS = 0.05
"""Share of images without a partner below which there is no warning (start-up, a lost image)."""
_SILENT_AFTER_S = 3.0
_HANGS_AFTER_S = 10.0
_NO_PUBLISHER = "no publisher"
NO_PAIR = "no RGB-D pair"
NOT_CONFIGURED = "not configured: "
"""Start of the log line of a node that could not load its model."""
_IDLE = "idle: nobody subscribes to an output; the first subscriber resumes inference"
_RESUMED = {
    "camera": "found a camera",
    "pairs": "RGB-D pairs arrive again",
    "labels": "label images are published again",
    "idle": "inference resumed: an output has a subscriber",
}
_LEVELS = {
    "camera": DiagnosticStatus.WARN,
    "pairs": DiagnosticStatus.WARN,
    "labels": DiagnosticStatus.ERROR,
    "idle": DiagnosticStatus.OK,
}
_INTENDED = {"overload", "disabled", "idle"}
"""Causes for which the node drops frames on purpose."""

_PublishersOf = Callable[[str, str], str]
"""Function: topic and expected type → description of the topic's publishers."""


@dataclass(frozen=True)
class Counts:
    """A copy of the counters at one moment.

    Attributes:
        segmented: label images published.
        copies: image copies made for the label images.
        drops: pairs that did not become a label image, by cause.
        busy_s: total seconds of inference.
        times_ms: milliseconds of the latest 300 label images, by name (`TIMES`).
        last_error: message of the last drop that had a message.
        warnings: current warnings about the input.
    """

    segmented: int
    copies: int
    drops: Mapping[str, int]
    busy_s: float
    times_ms: Mapping[str, tuple[float, ...]]
    last_error: str
    warnings: tuple[str, ...] = ()


class FrameCounters:
    """Counters of published and dropped pairs since activation. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._segmented = 0
        self._copies = 0
        self._drops: Counter[str] = Counter()
        self._busy_s = 0.0
        self._times: deque[tuple[float, ...]] = deque(maxlen=300)
        self._last_error = ""
        self._warnings: dict[str, str] = {}

    def drop(self, cause: str, error: str = "") -> None:
        """Count a pair that does not become a label image; ``error`` gives problem and remedy."""
        with self._lock:
            self._drops[cause] += 1
            self._last_error = error or self._last_error

    def set_warning(self, subject: str, text: str) -> None:
        """Set the warning about a subject; an empty text removes it."""
        with self._lock:
            self._warnings[subject] = text

    def done(self, stats: FrameStats, copies: int) -> None:
        """Count a published label image, its durations, and the image copies made for it."""
        times = tuple(getattr(stats, f"{name}_ms") for name in TIMES)
        with self._lock:
            self._segmented += 1
            self._copies += copies
            self._busy_s += stats.inference_ms / 1e3
            self._times.append(times)

    def counts(self) -> Counts:
        """Return all counters, consistent with each other."""
        with self._lock:
            columns = zip(*self._times, strict=True) if self._times else ((),) * len(TIMES)
            return Counts(
                self._segmented,
                self._copies,
                dict(self._drops),
                self._busy_s,
                dict(zip(TIMES, columns, strict=True)),
                self._last_error,
                tuple(text for text in self._warnings.values() if text),
            )


class Diagnostics:
    """Publish ``/diagnostics``; call `tick` once a second.

    Attributes:
        state: lifecycle state of the node.
        model: name of the loaded model.
        hardware_id: device of the model.
        degraded: why the node runs with a limitation; empty if it has none.
        failure: why the node could not be configured; empty if it could.
    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = "unconfigured"
        self.model = ""
        self.hardware_id = ""
        self.degraded = ""
        self.failure = ""
        self._node = node
        self._clock = clock
        self._publisher = node.create_publisher(
            DiagnosticArray, "/diagnostics", 10, qos_overriding_options=overridable()
        )
        self._run: _Run | None = None

    def watch(
        self,
        match_counts: Callable[[], MatchCounts],
        counters: FrameCounters,
        topics: Sequence[tuple[str, str]],
    ) -> None:
        """Start reporting on an activation.

        Args:
            match_counts: returns the counters of the synchronizer.
            counters: counters of the frames.
            topics: resolved names of the RGB and the depth topic, each with its message type
                (``sensor_msgs/msg/Image``).
        """
        self._run = _Run(match_counts, counters, topics, self._clock())

    def unwatch(self) -> None:
        """Stop reporting on the activation."""
        self._run = None

    def tick(self) -> None:
        """Publish the status.

        Log when images or label images stop and when they resume. Warn about images without a
        partner, at most every 5 s.
        """
        status = DiagnosticStatus(
            name=f"{self._node.get_fully_qualified_name()[1:]}: segmentation",
            hardware_id=self.hardware_id,
            level=DiagnosticStatus.OK,
            message=self.state,
        )
        values: dict[str, object] = {"state": self.state, "model": self.model}
        if self._run is not None:
            level, message, run_values = self._run.report(self._clock(), self._publishers_of)
            status.level, status.message = level, message
            values.update(run_values)
            self._log(self._run)
        if self.failure:
            status.level = DiagnosticStatus.ERROR
            status.message += f"; {self.failure}"
        if self.degraded:
            status.level = max(status.level, DiagnosticStatus.WARN)
            status.message += f"; {self.degraded}"
        values.update(resources(self.hardware_id))
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _log(self, run: _Run) -> None:
        logger = self._node.get_logger()
        if run.change and run.missing in ("pairs", "labels"):
            logger.warning(run.change)
        elif run.change:
            logger.info(run.change)
        if warning := run.unmatched_warning(self._clock(), self._publishers_of):
            logger.warning(warning)

    def _publishers_of(self, topic: str, expected: str) -> str:
        """Return the number of a topic's publishers, their reliability, and unexpected types."""
        found = self._node.get_publishers_info_by_topic(topic)
        if not found:
            return _NO_PUBLISHER
        kinds = {
            "reliable"
            if info.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
            else "best effort"
            for info in found
        }
        number = f"{len(found)} publisher{'s' * (len(found) != 1)}"
        others = {info.topic_type for info in found} - {expected}
        types = f" of {' and '.join(sorted(others))}, expected {expected}" if others else ""
        return f"{number} {' and '.join(sorted(kinds))}{types}"


class _Run:
    """State of the report on one activation.

    Attributes:
        missing: what the node lacks: "camera", "pairs", "labels", or "idle" (no labels, because
            nobody subscribes); empty if nothing.
        change: text to log if the last report changed `missing`, else empty.
    """

    def __init__(
        self,
        match_counts: Callable[[], MatchCounts],
        counters: FrameCounters,
        topics: Sequence[tuple[str, str]],
        now: float,
    ) -> None:
        self.missing = ""
        self.change = ""
        self._match_counts = match_counts
        self._counters = counters
        self._topics = topics
        self._reported = (now, self._totals(), counters.counts())
        self._warned = (now, self._images())
        self._paired_at = now
        self._labeled_at = now
        self._idle = False

    def _totals(self) -> npt.NDArray[np.int64]:
        """Return the numbers of RGB images, depth images, pairs and label images so far."""
        matched = self._match_counts()
        segmented = self._counters.counts().segmented
        return np.array([matched.rgb.received, matched.depth.received, matched.pairs, segmented])

    def _images(self) -> npt.NDArray[np.int64]:
        """Return (2, 2): received and lost images so far, of RGB and depth."""
        matched = self._match_counts()
        streams = (matched.rgb, matched.depth)
        return np.array([[s.received for s in streams], [s.lost for s in streams]])

    def report(
        self, now: float, publishers_of: _PublishersOf
    ) -> tuple[bytes, str, dict[str, object]]:
        """Return level, message and values for the time since the last report."""
        counts, totals = self._counters.counts(), self._totals()
        then, totals_then, counts_then = self._reported
        self._reported = (now, totals, counts)
        seconds = max(now - then, 1e-3)
        rates = (totals - totals_then) / seconds
        *_, pairs_hz, labels_hz = rates
        new_drops = {c for c, n in counts.drops.items() if n > counts_then.drops.get(c, 0)}
        faults = new_drops - _INTENDED
        self._idle = "idle" in new_drops or (self._idle and not pairs_hz)
        missing, why = self._missing(now, rates, bool(new_drops - {"overload"}), publishers_of)
        level, message = DiagnosticStatus.OK, f"{labels_hz:.1f} label images/s"
        if faults & FAILURES:
            level, message = DiagnosticStatus.ERROR, f"inference fails: {counts.last_error}"
        elif faults:
            level, message = DiagnosticStatus.WARN, f"frames dropped: {counts.last_error}"
        elif missing:
            level, message = _LEVELS[missing], why
        elif counts.warnings:
            level, message = DiagnosticStatus.WARN, "; ".join(counts.warnings)
        self.change = ""
        if missing != self.missing:
            self.change = why or _RESUMED[self.missing]
            self.missing = missing
        values = self._values(counts, totals, rates)
        values["inference busy %"] = f"{100 * (counts.busy_s - counts_then.busy_s) / seconds:.0f}"
        return level, message, values

    def _missing(
        self,
        now: float,
        rates: npt.NDArray[np.float64],
        dropped: bool,
        publishers_of: _PublishersOf,
    ) -> tuple[str, str]:
        """Return what the node lacks, as in `missing`, and why."""
        *_, pairs_hz, labels_hz = rates
        if pairs_hz:
            self._paired_at = now
        if labels_hz or dropped or not pairs_hz:
            self._labeled_at = now
        if now - self._labeled_at >= _HANGS_AFTER_S:
            return "labels", (
                f"no label image for {now - self._labeled_at:.0f} s although pairs arrive: "
                "inference takes longer than that, or hangs"
            )
        if now - self._paired_at < _SILENT_AFTER_S:
            return ("idle", _IDLE) if self._idle else ("", "")
        names = [topic for topic, _ in self._topics]
        publishers = [publishers_of(topic, kind) for topic, kind in self._topics]
        if not self._match_counts().pairs and set(publishers) == {_NO_PUBLISHER}:
            return "camera", f"waiting for a camera: nobody publishes {' and '.join(names)}"
        if self.missing == "camera":  # a new publisher gets the same time for its first images
            self._paired_at = now
            return "", ""
        silent = [
            f"{topic} ({found})"
            for topic, found, rate in zip(names, publishers, rates, strict=False)
            if not rate
        ]
        why = (
            f"nothing received on {' and '.join(silent)}" if silent else "no stamps within the slop"
        )
        return "pairs", f"{NO_PAIR} for {now - self._paired_at:.0f} s: {why}"

    def _values(
        self, counts: Counts, totals: npt.NDArray[np.int64], rates: npt.NDArray[np.float64]
    ) -> dict[str, object]:
        values: dict[str, object] = {}
        for name, total, rate in zip(
            ("rgb", "depth", "pairs", "labels"), totals, rates, strict=False
        ):
            values[f"{name} Hz"] = f"{rate:.1f}"
            values[f"{name} total"] = total
        matched = self._match_counts()
        for name, stream in (("rgb", matched.rgb), ("depth", matched.depth)):
            for cause, number in stream.unmatched.items():
                values[f"unmatched {name}: {cause}"] = number
        for cause, number in counts.drops.items():
            values[f"dropped: {cause}"] = number
        for name, times in counts.times_ms.items():
            times = tuple(time for time in times if np.isfinite(time))
            if times:
                p50, p95 = np.percentile(times, (50, 95))
                values[f"{name} ms p50"] = f"{p50:.1f}"
                values[f"{name} ms p95"] = f"{p95:.1f}"
        values["image copies"] = counts.copies
        values["time jumps"] = matched.time_jumps
        values["last error"] = counts.last_error
        return values

    def unmatched_warning(self, now: float, publishers_of: _PublishersOf) -> str | None:
        """Return a warning with figures if many images found no partner since the last one."""
        then, images_then = self._warned
        if now - then < _WARNING_INTERVAL_S:
            return None
        images = self._images()
        self._warned = (now, images)
        received, lost = images - images_then
        if lost.sum() <= _TOLERATED_LOSS * received.sum():
            return None
        inputs = [
            f"{topic} {count / (now - then):.1f} Hz, {publishers_of(topic, kind)}"
            for (topic, kind), count in zip(self._topics, received, strict=True)
        ]
        matched = self._match_counts()
        skews = [
            s.nearest_ns / 1e6 for s in (matched.rgb, matched.depth) if s.nearest_ns is not None
        ]
        skew = f"; nearest stamps {min(skews):.1f} ms apart" if skews else ""
        return (
            f"{lost[0]} rgb and {lost[1]} depth images found no partner in {now - then:.0f} s "
            f"({'; '.join(inputs)}{skew}; slop {matched.slop_ns / 1e6:.1f} ms). If both topics "
            "run, raise the parameter slop to half their frame period or synchronize the cameras"
        )
