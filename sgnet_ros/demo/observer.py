"""Observer of camera and node: joins and scores their messages, keeps pictures, writes a bag."""

from __future__ import annotations

import functools
import io
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray
from PIL import Image as PilImage
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sgnet_msgs.msg import ClassMap, FrameStats

from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.models.labels import LabelSet
from sgnet_ros.demo.pictures import Picture
from sgnet_ros.messages.class_map import label_set_of
from sgnet_ros.messages.images import depth_view, rgb_view
from sgnet_ros.messages.serialized import parse_header
from sgnet_ros.recordings.bag_writer import BagWriter
from sgnet_ros.recordings.frames import Size
from sgnet_ros.system.qos import best_effort, latched

_KEPT_FRAMES = 32  # latest stamps whose messages are kept
_MAX_PICTURES = 12
_FIRST_INTERVAL_S = 0.5
_JPEG_QUALITY = 90

_STREAM = best_effort(depth=30)


class Observer(Node):
    """Node that subscribes to a camera and to the node `sgnet`.

    Counts, pictures and the bag include frames stamped after `start`; `stats` includes all frames.

    Args:
        bag: receives the node's outputs, with the overlay as JPEG.

    Attributes:
        stats: FrameStats by stamp in ns.
        class_map: latest ClassMap of the node; None before the first one.
        device: device of the node's model; None before the first diagnostics.
        labels: (stamp in ns, frame id) of each label image, in the order of arrival.
        size: width and height of the frame segmented last; None before the first one.
        received: kinds of messages received so far, of `kinds`.
        rgb_headers: stamp in ns → frame id, of the color images.
        pictures: frames spread over the run, at most 12.
        last_activity: time of the last image or statistics, by `time.monotonic`.
        kinds: kinds of messages that camera and node publish for each frame.
    """

    kinds = frozenset({"rgb", "rgb_info", "depth", "labels", "overlay", "camera_info", "stats"})

    def __init__(self, bag: BagWriter) -> None:
        super().__init__("observer")
        self.received: set[str] = set()
        self.stats: dict[int, FrameStats] = {}
        self.class_map: ClassMap | None = None
        self.device: str | None = None
        self.size: Size | None = None
        self.labels: list[tuple[int, str]] = []
        self.rgb_headers: dict[int, str] = {}
        self._confusion: ConfusionMatrix | None = None
        self.last_activity = time.monotonic()
        self._bag = bag
        self._start_ns: int | None = None
        self._frames: OrderedDict[int, dict[str, bytes]] = OrderedDict()
        self.pictures: list[Picture] = []
        self._interval_s = _FIRST_INTERVAL_S
        self._score = False
        for kind, topic in (
            ("rgb", "rgb/image_raw"),
            ("depth", "depth/image_raw"),
            ("truth", "rgb/labels"),
            ("labels", "sgnet/labels"),
            ("overlay", "sgnet/overlay"),
        ):
            self._subscribe(Image, topic, functools.partial(self._on_image, kind))
        self._subscribe(FrameStats, "sgnet/stats", self._on_stats)
        self._subscribe(CameraInfo, "rgb/camera_info", self._on_rgb_info)
        self._subscribe(CameraInfo, "sgnet/camera_info", self._on_camera_info)
        self._subscribe(ClassMap, "sgnet/class_map", self._on_class_map, latched())
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._bag.add_topic("/sgnet/labels", "sensor_msgs/msg/Image")
        self._bag.add_topic("/sgnet/overlay/compressed", "sensor_msgs/msg/CompressedImage")
        self._bag.add_topic("/sgnet/camera_info", "sensor_msgs/msg/CameraInfo")
        self._bag.add_topic("/sgnet/stats", "sgnet_msgs/msg/FrameStats")
        self._bag.add_topic("/sgnet/class_map", "sgnet_msgs/msg/ClassMap", latched=True)

    def start(self, score: bool) -> int:
        """Count from now on; return the current time in ns.

        Args:
            score: compare the labels with ground truth, which is in the node's label set.
        """
        self._start_ns = int(self.get_clock().now().nanoseconds)
        self._score = score
        return self._start_ns

    @property
    def miou(self) -> float | None:
        """Mean IoU over the classes in the ground truth; None without ground truth."""
        if self._confusion is None or not self._confusion.counts.any():
            return None
        return self._confusion.miou

    @property
    def latest(self) -> list[Picture]:
        """The last complete frames of the run, at most 32."""
        return [
            self._picture(stamp, parts)
            for stamp, parts in sorted(self._frames.items())
            if self._needed <= parts.keys()
        ]

    def label_set(self) -> LabelSet:
        """Return the node's classes.

        Raises:
            RuntimeError: the node has not published its class map.
        """
        if self.class_map is None:
            raise RuntimeError("the node has published no class map")
        return label_set_of(self.class_map)

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[bytes], None], qos: QoSProfile = _STREAM
    ) -> None:
        self.create_subscription(kind, topic, callback, qos, raw=True)

    def is_counted(self, stamp: int) -> bool:
        """Return whether a frame with this stamp in ns was sent after `start`."""
        return self._start_ns is not None and stamp >= self._start_ns

    def _record(self, topic: str, data: bytes) -> None:
        if self.is_counted(parse_header(data)[0]):
            self._write(topic, data)

    def _write(self, topic: str, data: bytes) -> None:
        self._bag.write(f"/{topic}", data, time.time_ns())

    def _on_stats(self, data: bytes) -> None:
        self.received.add("stats")
        self.stats[parse_header(data)[0]] = deserialize_message(data, FrameStats)
        self.last_activity = time.monotonic()
        self._record("sgnet/stats", data)

    def _on_rgb_info(self, data: bytes) -> None:
        # It has the header of the image, and unlike the image it is too small to get lost.
        self.received.add("rgb_info")
        stamp, frame = parse_header(data)
        if self.is_counted(stamp):
            self.rgb_headers.setdefault(stamp, frame)

    def _on_camera_info(self, data: bytes) -> None:
        self.received.add("camera_info")
        info = deserialize_message(data, CameraInfo)
        self.size = (info.width, info.height)
        self._record("sgnet/camera_info", data)

    def _on_class_map(self, data: bytes) -> None:
        self.class_map = deserialize_message(data, ClassMap)
        if self._start_ns is not None:
            self._write("sgnet/class_map", data)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if "sgnet" in status.name and status.hardware_id:
                self.device = status.hardware_id

    def _on_image(self, kind: str, data: bytes) -> None:
        self.received.add(kind)
        stamp, frame = parse_header(data)
        self.last_activity = time.monotonic()
        if not self.is_counted(stamp):
            return
        if kind == "rgb":
            self.rgb_headers[stamp] = frame
        elif kind == "labels":
            if not self.labels and self.class_map is not None:  # received before the bag began
                self._write("sgnet/class_map", serialize_message(self.class_map))
            self.labels.append((stamp, frame))
            self._write("sgnet/labels", data)
        elif kind == "overlay":
            self._write("sgnet/overlay/compressed", _jpeg(data))
        parts = self._frames.setdefault(stamp, {})
        parts[kind] = data
        if len(self._frames) > _KEPT_FRAMES:
            self._frames.popitem(last=False)
        if self._score and kind in ("labels", "truth") and {"labels", "truth"} <= parts.keys():
            self._add_score(parts)
        if self._needed <= parts.keys():
            self._keep_picture(stamp, parts)

    def _add_score(self, parts: dict[str, bytes]) -> None:
        if self._confusion is None:
            self._confusion = ConfusionMatrix(len(self.label_set()))
        self._confusion.update(_mask(parts["truth"]), _mask(parts["labels"]))

    @property
    def _needed(self) -> set[str]:
        """Kinds of images that a picture needs."""
        return {"rgb", "depth", "labels", "overlay"} | ({"truth"} if self._score else set())

    def _picture(self, stamp: int, parts: dict[str, bytes]) -> Picture:
        return Picture(
            stamp_ns=stamp,
            rgb=_color(parts["rgb"]),
            depth=depth_view(_image(parts["depth"])).array,
            labels=_mask(parts["labels"]),
            overlay=_color(parts["overlay"]),
            truth=_mask(parts["truth"]) if self._score else None,
        )

    def _keep_picture(self, stamp: int, parts: dict[str, bytes]) -> None:
        """Keep one picture per interval; drop every other one when there are too many."""
        last = self.pictures[-1].stamp_ns if self.pictures else 0
        if stamp - last < self._interval_s * 1e9:
            return
        self.pictures.append(self._picture(stamp, parts))
        if len(self.pictures) > _MAX_PICTURES:
            self.pictures = self.pictures[::2]
            self._interval_s *= 2


def _image(data: bytes) -> Any:
    return deserialize_message(data, Image)


def _color(data: bytes) -> npt.NDArray[np.uint8]:
    return rgb_view(_image(data)).array


def _mask(data: bytes) -> npt.NDArray[np.uint8]:
    mask: npt.NDArray[np.uint8] = _color(data)[:, :, 0]
    return mask


def _jpeg(data: bytes) -> bytes:
    """Return a serialized Image as a serialized CompressedImage."""
    image = _image(data)
    file = io.BytesIO()
    PilImage.fromarray(np.ascontiguousarray(rgb_view(image).array)).save(
        file, "JPEG", quality=_JPEG_QUALITY, subsampling=0
    )
    message = CompressedImage(header=image.header, format="rgb8; jpeg compressed rgb8")
    message.data.frombytes(file.getbuffer())
    return bytes(serialize_message(message))
