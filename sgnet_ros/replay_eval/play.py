"""Play the images of a bag to the running node, and keep its answers."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from sgnet_msgs.msg import ClassMap, FrameStats
from std_msgs.msg import Header

from sgnet_ros.camera import info_message, read_ahead
from sgnet_ros.messages.images import rgb_view
from sgnet_ros.messages.serialized import parse_header
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.replay_eval.recorded import Item, readable, recorded_items, recorded_pairs
from sgnet_ros.system.qos import latched
from sgnet_ros.system.spinning import spin_for, spin_until

_CONNECT_S, _ANSWER_S, _QUIET_S = 180.0, 120.0, 60.0  # patience
_RESEND_S, _RESENDS = 3.0, 3
_ATTEMPTS = 40  # frames to warm up with, at most
_KEPT = 200

UNREADABLE = "unreadable"
"""Cause under which frames count that are damaged in the bag."""


class ReplayError(RuntimeError):
    """Failure of a replay; the message says why."""


class Totals(NamedTuple):
    """The node's counters since its activation, as /diagnostics has them."""

    rgb: int
    pairs: int
    labels: int
    dropped: dict[str, int]

    @property
    def settled(self) -> bool:
        """True where the node has nothing left to do."""
        return self.pairs == self.labels + sum(self.dropped.values())


@dataclass
class Answers:
    """Answers of the node to a bag.

    Attributes:
        sent: stamps in ns of the color images, in order.
        latency_ms: by stamp, of the label images that came.
        stats: by stamp.
        dropped: by cause.
        seconds: from the first image sent to the last label image.
    """

    sent: list[int] = field(default_factory=list)
    latency_ms: dict[int, float] = field(default_factory=dict)
    stats: dict[int, FrameStats] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _masks: dict[int, bytes] = field(default_factory=dict)

    def keep(self, stamp: int, data: bytes) -> None:
        """Keep a serialized label image, compressed: a bag has thousands."""
        self._masks[stamp] = zlib.compress(data, 1)

    def labels(self, stamp: int) -> npt.NDArray[np.uint8] | None:
        """Return (H, W) ids that the node answered with; None if it didn't."""
        if stamp not in self._masks:
            return None
        message = deserialize_message(zlib.decompress(self._masks[stamp]), Image)
        mask: npt.NDArray[np.uint8] = rgb_view(message).array[:, :, 0]
        return mask


