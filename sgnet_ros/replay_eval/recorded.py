"""Images of a bag, ready to be published to the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_ros.messages.images import DEPTH_ENCODINGS, ImageError, image_message
from sgnet_ros.recordings.bag_geometry import BagGeometry
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.matching import matched, stamp_ns


class Item(NamedTuple):
    """One image of a bag: when it was recorded, its kind (rgb, depth), and its stamp.

    ``message`` is None where the image can't be read; ``camera`` is that of the color image, None
    where it isn't known.
    """

    time_ns: int
    kind: str
    stamp_ns: int
    message: Image | None
    camera: Intrinsics | None


def readable(pair: tuple[Item, Item]) -> bool:
    """Return whether both images of a frame can be read."""
    return all(item.message is not None for item in pair)


def recorded_pairs(source: BagSource) -> Iterator[tuple[Item, Item]]:
    """Yield color and depth of the frames of a bag, under the same stamp.

    Raises:
        NoPairsError: it holds none.
    """
    geometry = source.geometry
    with Bag(source.path) as bag:
        for match in matched(bag, source.topics, geometry.info_topic):
            stamp, camera = match.stamp_ns, geometry.camera(match.info)
            rgb, depth = (
                _prepared(geometry, kind, message)
                for kind, message in (("rgb", match.rgb), ("depth", match.depth))
            )
            yield Item(stamp, "rgb", stamp, rgb, camera), Item(stamp, "depth", stamp, depth, camera)


def recorded_items(source: BagSource) -> Iterator[Item]:
    """Yield every color and depth image of a bag by the time of its recording."""
    topics, geometry = source.topics, source.geometry
    camera = geometry.rgb
    names = [name for name in (topics.rgb, topics.depth, geometry.info_topic) if name]
    with Bag(source.path) as bag:
        for topic, time_ns, message in bag.messages(names):
            if topic == geometry.info_topic:
                camera = geometry.camera(message)
                continue
            kind = "rgb" if topic == topics.rgb else "depth"
            stamp = stamp_ns(message, time_ns)
            yield Item(time_ns, kind, stamp, _prepared(geometry, kind, message), camera)


def _prepared(geometry: BagGeometry, kind: str, message: Any) -> Image | None:
    """Return the image as it was recorded where the node can take that; else decoded, registered.

    None where it can't be read or is of another size than its camera.
    """
    encoding = getattr(message, "encoding", "")
    try:
        if kind == "rgb":
            pixels = geometry.color(message)
            return _copied(message) if encoding else image_message(pixels, Header())
        if geometry.as_recorded and encoding in DEPTH_ENCODINGS:
            geometry.recorded_depth(message)  # raises where it can't be read
            return _copied(message)
        return image_message(geometry.registered(message), Header())
    except ImageError:
        return None


def _copied(message: Any) -> Image:
    """Return a bag's image as a message that can be published."""
    copy = Image(
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        is_bigendian=message.is_bigendian,
        step=message.step,
    )
    copy.data.frombytes(np.ascontiguousarray(message.data).data.cast("B"))
    return copy
