"""Image topics of a bag: color, depth and labels, told apart by encoding and name."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from sgnet_ros.messages.images import COLOR_ENCODINGS, DEPTH_ENCODINGS, GRAY_ENCODINGS
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError

Kind = Literal["color", "gray", "depth", "labels", "infrared", "output", "other"]

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"

_FIRST_IMAGES = 10  # of a topic, in case the first ones are empty
# Drivers publish infrared, amplitude and confidence images in the encodings of depth and gray.
_NOT_A_SCENE = re.compile(
    r"(^|[/_])(ir\d?|nir|infra\w*|amplitude|intensity|reflec\w*|confidence|disparity)([/_]|$)"
)
_REGISTERED = ("aligned", "registered", "to_rgb", "to_color")


class BagTopics(NamedTuple):
    """Names of the topics of a frame; ``labels`` is the ground truth, or None."""

    rgb: str
    depth: str
    labels: str | None


def find_topics(
    bag: Bag, rgb: str | None = None, depth: str | None = None, labels: str | None = None
) -> BagTopics:
    """Find color, depth and label images by encoding and name.

    Gray images count as color if the bag holds no color images.

    Args:
        bag: the recording.
        rgb, depth, labels: topics that the caller chooses.

    Raises:
        BagError: no topic or several topics fit; the message lists the candidates. Without a single
            topic that fits, labels are None instead, because they are not always needed: see
            `label_topics`.
    """
    kinds = _kinds(bag)
    for topic in (rgb, depth, labels):
        if topic is not None and topic not in bag.topics:
            raise BagError(
                f"{bag.path} has no topic {topic}; it has images on {_listed(bag, kinds)}"
            )
    masks = [topic for topic, kind in kinds.items() if kind == "labels"]
    color: Kind = "color" if "color" in kinds.values() else "gray"
    return BagTopics(
        rgb=rgb or _only(bag, kinds, color, ("color", "rgb"), "--rgb-topic"),
        depth=depth or _only(bag, kinds, "depth", _REGISTERED, "--depth-topic"),
        labels=labels or (masks[0] if len(masks) == 1 else None),
    )


def label_topics(bag: Bag) -> list[str]:
    """Return topics that may hold ground truth: label images of no segmentation node."""
    return [topic for topic, kind in _kinds(bag).items() if kind == "labels"]


def _kinds(bag: Bag) -> dict[str, Kind]:
    """Return the kind of the images on each topic."""
    kinds = {t: _kind(bag, t) for t in bag.of_type(IMAGE, COMPRESSED)}
    # Drivers publish an image raw and compressed under one base name; the raw one is exact.
    raw = {t for t in kinds if bag.topics[t] == IMAGE}
    return {t: k for t, k in kinds.items() if t in raw or t.rpartition("/")[0] not in raw}


def _kind(bag: Bag, topic: str) -> Kind:
    encoding, codec = _encoding(bag, topic)
    if _is_node_output(bag, topic):
        return "output"
    if encoding in DEPTH_ENCODINGS:
        return "infrared" if _NOT_A_SCENE.search(topic) else "depth"
    if encoding in GRAY_ENCODINGS:
        if "label" in topic:
            return "labels"
        return "infrared" if _NOT_A_SCENE.search(topic) else "gray"
    return "color" if encoding in COLOR_ENCODINGS or codec in ("jpeg", "any") else "other"


def _is_node_output(bag: Bag, topic: str) -> bool:
    """Return whether a segmentation node published the images, with FrameStats beside them."""
    base = topic.removesuffix("/compressed")
    return str(PurePosixPath(base).with_name("stats")) in bag.topics


def _encoding(bag: Bag, topic: str) -> tuple[str, str]:
    """Return encoding and codec (``jpeg``, or ``any`` if it is not named) of the first image."""
    message: Any = None
    for _, _, message in islice(bag.messages([topic]), _FIRST_IMAGES):
        if len(message.data):
            break
    if message is None:
        raise BagError(f"{bag.path} is damaged: no message on {topic} can be read")
    if hasattr(message, "encoding"):
        return message.encoding, "raw"
    # CompressedImage: "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth", or just "jpeg"
    encoding, _, codec = message.format.partition(";")
    if encoding in (*DEPTH_ENCODINGS, *GRAY_ENCODINGS):
        return encoding, codec
    return encoding, "jpeg" if "jpeg" in codec else codec or "any"


def _only(
    bag: Bag, kinds: dict[str, Kind], kind: Kind, preferred: tuple[str, ...], flag: str
) -> str:
    """Return the one topic of a kind; among several, the one whose name holds a preferred word."""
    candidates = [t for t, k in kinds.items() if k == kind]
    if not candidates:
        name = "color" if kind == "gray" else kind
        raise BagError(f"{bag.path} has no {name} image; it has images on {_listed(bag, kinds)}")
    if len(candidates) > 1:
        named = [t for t in candidates if any(word in t for word in preferred)]
        if len(named) != 1:
            raise BagError(
                f"{bag.path} has several {kind} images: {', '.join(candidates)}; "
                f"choose one with {flag}"
            )
        candidates = named
    return candidates[0]


def _listed(bag: Bag, kinds: dict[str, Kind]) -> str:
    """List the topics with the kind of their images, or the encoding if it is not supported."""
    named = (f"encoding {_encoding(bag, t)[0]!r}" if k == "other" else k for t, k in kinds.items())
    return ", ".join(f"{t} ({what})" for t, what in zip(kinds, named, strict=True)) or "no topic"
