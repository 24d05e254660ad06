"""Subscriptions of an active node, and the frames made from their messages."""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

from sgnet_ros.messages.headers import frame_of, stamp_ns
from sgnet_ros.messages.transforms import parse_pose
from sgnet_ros.node.calibration import CameraInfos
from sgnet_ros.node.frame import Frame, InputTopics
from sgnet_ros.node.imu import ImuHistory
from sgnet_ros.node.losses import LossWatch, warning
from sgnet_ros.node.matcher import Pair
from sgnet_ros.node.parameters import Settings
from sgnet_ros.node.synchronizer import PairSynchronizer
from sgnet_ros.node.transform_buffer import TransformBuffer
from sgnet_ros.system.qos import best_effort, latched, overridable

try:
    import message_filters
except ImportError:
    message_filters = None

try:
    TFMessage: Any = importlib.import_module("tf2_msgs.msg").TFMessage
except ImportError:
    TFMessage = None

TRANSIENT_LOCAL = QoSDurabilityPolicy.TRANSIENT_LOCAL

_SETTLE_PERIOD_S = 0.1
_CHECK_PERIOD_S = 0.5
_HOLD_S = 0.1
"""Longest wait of a pair for the pose at its stamp; /tf often comes later than the images."""


class Inputs:
    """Subscribe to a camera and make a `Frame` of every RGB-D pair.

    Everything runs in the executor's thread.

    Args:
        node: gets the subscriptions.
        settings: returns the current values of its parameters.
        on_frame: called with every frame; should store it and return.
        on_error: called with the exception that ``on_frame`` raised.

    Attributes:
        synchronizer: pairs the images.
        rgb_infos, depth_infos: received calibrations.
        imu: received orientations; None if the node does not use an IMU.
        transforms: received transforms.
        topics: resolved names of the inputs.
    """

    def __init__(
        self,
        node: Node,
        settings: Callable[[], Settings],
        on_frame: Callable[[Frame], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._node = node
        self._settings = settings
        self._on_frame = on_frame
        self._on_error = on_error
        self._held: deque[tuple[Pair[Any], float]] = deque()  # pair, time at which it was complete
        now = settings()
        self.rgb_infos, self.depth_infos = CameraInfos(), CameraInfos()
        self.transforms = TransformBuffer()
        self.imu: ImuHistory | None = None
        self._latched: set[str] = set()  # topics of latched calibrations
        self._losses = (LossWatch(), LossWatch())  # of RGB and depth
        self._moving: Subscription | None = None
        self._warned: set[str] = set()  # topics with a warning about losses
        depth = now.queue_size
        self._subscriptions: list[Subscription] = []
        # An executor delivers waiting messages in the order of the subscriptions: calibrations,
        # transforms and orientations must come before the images that they belong to.
        self._rgb_info = self._subscribe(
            CameraInfo, "rgb/camera_info", self.rgb_infos.receive, best_effort(depth)
        )
        self._depth_info = self._subscribe(
            CameraInfo, "depth/camera_info", self.depth_infos.receive, best_effort(depth)
        )
        if TFMessage is not None:
            # As in tf2's listener: the last message of every publisher arrives, however old.
            receive = self._on_static_transforms
            self._subscribe(TFMessage, "/tf_static", receive, latched(depth=100))
        if now.use_imu:
            self.imu = ImuHistory(self.transforms, lambda: parse_pose(settings().imu_to_rgb))
            self._subscribe(Imu, "imu", self.imu.receive, best_effort(depth))
        self.synchronizer, self._types, (self._rgb, self._depth) = self._subscribe_to_images(
            on_error
        )
        self.synchronizer.registerCallback(self._on_pair)
        self.topics = InputTopics(
            self._rgb.topic_name,
            self._depth.topic_name,
            self._rgb_info.topic_name,
            self._depth_info.topic_name,
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # goes on while simulated time stands
        self._timers = [
            node.create_timer(_SETTLE_PERIOD_S, self.synchronizer.settle, clock=steady),
            node.create_timer(_SETTLE_PERIOD_S, self._pass_on, clock=steady),
            node.create_timer(_CHECK_PERIOD_S, self._subscribe_to_latched_infos, clock=steady),
            node.create_timer(_CHECK_PERIOD_S, self._warn_about_losses, clock=steady),
            node.create_timer(_CHECK_PERIOD_S, self._subscribe_to_moving, clock=steady),
        ]

    def _subscribe(
        self, kind: type, topic: str, receive: Callable[[Any], None], qos: QoSProfile
    ) -> Subscription:
        """Subscribe with a profile that parameters can override; rclpy writes them into it."""
        subscription = self._node.create_subscription(
            kind, topic, receive, qos, qos_overriding_options=overridable()
        )
        self._subscriptions.append(subscription)
        return subscription

    def _subscribe_to_images(
        self, on_error: Callable[[Exception], None]
    ) -> tuple[PairSynchronizer, list[str], tuple[Subscription, Subscription]]:
        """Subscribe to RGB and depth, through message_filters where it is installed.

        Returns:
            The synchronizer of both, their message types, and their subscriptions.
        """
        node, now = self._node, self._settings()
        depth = now.queue_size
        rgb_type, rgb_topic = image_topic(node, "rgb/image_raw", now.rgb_transport)
        depth_type, depth_topic = image_topic(node, "depth/image_raw", now.depth_transport)
        types = [f"sensor_msgs/msg/{kind.__name__}" for kind in (rgb_type, depth_type)]
        if message_filters is None:
            synchronizer = PairSynchronizer([], depth, now.slop, on_error=on_error)
            rgb = self._subscribe(rgb_type, rgb_topic, self._on_rgb, best_effort(depth))
            depths = self._subscribe(depth_type, depth_topic, self._on_depth, best_effort(depth))
            return synchronizer, types, (rgb, depths)
        options: dict[str, Any] = {"qos_overriding_options": overridable()}
        rgb_input = message_filters.Subscriber(
            node, rgb_type, rgb_topic, qos_profile=best_effort(depth), **options
        )
        depth_input = message_filters.Subscriber(
            node, depth_type, depth_topic, qos_profile=best_effort(depth), **options
        )
        synchronizer = PairSynchronizer(
            [rgb_input, depth_input], depth, now.slop, on_error=on_error
        )
        rgb_input.registerCallback(self._losses[0].receive)
        depth_input.registerCallback(self._losses[1].receive)
        self._subscriptions += [rgb_input.sub, depth_input.sub]
        return synchronizer, types, (rgb_input.sub, depth_input.sub)

    @property
    def image_types(self) -> list[tuple[str, str]]:
        """Topic and message type of RGB and of depth, such as ``sensor_msgs/msg/Image``."""
        return [(self.topics.rgb, self._types[0]), (self.topics.depth, self._types[1])]

    def close(self) -> None:
        """Unsubscribe, and pass on the pairs that wait for a pose."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        while self._held:
            self._pass_on_one()

    def _subscribe_to_latched_infos(self) -> None:
        """Subscribe to calibrations that were published once, before the node started.

        Such a subscription does not match a volatile publisher, which would log a warning. It is
        therefore made only if no calibration has arrived and a publisher is transient local. It
        ignores QoS overrides, which apply to the volatile subscription.
        """
        for subscription, infos in (
            (self._rgb_info, self.rgb_infos),
            (self._depth_info, self.depth_infos),
        ):
            topic = subscription.topic_name
            if infos.newest is not None or topic in self._latched:
                continue
            publishers = self._node.get_publishers_info_by_topic(topic)
            if any(p.qos_profile.durability == TRANSIENT_LOCAL for p in publishers):
                self._latched.add(topic)
                self._subscriptions.append(
                    self._node.create_subscription(CameraInfo, topic, infos.receive, latched())
                )

    def _subscribe_to_moving(self) -> None:
        """Subscribe to /tf as soon as a pose is needed that /tf_static does not contain."""
        if self._moving is None and TFMessage is not None and self.transforms.wants_moving:
            qos = QoSProfile(depth=100)  # as in tf2's listener
            self._moving = self._subscribe(TFMessage, "/tf", self._on_moving_transforms, qos)

    def _on_rgb(self, message: Any) -> None:
        self._losses[0].receive(message)
        self.synchronizer.add_rgb(message)

    def _on_depth(self, message: Any) -> None:
        self._losses[1].receive(message)
        self.synchronizer.add_depth(message)

    def _warn_about_losses(self) -> None:
        """Warn once per topic how many images are lost, and how to configure the driver."""
        for topic, watch in zip((self.topics.rgb, self.topics.depth), self._losses, strict=True):
            if topic not in self._warned and (losses := watch.losses()):
                self._warned.add(topic)
                self._node.get_logger().warning(warning(topic, losses))

    def _on_static_transforms(self, message: Any) -> None:
        self.transforms.add(message.transforms)

    def _on_moving_transforms(self, message: Any) -> None:
        self.transforms.add_moving(message.transforms)
        self._pass_on()

    def _on_pair(self, rgb: Any, depth: Any) -> None:
        pair = Pair(rgb, depth, stamp_ns(rgb.header), stamp_ns(depth.header))
        self._held.append((pair, time.perf_counter()))
        self._pass_on()

    def _pass_on(self) -> None:
        """Make frames of the pairs, in order, up to one whose pose may still arrive on /tf."""
        while self._held:
            pair, complete_s = self._held[0]
            late = time.perf_counter() - complete_s >= _HOLD_S
            full = len(self._held) > self._settings().queue_size
            if not late and not full and self._lacks_pose(pair):
                return
            self._pass_on_one()

    def _pass_on_one(self) -> None:
        pair, complete_s = self._held.popleft()
        try:
            self._on_frame(self._frame(pair, complete_s))
        except Exception as error:
            self._on_error(error)

    def _lacks_pose(self, pair: Pair[Any]) -> bool:
        """Return whether a moving pose that the pair's frame needs is older than its stamp."""
        settings, rgb_frame = self._settings(), frame_of(pair.rgb.header)
        needed = []
        if not settings.depth_to_rgb:
            needed.append((frame_of(pair.depth.header), pair.depth_ns))
        if self.imu is not None and self.imu.frame is not None and not settings.imu_to_rgb:
            needed.append((self.imu.frame, pair.rgb_ns))
        return any(
            frame != rgb_frame and self.transforms.is_behind(frame, rgb_frame, stamp)
            for frame, stamp in needed
        )

    def _frame(self, pair: Pair[Any], complete_s: float) -> Frame:
        """Return a frame with the calibrations and gravity at the stamp of the RGB image."""
        rgb_frame = frame_of(pair.rgb.header)
        return Frame(
            pair,
            camera_info=self.rgb_infos.at(pair.rgb_ns),
            depth_info=self.depth_infos.at(pair.depth_ns),
            gravity=None if self.imu is None else self.imu.at(pair.rgb_ns, rgb_frame),
            matching_ms=self.synchronizer.take_matching_ms(),
            complete_s=complete_s,
        )


def image_topic(node: Node, name: str, transport: str) -> tuple[type, str]:
    """Return message type and topic of images in a transport.

    As in image_transport, the suffix is appended to the topic that ``name`` is remapped to.
    """
    if transport == "raw":
        return Image, name
    return CompressedImage, f"{node.resolve_topic_name(name)}/{transport}"
