from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.inference.segmenter import Prediction
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import NYU40, LabelSet
from sgnet_ros.messages.clouds import point_cloud, read_points
from sgnet_ros.messages.compressed import compressed_rgb_view
from sgnet_ros.messages.label_messages import class_map
from sgnet_ros.node.publishers import Publishers

LABELS = LabelSet("three", ("floor", "wall", "chair"), ((1, 2, 3), (250, 0, 128), (9, 99, 255)))


@pytest.fixture
def node() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("sgnet", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


@dataclass
class Recorder:
    """Stands in for a publisher that ``listeners`` subscribe to."""

    listeners: int
    published: list[Any]

    def get_subscription_count(self) -> int:
        return self.listeners

    def publish(self, message: Any) -> None:
        self.published.append(message)


RECORDED = (
    *("labels", "confidence", "overlay", "color", "camera_info", "stats"),
    *("labels_png", "overlay_jpeg", "points", "obstacles", "ground"),
)


def recording(node: Any, **listeners: int) -> Publishers:
    publishers = Publishers(node)
    for name in RECORDED:
        setattr(publishers, name, Recorder(listeners.get(name, 0), []))
    return publishers


def prediction(**parts: Any) -> Prediction:
    labels = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)
    empty = {"confidence": None, "scores": None, "overlay": None}
    return Prediction(labels=labels, **{**empty, **parts}, stages_ms={})


def header() -> Header:
    return Header(stamp=Time(sec=7, nanosec=8), frame_id="optical")


def test_labels_are_published_with_and_without_subscribers(node: Any) -> None:
    publishers = recording(node)
    assert publishers.publish_frame(header(), prediction(), LABELS, None) == 1
    (message,) = publishers.labels.published
    assert message.header == header()
    assert (message.encoding, message.step) == ("mono8", 3)
    assert list(message.data) == [0, 1, 2, 2, 255, 1]
    for other in ("confidence", "overlay", "color", "camera_info"):
        assert getattr(publishers, other).published == [], other


@pytest.mark.parametrize("name", RECORDED)
def test_a_subscriber_to_any_topic_with_a_message_per_frame_counts(node: Any, name: str) -> None:
    assert not recording(node).has_subscribers
    assert recording(node, **{name: 1}).has_subscribers


def test_subscribers_to_the_classes_do_not_count(node: Any) -> None:
    publishers = recording(node)
    publishers.class_map = publishers.label_info = Recorder(1, [])
    assert not publishers.has_subscribers


def test_color_has_the_exact_palette_and_black_where_there_is_no_label(node: Any) -> None:
    publishers = recording(node, color=1)
    assert publishers.publish_frame(header(), prediction(), LABELS, None) == 2
    (message,) = publishers.color.published
    assert message.encoding == "rgb8"
    floor, wall, chair = LABELS.colors
    expected = [*floor, *wall, *chair, *chair, 0, 0, 0, *wall]
    assert list(message.data) == expected
    assert message.header == header()


def test_images_of_the_prediction_are_published_unchanged(node: Any) -> None:
    publishers = recording(node, confidence=1, overlay=2)
    assert publishers.wants_confidence
    assert publishers.wants_overlay
    confidence = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    overlay = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    parts = prediction(confidence=confidence, overlay=overlay)
    assert publishers.publish_frame(header(), parts, LABELS, None) == 3
    assert list(publishers.confidence.published[0].data) == [0, 40, 80, 120, 160, 200]
    assert list(publishers.overlay.published[0].data) == list(range(18))
    assert publishers.overlay.published[0].encoding == "rgb8"


def test_the_camera_info_gets_the_images_header_and_its_own_stays(node: Any) -> None:
    publishers = recording(node)
    info = CameraInfo(width=3, height=2, distortion_model="plumb_bob", d=[0.1, 0.0])
    info.header.frame_id = "elsewhere"
    publishers.publish_frame(header(), prediction(), LABELS, info)
    (message,) = publishers.camera_info.published
    assert message.header == header()
    assert info.header.frame_id == "elsewhere"
    message.header = info.header
    assert message == info


