"""A replay distinguishes frames that the node drops from those that get lost on the way."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from sgnet_msgs.msg import ClassMap, FrameStats

from bag_messages import HEIGHT, MS, WIDTH, Maker, Messages, colors, depths
from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.messages.images import image_message
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.replay_eval import play
from sgnet_ros.replay_eval.play import Player
from sgnet_ros.replay_eval.recorded import Recording
from sgnet_ros.system.domains import free_domain
from sgnet_ros.system.qos import best_effort, latched

COUNT = 6
STAMPS = [10**12 + i * 100 * MS for i in range(COUNT)]


class ScriptedNode:
    """Stands for the segmentation node: answers pairs of equal and increasing stamps.

    Args:
        context: of the domain to work in.
        refused: stamps of pairs that it drops as ``bad_depth``.
        lost: how many times the depth image of a stamp gets lost.
    """

    def __init__(self, context: Context, refused: set[int], lost: dict[int, int]) -> None:
        self.node = Node("scripted", namespace="/sgnet", context=context)
        self.answered: list[int] = []
        self._refused, self._lost = refused, Counter(lost)
        self._rgb: dict[int, Image] = {}
        self._newest = self._received = self._pairs = 0
        self._drops: Counter[str] = Counter()
        self._labels = self.node.create_publisher(Image, "labels", 10)
        self._stats = self.node.create_publisher(FrameStats, "stats", 10)
        self._classes = self.node.create_publisher(ClassMap, "class_map", latched())
        self._classes.publish(ClassMap(names=["a"], ids=[0], label_set="one", model="m"))
        self.node.create_subscription(Image, "/cam/color/image_raw", self._on_rgb, best_effort(50))
        self.node.create_subscription(Image, "/cam/depth/image", self._on_depth, best_effort(50))
        self.infos: list[CameraInfo] = []
        self.node.create_subscription(
            CameraInfo, "/cam/color/camera_info", self.infos.append, best_effort(50)
        )
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def stop(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def _on_rgb(self, message: Image) -> None:
        self._received += 1
        self._rgb[stamp_ns(message.header)] = message

    def _on_depth(self, message: Image) -> None:
        stamp = stamp_ns(message.header)
        if self._lost[stamp] > 0:
            self._lost[stamp] -= 1
            return
        rgb = self._rgb.pop(stamp, None)
        if rgb is None or stamp <= self._newest:
            return
        self._newest, self._pairs = stamp, self._pairs + 1
        if stamp in self._refused:
            self._drops["bad_depth"] += 1
            return
        self.answered.append(stamp)
        stats = FrameStats(header=rgb.header, rgb_received=self._received, pairs=self._pairs)
        stats.segmented = self._pairs - self._drops.total()
        stats.drop_causes, stats.drops = list(self._drops), list(self._drops.values())
        self._labels.publish(image_message(np.zeros((HEIGHT, WIDTH), np.uint8), rgb.header))
        self._stats.publish(stats)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A domain of its own, in which the player works by default."""
    domain = free_domain()
    rclpy.init(domain_id=domain)
    yield domain
    rclpy.try_shutdown()


def bag(path: Path, **kwargs: Any) -> BagSource:
    make = Maker(2)
    messages: Messages = []
    for i, stamp in enumerate(STAMPS):
        depth = np.ones((3, 3), np.uint16) if i in kwargs.get("odd", ()) else depths(i)
        messages += [
            ("/cam/color/image_raw", stamp, make.image(colors(i), "rgb8", stamp)),
            ("/cam/color/camera_info", stamp, make.info(stamp)),
            ("/cam/depth/image", stamp, make.image(depth, "16UC1", stamp)),
        ]
    return BagSource(make.write(path, messages))


def played(
    source: BagSource, domain: int, refused: set[int] = frozenset(), lost: Any = ()
) -> tuple[Player, ScriptedNode]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = ScriptedNode(context, refused, dict(lost))
    player = Player(Recording(source), lambda: None, lambda done: None)
    try:
        player.wait_for_classes()
        player.connect()
        player.play_lossless()
    finally:
        node.stop()
        context.try_shutdown()
        player.destroy_node()
    return player, node


def test_every_frame_is_answered_once(domain: int, tmp_path: Path) -> None:
    player, node = played(bag(tmp_path / "a.mcap"), domain)
    answers = player.answers
    assert answers.sent == STAMPS == sorted(answers.latency_ms) == sorted(answers.stats)
    assert answers.dropped == {}
    assert all(answers.labels(stamp) is not None for stamp in STAMPS)
    assert node.infos[-1].k[0] == 10


def test_drops_and_losses_are_distinguished(
    domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "_RESEND_S", 0.5)
    lost = {STAMPS[2]: 1}  # once: it is sent again
    source = bag(tmp_path / "a.mcap", odd=[4])
    player, node = played(source, domain, refused={STAMPS[1], STAMPS[5]}, lost=lost)
    answers = player.answers
    assert answers.sent == STAMPS
    assert sorted(answers.latency_ms) == [STAMPS[i] for i in (0, 2, 3)]
    assert answers.dropped == {"bad_depth": 2, "unreadable": 1}
    assert STAMPS[2] not in node.answered  # but its images under another stamp
    assert answers.labels(STAMPS[2]) is not None