class Player(Node):
    """Publisher of a bag's images, and subscriber of the node's answers.

    Stamps stay those of the bag, so that answers can be matched to it; depth goes out registered to
    color and under color's frame.

    Args:
        source: the bag.
        look_after: called every now and then; raises if there is no use in going on.
        progress: called with the number of color images played so far.

    Attributes:
        answers: what came so far.
        class_map: the node's classes, once it has told them.
    """

    def __init__(
        self,
        source: BagSource,
        look_after: Callable[[], None],
        progress: Callable[[int], None],
    ) -> None:
        super().__init__("replay")
        self.answers = Answers()
        self.class_map: ClassMap | None = None
        self._source = source
        self._look_after, self._progress = look_after, progress
        self._sent_at: dict[str, dict[int, float]] = {"rgb": {}, "depth": {}}  # by kind, stamp
        self._arrived_at: dict[int, float] = {}
        self._totals: Totals | None = None
        self._ticked = False
        qos = qos_profile_sensor_data
        self._images = {
            "rgb": self.create_publisher(Image, "rgb/image_raw", qos),
            "depth": self.create_publisher(Image, "depth/image_raw", qos),
        }
        self._info = self.create_publisher(CameraInfo, "rgb/camera_info", qos)
        for kind, topic, callback in (
            (Image, "sgnet/labels", self._on_labels),
            (FrameStats, "sgnet/stats", self._on_stats),
        ):
            self.create_subscription(kind, topic, callback, _KEPT, raw=True)
        self.create_subscription(ClassMap, "sgnet/class_map", self._on_class_map, latched())
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def wait_for_classes(self) -> ClassMap:
        """Wait until the node has loaded its model; return its classes.

        Raises:
            ReplayError: it takes too long.
        """
        self._spin_until(lambda: self.class_map, _CONNECT_S, "loading the model")
        return self.class_map

    def connect(self) -> None:
        """Show the node a frame until it answers; that one doesn't count.

        Raises:
            ReplayError: it doesn't, or the bag holds no frame.
        """
        frame = next((f for f in recorded_pairs(self._source) if readable(f)), None)
        if frame is None:
            raise ReplayError(f"{self._source.name} holds no readable color image with depth")
        # Stamps before all others, and not near the first: halves that get lost leave no trace.
        first = frame[0].stamp_ns
        begin = max(0, first - 10 * 10**9)
        step = (first - begin) // (2 * _ATTEMPTS)
        for attempt in range(_ATTEMPTS):
            stamp = begin + attempt * step
            for item in frame:
                self._publish(item._replace(stamp_ns=stamp), counts=False)
            # Large models take a while for their first frame; lost halves are sent anew.
            self._spin_until(lambda: self._arrived_at, 0.5 + 0.1 * attempt)
            if self._arrived_at:
                break
            if self._totals and self._totals.dropped:
                raise ReplayError(f"the node drops the first frame: {self._totals.dropped}")
        else:
            raise ReplayError("the node answers none of the frames that it is shown")
        self._baseline = self._settle(at_once=attempt == 0)
        self.answers = Answers()
        for stamps in (self._arrived_at, *self._sent_at.values()):
            stamps.clear()

    def play_recorded(self, factor: float) -> None:
        """Play all images at the times of their recording, ``factor`` times as fast."""
        start, first_ns = time.monotonic(), None
        for item in read_ahead(recorded_items(self._source), count=16):
            first_ns = item.time_ns if first_ns is None else first_ns
            due = start + (item.time_ns - first_ns) / 1e9 / factor
            spin_for(self._executor, due - time.monotonic())
            if item.message is not None:
                self._publish(item)
            elif item.kind == "rgb":
                self._leave_out(item)
        self._finish(start, paired_here=False)

    def play_lossless(self) -> None:
        """Play frame by frame, each when the one before is answered or given up.

        Frames are those of the `BagSource`; depth goes out under color's stamp, so that which
        frames the node sees doesn't depend on time.

        Raises:
            ReplayError: the node is busy with one frame for too long.
        """
        start = time.monotonic()
        for frame in read_ahead(recorded_pairs(self._source), count=4):
            if not readable(frame):
                self._leave_out(frame[0])
                continue
            dropped = self._totals.dropped if self._totals else {}
            for item in frame:
                self._publish(item)
            self._wait_for_answer(frame, dropped)
        self._finish(start, paired_here=True)

    def _wait_for_answer(self, frame: tuple[Item, Item], dropped: Mapping[str, int]) -> None:
        """Wait until the frame is answered, dropped by the node, or has got lost several times."""
        stamp, deadline, sent = frame[0].stamp_ns, time.monotonic() + _ANSWER_S, 1
        while True:
            self._spin_until(lambda: stamp in self._arrived_at, _RESEND_S)
            now = self._totals
            if stamp in self._arrived_at or now is None or now.dropped != dropped:
                return
            if now.settled and sent > _RESENDS:
                return
            if now.settled:  # and has sent no answer: a half got lost on the way
                sent += 1
                for item in frame:
                    self._publish(item, counts=False)
            elif time.monotonic() > deadline:
                raise ReplayError(f"the node takes over {_ANSWER_S:.0f} s for the frame {stamp}")

    # What goes to the node, and what comes back

    def _leave_out(self, item: Item) -> None:
        """Count a frame that is not sent, since an image of it can't be read."""
        self.answers.sent.append(item.stamp_ns)
        self.answers.dropped[UNREADABLE] += 1
        self._progress(len(self.answers.sent))

    def _publish(self, item: Item, counts: bool = True) -> None:
        assert item.message is not None
        header = Header(stamp=Time(nanoseconds=item.stamp_ns).to_msg(), frame_id="camera")
        item.message.header = header
        if item.kind == "rgb":
            if item.camera is not None:
                self._info.publish(info_message(item.camera, header))
            if counts:
                self.answers.sent.append(item.stamp_ns)
                self._progress(len(self.answers.sent))
        self._images[item.kind].publish(item.message)
        self._sent_at[item.kind][item.stamp_ns] = time.monotonic()

    def _on_labels(self, data: bytes) -> None:
        stamp, _ = parse_header(data)
        self._arrived_at.setdefault(stamp, time.monotonic())
        self.answers.keep(stamp, data)

    def _on_stats(self, data: bytes) -> None:
        self.answers.stats[parse_header(data)[0]] = deserialize_message(data, FrameStats)

    def _on_class_map(self, message: ClassMap) -> None:
        self.class_map = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            if "pairs total" in values:
                self._ticked = True
                rgb, pairs, labels = (int(values[f"{n} total"]) for n in ("rgb", "pairs", "labels"))
                drops = {
                    key.removeprefix("dropped: "): int(value)
                    for key, value in values.items()
                    if key.startswith("dropped: ")
                }
                self._totals = Totals(rgb, pairs, labels, drops)

    def _settle(self, at_once: bool = False) -> Totals:
        """Return the node's counters once it has nothing left to do and hears nothing new.

        Args:
            at_once: nothing can be on its way any more.
        """
        last: Totals | None = None
        deadline = time.monotonic() + _QUIET_S
        while time.monotonic() < deadline:
            self._ticked = False
            self._spin_until(lambda: self._ticked, 10.0, "the node's report")
            now = self._totals
            if now is not None and now.settled and (at_once or now == last):
                return now
            last = self._totals
        raise ReplayError(f"the node came to no rest in {_QUIET_S:.0f} s")

    def _finish(self, start: float, paired_here: bool) -> None:
        """Wait for the last answer and draw up what became of the frames."""
        answers = self.answers
        before, after = self._baseline, self._baseline
        spin_for(self._executor, 0.1)
        if len(set(answers.sent)) - answers.dropped[UNREADABLE] > len(self._arrived_at):
            after = self._settle()
        answers.seconds = max(self._arrived_at.values(), default=start) - start
        answers.latency_ms = {s: self._latency_ms(s) for s in sorted(self._arrived_at)}
        lost = len(set(answers.sent)) - len(answers.latency_ms) - answers.dropped[UNREADABLE]
        if not lost:
            return
        causes = {c: n - before.dropped.get(c, 0) for c, n in after.dropped.items()}
        if not paired_here:
            causes["unmatched_rgb"] = after.rgb - before.rgb - (after.pairs - before.pairs)
        causes["transport"] = lost - sum(causes.values())
        answers.dropped.update({c: n for c, n in causes.items() if n > 0})

    def _latency_ms(self, stamp: int) -> float:
        """Return the time from when a frame's later half was sent until its label image came."""
        rgb, depth = self._sent_at["rgb"], self._sent_at["depth"]
        sent = rgb[stamp]
        if stats := self.answers.stats.get(stamp):
            depth_ns = stamp + round(stats.skew_ms * 1e6)
            # skew is a float32, which is exact to some nanoseconds
            nearest = min(depth, key=lambda s: abs(s - depth_ns), default=stamp)
            sent = max(sent, depth.get(nearest, sent))
        return (self._arrived_at[stamp] - sent) * 1e3

    def _spin_until(
        self, condition: Callable[[], object], patience_s: float, what: str | None = None
    ) -> None:
        done = spin_until(self._executor, condition, patience_s, self._look_after)
        if not done and what is not None:
            raise ReplayError(f"{what} took longer than {patience_s:.0f} s")
