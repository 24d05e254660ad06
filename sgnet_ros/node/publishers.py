"""Outputs of the node: labels for every frame, other outputs while they have subscribers."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from sgnet_msgs.msg import ClassMap, FrameStats
from std_msgs.msg import Header

from sgnet_core.inference.segmenter import Prediction
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import LabelSet
from sgnet_ros.messages.clouds import selected_points
from sgnet_ros.messages.compressed import compressed_message
from sgnet_ros.messages.images import ImageArray, image_message
from sgnet_ros.messages.label_messages import class_map, label_info, vision_msgs
from sgnet_ros.system.names import OUTPUTS
from sgnet_ros.system.qos import latched, overridable, reliable

_DEPTH = 5  # frames that a slow reliable subscriber may fall behind


class Publishers:
    """The output topics of a node, under its private name.

    Images have the size and the unchanged header of the input image, and unpadded rows.

    Args:
        node: gets the publishers.
        offered: members of `OUTPUTS` to publish; the publishers of the others are None.
    """

    def __init__(self, node: Node, offered: Collection[str] = OUTPUTS) -> None:
        self._node = node

        # One profile per publisher, because rclpy writes the topic's overrides into it.
        options: dict[str, Any] = {"qos_overriding_options": overridable()}
        self.labels = self.confidence = self.overlay = self.color = None
        self.points = self.obstacles = self.ground = None
        self.labels_png = self.overlay_jpeg = None
        if "labels" in offered:
            self.labels = node.create_publisher(Image, "~/labels", reliable(_DEPTH), **options)
            self.labels_png = node.create_publisher(
                CompressedImage, "~/labels/compressed", reliable(_DEPTH), **options
            )
        if "confidence" in offered:
            self.confidence = node.create_publisher(
                Image, "~/confidence", reliable(_DEPTH), **options
            )
        if "overlay" in offered:
            self.overlay = node.create_publisher(Image, "~/overlay", reliable(_DEPTH), **options)
            self.overlay_jpeg = node.create_publisher(
                CompressedImage, "~/overlay/compressed", reliable(_DEPTH), **options
            )
        if "color" in offered:
            self.color = node.create_publisher(Image, "~/color", reliable(_DEPTH), **options)
        if "points" in offered:
            self.points = node.create_publisher(
                PointCloud2, "~/points", reliable(_DEPTH), **options
            )
        if "obstacles" in offered:
            self.obstacles = node.create_publisher(
                PointCloud2, "~/obstacles", reliable(_DEPTH), **options
            )
        if "ground" in offered:
            self.ground = node.create_publisher(
                PointCloud2, "~/ground", reliable(_DEPTH), **options
            )
        self.camera_info = node.create_publisher(
            CameraInfo, "~/camera_info", reliable(_DEPTH), **options
        )
        self.class_map = node.create_publisher(ClassMap, "~/class_map", latched(), **options)
        self.label_info = None  # where vision_msgs isn't installed
        if vision := vision_msgs():
            self.label_info = node.create_publisher(
                vision.LabelInfo, "~/label_info", latched(), **options
            )
        self.stats = node.create_publisher(FrameStats, "~/stats", reliable(_DEPTH), **options)

    @property
    def has_subscribers(self) -> bool:
        """True while somebody subscribes to a topic that has one message per frame."""
        return any(map(_has_subscribers, self._per_frame()))

    @property
    def wants_confidence(self) -> bool:
        """True while somebody subscribes to ~/confidence, or to a cloud, which contains it too."""
        return _has_subscribers(self.confidence) or self.wants_points

    @property
    def wants_points(self) -> bool:
        """True while somebody subscribes to ~/points, ~/obstacles or ~/ground."""
        return any(map(_has_subscribers, (self.points, self.obstacles, self.ground)))

    @property
    def wants_overlay(self) -> bool:
        """True while somebody subscribes to ~/overlay or ~/overlay/compressed."""
        return _has_subscribers(self.overlay) or _has_subscribers(self.overlay_jpeg)

    def publish_frame(
        self,
        header: Header,
        prediction: Prediction,
        labels: LabelSet,
        camera_info: CameraInfo | None,
    ) -> int:
        """Publish one frame's images and its CameraInfo, if one is known.

        Labels are published for every frame, the other images if they have subscribers and the
        prediction contains them.

        Args:
            header: header of the RGB image.
            prediction: result for that image.
            labels: give ``~/color`` its exact palette colors.
            camera_info: calibration of the RGB camera; published with the image's header.

        Returns:
            Number of image copies made.
        """
        color = labels.colorize(prediction.labels) if _has_subscribers(self.color) else None
        # The prediction lacks an output that got its first subscriber during inference.
        others = (
            (self.confidence, prediction.confidence),
            (self.overlay, prediction.overlay),
            (self.color, color),
        )
        images: list[tuple[Publisher | None, ImageArray | None]] = [
            (self.labels, prediction.labels),
            *(each for each in others if _has_subscribers(each[0])),
        ]
        copies = 0
        for publisher, image in images:
            if publisher is not None and image is not None:
                publisher.publish(image_message(image, header))
                copies += 1
        if self.labels_png is not None and _has_subscribers(self.labels_png):
            self.labels_png.publish(compressed_message(prediction.labels, header, "png"))
        overlay, jpeg = prediction.overlay, self.overlay_jpeg
        if jpeg is not None and overlay is not None and _has_subscribers(jpeg):
            jpeg.publish(compressed_message(overlay, header, "jpeg"))
        if camera_info is not None:
            stamped = copy.copy(camera_info)
            stamped.header = header
            self.camera_info.publish(stamped)
        return copies

    def publish_clouds(self, cloud: PointCloud2, obstacles: list[int], ground: list[int]) -> None:
        """Publish the clouds that have subscribers.

        Args:
            cloud: one point per pixel.
            obstacles: class ids of ``~/obstacles``.
            ground: class ids of ``~/ground``.
        """
        if self.points is not None and _has_subscribers(self.points):
            self.points.publish(cloud)
        if self.obstacles is not None and _has_subscribers(self.obstacles):
            self.obstacles.publish(selected_points(cloud, obstacles))
        if self.ground is not None and _has_subscribers(self.ground):
            self.ground.publish(selected_points(cloud, ground))

    def publish_class_map(self, info: ModelInfo) -> None:
        """Publish, latched, the names and colors of the ids in ~/labels."""
        stamp = self._node.get_clock().now().to_msg()
        self.class_map.publish(class_map(info, stamp))
        if self.label_info is not None:
            self.label_info.publish(label_info(info, stamp))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (*self._per_frame(), self.class_map, self.label_info):
            if publisher is not None:
                self._node.destroy_publisher(publisher)

    def _per_frame(self) -> tuple[Publisher | None, ...]:
        return (
            *(self.labels, self.labels_png, self.confidence, self.overlay, self.overlay_jpeg),
            *(self.color, self.points, self.obstacles, self.ground, self.camera_info, self.stats),
        )


def _has_subscribers(publisher: Publisher | None) -> bool:
    return publisher is not None and publisher.get_subscription_count() > 0
