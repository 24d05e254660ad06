"""All that a node has only while it is active: from its subscriptions to its worker."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, Imu

from sgnet_ros.messages.transforms import StaticTransforms, parse_pose
from sgnet_ros.node.cadence import Cadence
from sgnet_ros.node.depth_alignment import DepthAligner
from sgnet_ros.node.imu import Gravity
from sgnet_ros.node.inputs import Topics, image_topic, subscribe_transforms
from sgnet_ros.node.parameters import Settings
from sgnet_ros.node.processor import Frame, FrameProcessor
from sgnet_ros.node.publishers import Publishers
from sgnet_ros.node.sharing import Turns
from sgnet_ros.node.synchronizer import Pair, PairMatcher, PairSynchronizer
from sgnet_ros.node.worker import Worker

try:
    import message_filters as filters
except ImportError:
    from sgnet_ros.node import filters

_PATIENCE_S = 10.0
"""For the frame in work when a node is stopped: far more than inference takes, if it ever ends."""


class Activation:
    """Subscriptions, matcher, processor and worker of an active node, until `stop`.

    Args:
        node: whose subscriptions they are.
        outputs: of the node.
        settings: gives the present values of its parameters.
        consume: called with a frame in the worker's thread, to have ``processor`` segment it.
        turns: for nodes that share a model.

    Attributes:
        enabled: whether frames are taken; set it at any time.
        topics: resolved names of the inputs.
        images: topic and message type of colour and of depth.
        matcher, processor: for their counters.
    """

    def __init__(
        self,
        node: Node,
        outputs: Publishers,
        settings: Callable[[], Settings],
        consume: Callable[[Frame], None],
        turns: Turns | None,
    ) -> None:
        self.enabled = True
        self._abandoned = False
        self._node = node
        now = settings()
        qos = QoSProfile(depth=now.queue_size, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        rgb, depth = (
            filters.Subscriber(node, *image_topic(node, name, transport), qos_profile=qos)
            for name, transport in (
                ("rgb/image_raw", now.rgb_transport),
                ("depth/image_raw", now.depth_transport),
            )
        )
        infos = [
            node.create_subscription(CameraInfo, name, receive, qos)
            for name, receive in (
                ("rgb/camera_info", self._on_camera_info),
                ("depth/camera_info", self._on_depth_info),
            )
        ]
        self.topics = Topics(*(s.topic_name for s in (rgb.sub, depth.sub, *infos)))
        self.images = [
            (s.topic_name, f"sensor_msgs/msg/{s.msg_type.__name__}") for s in (rgb.sub, depth.sub)
        ]
        transforms = StaticTransforms()
        static = subscribe_transforms(node, transforms)
        self.matcher: PairMatcher[Image] = PairMatcher(slop_ns(now), now.queue_size)
        aligner = DepthAligner(self.topics, transforms, lambda: parse_pose(settings().depth_to_rgb))
        self.processor = FrameProcessor(node, outputs, self.matcher, self.topics, aligner, settings)
        imu = []
        if now.use_imu:
            gravity = Gravity(node, transforms, lambda: parse_pose(settings().imu_to_rgb))
            self.processor.gravity = gravity
            imu = [node.create_subscription(Imu, "imu", gravity.receive, qos)]
        synchronizer = PairSynchronizer(rgb, depth, self.matcher, self._on_pair, self._on_error)
        self._subscriptions = [rgb.sub, depth.sub, *infos, *static, *imu]
        self._cadence = Cadence()
        self._worker: Worker[Frame] = Worker(
            consume, self._on_error, "segmentation", self._patience_s, turns
        )
        wall = Clock(clock_type=ClockType.STEADY_TIME)  # goes on while simulated time stands
        self._timer = node.create_timer(0.1, synchronizer.settle, clock=wall)

    def stop(self) -> bool:
        """Unsubscribes and waits for the frame in work.

        Returns:
            False if that frame does not come back: it is lost, and so is whatever becomes of it.
        """
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._worker.stop(_PATIENCE_S):
            self.processor.counters.drop("deactivated")
        self._abandoned = self._worker.consuming
        if self._abandoned:
            self.processor.counters.drop("hangs")
        return not self._abandoned

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.processor.camera_info = message

    def _on_depth_info(self, message: CameraInfo) -> None:
        self.processor.aligner.camera_info = message

    def _on_pair(self, pair: Pair[Image], matching_ms: float) -> None:
        """Hands a pair to the worker; runs in the executor's thread."""
        if not self.enabled:
            self.processor.counters.drop("disabled")
            return
        now_s = time.perf_counter()
        self._cadence.tick(now_s)
        if self._worker.offer(Frame(pair, matching_ms, now_s)):
            self.processor.counters.drop("overload")

    def _patience_s(self, frame: Frame) -> float:
        return self._cadence.patience_s(frame.complete, time.perf_counter())

    def _on_error(self, error: Exception) -> None:
        """A frame's processing raised what nobody expected: count it, say so, go on."""
        if self._node.context.ok() and not self._abandoned:  # nor while shutting down
            self.processor.drop("internal_error", repr(error))


def slop_ns(settings: Settings) -> int:
    """The greatest difference between the stamps of a pair, in the unit of stamps."""
    return round(settings.slop * 1e9)