def test_topics_are_private_and_the_class_map_is_latched(node: Any) -> None:
    publishers = Publishers(node)
    assert publishers.labels.topic_name == "/sgnet/labels"
    (info,) = node.get_publishers_info_by_topic("/sgnet/class_map")
    assert info.qos_profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    assert info.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    (info,) = node.get_publishers_info_by_topic("/sgnet/labels")
    assert info.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    assert not publishers.wants_confidence
    assert not publishers.wants_overlay
    publishers.destroy()
    assert node.get_publishers_info_by_topic("/sgnet/labels") == []


def test_an_output_that_is_not_offered_has_no_topic_and_costs_nothing(node: Any) -> None:
    publishers = Publishers(node, ["overlay"])
    topics = {name for name, _ in node.get_topic_names_and_types() if name.startswith("/sgnet/")}
    assert topics >= {"/sgnet/overlay", "/sgnet/camera_info", "/sgnet/class_map", "/sgnet/stats"}
    assert topics.isdisjoint({f"/sgnet/{n}" for n in ("labels", "confidence", "color", "points")})
    publishers.overlay = Recorder(1, [])
    assert publishers.wants_overlay
    assert not publishers.wants_confidence and not publishers.wants_points
    overlay = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    parts = prediction(confidence=np.zeros((2, 3), np.uint8), overlay=overlay)
    assert publishers.publish_frame(header(), parts, LABELS, None) == 1
    assert list(publishers.overlay.published[0].data) == list(range(18))


def test_the_class_map_names_and_colors_every_id() -> None:
    info: Any = SimpleNamespace(name="m", labels=LABELS)
    message = class_map(info, Time(sec=5))
    assert (message.model, message.label_set, message.ignore_id) == ("m", "three", 255)
    assert list(message.ids) == [0, 1, 2]
    assert list(message.names) == ["floor", "wall", "chair"]
    first, second, _ = message.colors
    assert (first.r, first.g, first.b, first.a) == pytest.approx((1 / 255, 2 / 255, 3 / 255, 1))
    assert second.b == pytest.approx(128 / 255)
    assert message.header.stamp.sec == 5
    full = class_map(ModelInfo("n", NYU40), Time())
    assert len(full.ids) == len(full.names) == len(full.colors) == 40


def test_compressed_images_are_published_only_to_their_subscribers(node: Any) -> None:
    publishers = recording(node, labels_png=1, overlay_jpeg=1)
    assert publishers.wants_overlay
    overlay = np.full((2, 3, 3), 90, np.uint8)
    publishers.publish_frame(header(), prediction(overlay=overlay), LABELS, None)
    (labels,), (picture,) = publishers.labels_png.published, publishers.overlay_jpeg.published
    np.testing.assert_array_equal(compressed_rgb_view(labels).array[..., 0], prediction().labels)
    assert np.abs(compressed_rgb_view(picture).array.astype(int) - 90).max() <= 2
    assert labels.header == picture.header == header()
    assert publishers.overlay.published == [], "nobody subscribes to the raw image"
    silent = recording(node)
    silent.publish_frame(header(), prediction(overlay=overlay), LABELS, None)
    assert silent.labels_png.published == silent.overlay_jpeg.published == []


def test_clouds_contain_the_classes_of_their_names(node: Any) -> None:
    publishers = recording(node, points=0, obstacles=1, ground=1)
    assert publishers.wants_points and publishers.wants_confidence
    labels = prediction().labels
    camera = Camera(Intrinsics(3.0, 3.0, 1.0, 0.5, 3, 2))
    cloud = point_cloud(
        header(), np.ones((2, 3), np.float32), camera, np.zeros((2, 3, 3), np.uint8), labels, labels
    )
    publishers.publish_clouds(cloud, obstacles=[2], ground=[0, 1])
    assert publishers.points.published == []
    assert read_points(publishers.obstacles.published[0])["label"].tolist() == [[2, 2]]
    assert read_points(publishers.ground.published[0])["label"].tolist() == [[0, 1, 1]]
