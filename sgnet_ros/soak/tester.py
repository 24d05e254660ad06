"""Camera and observer of a soak run, and the ledger of frames sent and received."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from sgnet_msgs.msg import FrameStats
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from sgnet_ros.messages.headers import COLOR_FRAME, stamp_ns
from sgnet_ros.messages.images import image_message
from sgnet_ros.system.spinning import spin_for, spin_until

PERIOD_NS = 33_333_333

_SIZE = (48, 64)  # height, width
_REMEMBERED = 2000  # frames
_TIMEOUT_S = 60.0
_START_S = 300.0  # longest start of the node, which imports PyTorch


class InferenceHang(Exception):
    """The node does not answer in time."""


@dataclass
class _Sent:
    """A color image that was published."""

    frame_id: str
    size: tuple[int, int]
    scene: int | None
    epoch: int
    answered: bool = False


@dataclass
class FrameLedger:
    """Counts of frames sent and received, and of what was wrong with them.

    Attributes:
        frames: valid RGB-D pairs sent.
        labels: label images received.
        header_mismatches: label images that came twice, or whose stamp, frame id or size is not
            that of a color image sent.
        out_of_order: label images older than the one before, without a jump of the clock between
            them.
        label_mismatches: label images that differ from the first one of the same scene.
        unaccounted: images and pairs that neither became a label image nor appear in the node's
            counters.
        undelivered: images lost while camera and node discovered each other.
        drops: drops that the node counted, by cause.
        recovery_s: longest time from the end of a fault to the next correct label image, by fault.
    """

    frames: int = 0
    labels: int = 0
    header_mismatches: int = 0
    out_of_order: int = 0
    label_mismatches: int = 0
    unaccounted: int = 0
    undelivered: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, float] = field(default_factory=dict)


class CameraNode(Node):
    """Camera driver that publishes best effort."""

    def __init__(self) -> None:
        super().__init__("soak_camera")
        self.rgb = self.create_publisher(Image, "rgb/image_raw", qos_profile_sensor_data)
        self.depth = self.create_publisher(Image, "depth/image_raw", qos_profile_sensor_data)
        self.info = self.create_publisher(CameraInfo, "rgb/camera_info", qos_profile_sensor_data)


class Tester(Node):
    """Camera that sends frames, checks every answer of the node and keeps the ledger.

    Args:
        rng: source of randomness for the scenes.
        alive: raises an exception if the node has ended.
        exact: require the same label image for a scene each time.
    """

    def __init__(self, rng: random.Random, alive: Callable[[], None], exact: bool) -> None:
        super().__init__("soak_tester")
        self.ledger = FrameLedger()
        self.scenes = [_scene(rng, _SIZE) for _ in range(8)]
        self.camera = CameraNode()
        self.now_ns = 1_700_000_000 * 10**9
        self.sent = Counter[str]()  # in this activation
        self.stats: FrameStats | None = None
        self._alive, self._exact = alive, exact
        self._rng = rng
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._sent: dict[int, _Sent] = {}
        self._epoch = 0
        self._last_label = (0, -1)
        self._newest_label: Image | None = None
        self._expected: dict[int, bytes] = {}
        self._settling = False
        self._missing = Counter[str]()  # images lost so far in this activation
        self._drops_seen = Counter[str]()
        self.create_subscription(Image, "/sgnet/labels", self._on_labels, 10)
        self.create_subscription(FrameStats, "/sgnet/stats", self._on_stats, 10)
        self._change = self.create_client(ChangeState, "/sgnet/change_state")
        self._setter = self.create_client(SetParameters, "/sgnet/set_parameters")
        self._reload = self.create_client(Trigger, "/sgnet/reload")
        self._enable = self.create_client(SetBool, "/sgnet/enable")

    # Services of the node.

    def transition(self, transition: int) -> None:
        """Request a lifecycle transition; raise InferenceHang if it fails."""
        request = ChangeState.Request()
        request.transition.id = transition
        if not self._call(self._change, request).success:
            raise InferenceHang(f"transition {transition} failed")

    def set_parameter(self, name: str, value: Any) -> bool:
        """Set a parameter of the node; return False if it was refused."""
        message: ParameterMessage = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[message])
        return bool(self._call(self._setter, request).results[0].successful)

    def reload(self) -> bool:
        """Call ``~/reload``; return whether it succeeded."""
        return bool(self._call(self._reload, Trigger.Request()).success)

    def enable(self, enabled: bool) -> None:
        """Call ``~/enable``."""
        self._call(self._enable, SetBool.Request(data=enabled))

    def _call(self, client: Any, request: Any) -> Any:
        self.wait_until(client.service_is_ready, client.srv_name)
        future = client.call_async(request)
        self.wait_until(future.done, client.srv_name)
        return future.result()

    # Sending.

    def jump(self, nanoseconds: int) -> None:
        """Let the camera's clock jump to a stamp that was not used before."""
        self.now_ns += nanoseconds + self._rng.randint(1, 999)
        self._epoch += 1

    def next_scene(self) -> tuple[Image, Image, int]:
        """Return color, depth and number of a scene, with the next stamp in both."""
        self.now_ns += PERIOD_NS
        number = self._rng.randrange(len(self.scenes))
        rgb, depth = self.scenes[number]
        stamp(rgb, self.now_ns)
        stamp(depth, self.now_ns)
        return rgb, depth, number

    def publish_rgb(self, message: Image, scene: int | None = None) -> None:
        """Publish a color image and enter it in the ledger."""
        at = stamp_ns(message.header)
        if at not in self._sent or self._sent[at].epoch != self._epoch:
            size = (message.height, message.width)
            self._sent[at] = _Sent(message.header.frame_id, size, scene, self._epoch)
        while len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self.sent["rgb"] += 1
        self.camera.rgb.publish(message)

    def publish_depth(self, message: Image) -> None:
        """Publish a depth image and enter it in the ledger."""
        self.sent["depth"] += 1
        self.camera.depth.publish(message)

    def send(self, skew_ns: int = 0) -> int:
        """Publish one good pair, its CameraInfo first; return its stamp."""
        rgb, depth, number = self.next_scene()
        at = self.now_ns
        stamp(depth, at + skew_ns)
        self.camera.info.publish(_camera_info(rgb))
        self.publish_rgb(rgb, number)
        self.publish_depth(depth)
        self.ledger.frames += 1
        return at

    def frame(self) -> None:
        """Send a pair and wait for its label image, at most three seconds."""
        at = self.send()
        end = time.monotonic() + 3
        while not self._sent[at].answered or self._stats_at() != at:
            self._spin()
            if time.monotonic() > end:
                self._alive()
                return  # the ledger counts it

    # Waiting.

    def wait_until(self, done: Callable[[], Any], what: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Spin until ``done`` returns True.

        Raises:
            InferenceHang: it took longer than ``timeout_s``.
        """
        if not spin_until(self._executor, done, timeout_s, self._alive):
            raise InferenceHang(f"no {what} in {timeout_s:.0f} s")

    def wait_for_subscriptions(self) -> None:
        """Spin until the node subscribes to the camera's topics."""
        publishers = (self.camera.rgb, self.camera.depth, self.camera.info)
        self.wait_until(
            lambda: all(p.get_subscription_count() for p in publishers),
            "subscriptions of the node",
            _START_S,
        )

    def wait(self, seconds: float) -> None:
        """Spin for a while."""
        spin_for(self._executor, seconds)

    def settle(self, fault: str) -> None:
        """Send single pairs until the node answers one correctly.

        A pair may be lost on the way, so another one follows if no answer comes. Each time the wait
        is twice as long, because a busy machine may need longer than the first for one answer.
        """
        begin, wait_s = time.monotonic(), 0.3
        self._settling = True

        def is_answered() -> bool:
            scene = self._sent[at].scene
            answered = self._sent[at].answered and self._stats_at() == at
            if not answered or scene is None or self._newest_label is None:
                return False
            expected = self._expected.get(scene) if self._exact else None
            return expected in (None, bytes(self._newest_label.data))

        at = self.send()
        while not is_answered():
            self._alive()
            if time.monotonic() > begin + _TIMEOUT_S:
                raise InferenceHang("no correct label image in a minute")
            end = time.monotonic() + wait_s
            while not is_answered() and time.monotonic() < end:
                self._spin()
            if not is_answered():
                at = self.send()
                wait_s *= 2
        self._settling = False
        took = round(time.monotonic() - begin, 3)
        self.ledger.recovery_s[fault] = max(self.ledger.recovery_s.get(fault, 0.0), took)

    def _spin(self) -> None:
        self._executor.spin_once(timeout_sec=0.02)

    # The ledger.

    def activated(self) -> None:
        """Start the counters from 0, as the node does when it is activated."""
        self.sent.clear()
        self._missing.clear()
        self._drops_seen.clear()

    def account(self, losses_allowed: bool) -> None:
        """Compare the node's counters with the images sent, while none is in flight.

        Args:
            losses_allowed: accept images lost on the way since the last call.
        """
        stats = self.stats
        assert stats is not None
        drops = Counter(dict(zip(stats.drop_causes, map(int, stats.drops), strict=True)))
        self.ledger.drops += drops - self._drops_seen
        self._drops_seen = Counter(drops)
        for kind, received in (("rgb", stats.rgb_received), ("depth", stats.depth_received)):
            missing = self.sent[kind] - int(received)
            lost = abs(missing - self._missing[kind])
            self._missing[kind] = missing
            if losses_allowed:
                self.ledger.undelivered += lost
            else:
                self.ledger.unaccounted += lost
            unmatched = drops.pop(f"unmatched_{kind}", 0)
            self.ledger.unaccounted += abs(int(received - stats.pairs) - unmatched)
        self.ledger.unaccounted += abs(int(stats.pairs - stats.segmented) - sum(drops.values()))

    def _stats_at(self) -> int | None:
        return None if self.stats is None else stamp_ns(self.stats.header)

    def _on_stats(self, message: FrameStats) -> None:
        self.stats = message

    def _on_labels(self, message: Image) -> None:
        ledger, at = self.ledger, stamp_ns(message.header)
        ledger.labels += 1
        sent = self._sent.get(at)
        right_size = sent is not None and (message.height, message.width) == sent.size
        if (
            sent is None
            or sent.answered
            or sent.frame_id != message.header.frame_id
            or not right_size
            or len(message.data) != message.height * message.width
        ):
            ledger.header_mismatches += 1
            return
        sent.answered = True
        ledger.out_of_order += (sent.epoch, at) <= self._last_label
        self._last_label = (sent.epoch, at)
        self._newest_label = message
        if sent.scene is not None and self._exact and not self._settling:
            data = bytes(message.data)
            ledger.label_mismatches += self._expected.setdefault(sent.scene, data) != data

    def close(self) -> None:
        """Destroy camera and tester."""
        self.camera.destroy_node()
        self._executor.shutdown()
        self.destroy_node()


def stamp(message: Image, nanoseconds: int) -> None:
    """Set a message's stamp."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, 10**9)


def _scene(rng: random.Random, size: tuple[int, int]) -> tuple[Image, Image]:
    """Return color and depth of random blocks on a slope."""
    height, width = size
    random_state = np.random.default_rng(rng.getrandbits(32))
    blocks = random_state.integers(0, 256, (height // 12, width // 8, 3), np.uint8)
    rgb = np.kron(blocks, np.ones((12, 8, 1), np.uint8))
    slope = np.linspace(600, random_state.uniform(1500, 5000), width)
    depth = np.broadcast_to(slope, size).astype(np.uint16)
    depth[random_state.random(size) < 0.1] = 0
    header = Header(frame_id=COLOR_FRAME)
    return image_message(rgb, header), image_message(depth, Header(frame_id=COLOR_FRAME))


def _camera_info(image: Image) -> CameraInfo:
    info = CameraInfo(header=image.header, width=image.width, height=image.height)
    f = 0.9 * image.width
    info.k = [f, 0.0, image.width / 2, 0.0, f, image.height / 2, 0.0, 0.0, 1.0]
    return info
