"""Play the messages of a bag to the running node, and collect its answers."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu
from sgnet_msgs.msg import ClassMap, FrameStats

from sgnet_ros.messages.serialized import parse_header
from sgnet_ros.node.inputs import TFMessage
from sgnet_ros.recordings.read_ahead import read_ahead
from sgnet_ros.replay_eval.answers import UNREADABLE, Answers, ReplayError, Totals
from sgnet_ros.replay_eval.recorded import (
    DEPTH,
    DEPTH_INFO,
    IMU,
    RGB,
    RGB_INFO,
    TF,
    Item,
    RecordedFrame,
    Recording,
)
from sgnet_ros.system.qos import latched, reliable
from sgnet_ros.system.spinning import spin_for, spin_until

_LOAD_S, _ANSWER_S = 900.0, 120.0  # longest waits; loading may export the model
_RESEND_S, _RESENDS = 3.0, 3
_ATTEMPTS = 40  # largest number of frames until the first answer
_KEPT = 200
_DISCOVERY_S = 10.0
_TF_S = 1.5  # the node checks every half second whether it needs /tf


class Player(Node):
    """Node that publishes the messages of a bag and subscribes to the node's answers.

    Messages keep their stamps, which identify the answers.

    Args:
        recording: messages to publish.
        check_node: called every half second; raises an exception if the node has failed.
        progress: called with the number of color images played so far.

    Attributes:
        answers: answers so far.
        class_map: classes of the node; None before it has published them.
    """

    def __init__(
        self,
        recording: Recording,
        check_node: Callable[[], None],
        progress: Callable[[int], None],
    ) -> None:
        super().__init__("replay")
        self.answers = Answers()
        self.class_map: ClassMap | None = None
        self._recording = recording
        self._check_node, self._progress = check_node, progress
        self._sent_at: dict[str, dict[int, float]] = {RGB: {}, DEPTH: {}}  # by kind, stamp
        self._arrived_at: dict[int, float] = {}
        self._first: RecordedFrame  # first frame that can be read
        self._shown_again: set[int] = set()  # stamps under which the first frame was shown
        self._sent_again: dict[int, int] = {}  # new stamp → original stamp, of lost frames
        self._last_ns = 0  # stamp of the last image sent
        self._totals: Totals | None = None
        self._totals_shown: list[Totals] = []  # with the answers to the first frame
        self._inference_s = 0.0
        self._create_publishers()
        for kind, topic, callback in (
            (Image, "sgnet/labels", self._on_labels),
            (FrameStats, "sgnet/stats", self._on_stats),
        ):
            self.create_subscription(kind, topic, callback, _KEPT, raw=True)
        self.create_subscription(ClassMap, "sgnet/class_map", self._on_class_map, latched())
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _create_publishers(self) -> None:
        """Create a publisher for each kind of message in the bag."""
        topics, qos = self._recording.topics, qos_profile_sensor_data
        self._outputs: dict[str, Publisher] = {}
        for kind in (RGB, DEPTH):
            name, transport = topics[kind], self._recording.transports[kind]
            if transport == "raw":
                self._outputs[kind] = self.create_publisher(Image, name, qos)
            else:
                compressed = f"{name}/{transport}"
                self._outputs[kind] = self.create_publisher(CompressedImage, compressed, qos)
        for kind in {RGB_INFO, DEPTH_INFO} & topics.keys():
            self._outputs[kind] = self.create_publisher(CameraInfo, topics[kind], qos)
        if IMU in topics:
            self._outputs[IMU] = self.create_publisher(Imu, topics[IMU], qos)
        if TF in topics:
            self._outputs[TF] = self.create_publisher(TFMessage, topics[TF], reliable(100))
        if self._recording.static_transforms is not None:
            static = self.create_publisher(TFMessage, "/tf_static", latched())
            static.publish(self._recording.static_transforms)

    def wait_for_classes(self) -> ClassMap:
        """Wait until the node has loaded its model; return its classes.

        Raises:
            ReplayError: loading takes too long.
        """
        self._spin_until(lambda: self.class_map, _LOAD_S, "loading the model")
        return self.class_map

    def connect(self) -> None:
        """Show the node the first frame until it answers; this answer does not count.

        Raises:
            ReplayError: the node does not answer, or the bag has no frame.
        """
        frame = next((f for f in self._recording.frames(()) if f.readable), None)
        if frame is None:
            raise ReplayError(
                f"{self._recording.source.name} has no readable color image with depth"
            )
        self._first = frame
        fixed = [output for kind, output in self._outputs.items() if kind not in (IMU, TF)]
        self._spin_until(lambda: all(p.get_subscription_count() for p in fixed), _DISCOVERY_S)
        spin_for(self._executor, 0.3)  # the subscribers discover this publisher a little later
        # The stamps lie well before the bag's, so that images without a partner have no effect.
        first = frame.rgb.stamp_ns
        begin = max(0, first - 10 * 10**9)
        step = (first - begin) // (2 * _ATTEMPTS)
        for attempt in range(_ATTEMPTS):
            stamp = begin + attempt * step
            for item in self._recording.opening:
                # An orientation near the frame makes the node look for the pose of the IMU.
                self._publish(item.at(stamp) if item.kind == IMU else item)
            spin_for(self._executor, 0.05)  # so that the node processes them before the images
            self._show(stamp)
            # Large models take long for their first frame; the next attempt replaces lost images.
            self._spin_until(lambda: self._totals_shown, 0.5 + 0.1 * attempt)
            if self._totals_shown:
                break
        else:
            raise ReplayError("the node answers none of the frames; its log gives the reason")
        if TF in self._outputs and IMU in self._wanted():
            self._spin_until(lambda: TF in self._wanted(), _TF_S)
        self._baseline = self._counters()
        for stamps in self._sent_at.values():
            stamps.clear()

    def _wanted(self) -> list[str]:
        """Return the kinds of messages other than images to which the node subscribes."""
        others = (RGB_INFO, DEPTH_INFO, IMU, TF)
        found = self._outputs
        return [k for k in others if k in found and found[k].get_subscription_count()]

    def play_recorded(self, factor: float) -> None:
        """Play all messages at their recorded times, ``factor`` times as fast."""
        start, first_ns = time.monotonic(), None
        for item in read_ahead(self._recording.items(self._wanted()), count=16):
            first_ns = item.time_ns if first_ns is None else first_ns
            due = start + (item.time_ns - first_ns) / 1e9 / factor
            spin_for(self._executor, due - time.monotonic())
            if item.data is not None:
                self._publish(item)
            elif item.kind == RGB:
                self._leave_out(item)
        self._finish(start, paired_here=False)

    def play_lossless(self) -> None:
        """Play frame by frame, each after the answer to the frame before.

        Frames are those of the `BagSource`. Depth is sent with the stamp of color, so that the
        pairs do not depend on timing.

        Raises:
            ReplayError: the node is busy with one frame for too long.
        """
        frames = read_ahead(self._recording.frames(self._wanted()), count=4)
        frame = next(frames, None)
        self._publish_others(frame)
        self._counters()  # afterwards, the node has processed the other messages
        start = time.monotonic()
        while frame is not None:
            if frame.readable:
                self._publish(frame.rgb)
                self._publish(frame.depth)
            else:
                self._leave_out(frame.rgb)
            following = next(frames, None)
            self._publish_others(following)  # the node reads them while it segments this frame
            if frame.readable:
                self._wait_for_answer(frame)
            frame = following
        self._finish(start, paired_here=True)

    def _publish_others(self, frame: RecordedFrame | None) -> None:
        for item in frame.others if frame is not None else ():
            self._publish(item)

    def _wait_for_answer(self, frame: RecordedFrame) -> None:
        """Wait until the node has answered or dropped the frame, or it was lost several times."""
        stamp = frame.rgb.stamp_ns
        assert self._totals is not None  # the node is connected
        for _ in range(1 + _RESENDS):
            self._spin_until(lambda: stamp in self._arrived_at, self._answer_timeout_s)
            if stamp in self._arrived_at:
                return
            before = self._totals.frame_drops
            after = self._counters().frame_drops
            if stamp in self._arrived_at or before != after:
                return
            new = self._last_ns + 1  # an image was lost: send both with a stamp newer than all
            self._sent_again[new] = stamp
            self._publish(frame.rgb.at(new), counts=False)
            self._publish(frame.depth.at(new), counts=False)

    @property
    def _answer_timeout_s(self) -> float:
        return max(_RESEND_S, 5 * self._inference_s)

    def _counters(self) -> Totals:
        """Return the node's counters after it has answered or dropped all frames sent so far.

        The counters come with the answer to the first frame, which is shown again.

        Raises:
            ReplayError: the node does not answer.
        """
        deadline = time.monotonic() + _ANSWER_S
        self._totals_shown.clear()
        while not self._totals_shown:
            if time.monotonic() > deadline:
                raise ReplayError(f"the node has not answered for {_ANSWER_S:.0f} s")
            self._show(self._last_ns + 1)
            self._spin_until(lambda: self._totals_shown, self._answer_timeout_s)
        return self._totals_shown[-1]

    def _show(self, stamp: int) -> None:
        """Publish the first frame with another stamp; its answer does not count."""
        self._shown_again.add(stamp)
        self._publish(self._first.rgb.at(stamp), counts=False)
        self._publish(self._first.depth.at(stamp), counts=False)

    # Messages to and from the node.

    def _leave_out(self, item: Item) -> None:
        """Count a frame that is not sent because an image cannot be read."""
        self.answers.sent.append(item.stamp_ns)
        self.answers.dropped[UNREADABLE] += 1
        self._progress(len(self.answers.sent))

    def _publish(self, item: Item, counts: bool = True) -> None:
        assert item.data is not None
        now = time.monotonic()  # the node may answer before this process runs again
        self._outputs[item.kind].publish(item.data)
        if item.kind not in (RGB, DEPTH):
            return
        if item.kind == RGB and counts:
            self.answers.sent.append(item.stamp_ns)
            self._progress(len(self.answers.sent))
        stamp = self._sent_again.get(item.stamp_ns, item.stamp_ns)
        self._sent_at[item.kind][stamp] = now
        self._last_ns = item.stamp_ns

    def _on_labels(self, data: bytes) -> None:
        stamp, _ = parse_header(data)
        if stamp in self._shown_again:
            return
        stamp = self._sent_again.get(stamp, stamp)
        self._arrived_at.setdefault(stamp, time.monotonic())
        self.answers.keep(stamp, data)

    def _on_stats(self, data: bytes) -> None:
        stamp, _ = parse_header(data)
        stats = deserialize_message(data, FrameStats)
        self._totals, self._inference_s = Totals.of(stats), stats.inference_ms / 1000
        if stamp in self._shown_again:
            self._totals_shown.append(self._totals)
        else:
            self.answers.stats[self._sent_again.get(stamp, stamp)] = stats

    def _on_class_map(self, message: ClassMap) -> None:
        self.class_map = message

    def _finish(self, start: float, paired_here: bool) -> None:
        """Wait for the last answer, and count the answered and the dropped frames."""
        answers = self.answers
        before, after = self._baseline, self._baseline
        wanted = set(answers.sent)
        timeout_s = self._answer_timeout_s

        def complete() -> bool:
            return len(wanted) - answers.dropped[UNREADABLE] <= len(self._arrived_at)

        spin_for(self._executor, 0.1)
        while not complete():
            count = len(self._arrived_at)
            self._spin_until(complete, timeout_s)
            if len(self._arrived_at) == count:
                after = self._counters()
                break
        answers.seconds = max(self._arrived_at.values(), default=start) - start
        answers.latency_ms = {s: self._latency_ms(s) for s in sorted(self._arrived_at)}
        lost = len(set(answers.sent)) - len(answers.latency_ms) - answers.dropped[UNREADABLE]
        if not lost:
            return
        earlier, later = (t.frame_drops if paired_here else t.dropped for t in (before, after))
        causes = {cause: n - earlier.get(cause, 0) for cause, n in later.items()}
        if not paired_here:
            causes["unmatched_rgb"] = after.rgb - before.rgb - (after.pairs - before.pairs)
        causes["transport"] = lost - sum(causes.values())
        answers.dropped.update({c: n for c, n in causes.items() if n > 0})

    def _latency_ms(self, stamp: int) -> float:
        """Return the time between sending the second image of a frame and its label image."""
        rgb, depth = self._sent_at[RGB], self._sent_at[DEPTH]
        sent = rgb[stamp]
        if stats := self.answers.stats.get(stamp):
            depth_ns = stamp + round(stats.skew_ms * 1e6)
            # skew_ms is a float32, which is exact to some nanoseconds
            nearest = min(depth, key=lambda s: abs(s - depth_ns), default=stamp)
            sent = max(sent, depth.get(nearest, sent))
        return (self._arrived_at[stamp] - sent) * 1e3

    def _spin_until(
        self, condition: Callable[[], object], timeout_s: float, step: str | None = None
    ) -> None:
        done = spin_until(self._executor, condition, timeout_s, self._check_node)
        if not done and step is not None:
            raise ReplayError(f"{step} took longer than {timeout_s:.0f} s")
