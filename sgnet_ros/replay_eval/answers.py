"""Answers and counters of the node during the replay of a bag."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from sgnet_msgs.msg import FrameStats

from sgnet_ros.messages.images import rgb_view

UNREADABLE = "unreadable"
"""Cause of frames that are damaged in the bag."""


class ReplayError(RuntimeError):
    """Failure of a replay; the message gives the reason."""


class Totals(NamedTuple):
    """Counters of the node since its activation.

    ``dropped`` counts the pairs that did not become a label image, by cause.
    """

    rgb: int
    pairs: int
    dropped: dict[str, int]

    @classmethod
    def of(cls, stats: FrameStats) -> Totals:
        """Return the counters in FrameStats."""
        drops = zip(stats.drop_causes, map(int, stats.drops), strict=True)
        dropped = {cause: n for cause, n in drops if not cause.startswith("unmatched")}
        return cls(int(stats.rgb_received), int(stats.pairs), dropped)

    @property
    def frame_drops(self) -> dict[str, int]:
        """Drops of frames sent one by one: without overload, which only the shown frame causes."""
        return {cause: n for cause, n in self.dropped.items() if cause != "overload"}


@dataclass
class Answers:
    """Answers of the node to a bag.

    Attributes:
        sent: stamps in ns of the color images, in order.
        latency_ms: latency of each label image received, by stamp.
        stats: FrameStats by stamp.
        dropped: number of unanswered frames, by cause.
        seconds: time from the first image sent to the last label image.
    """

    sent: list[int] = field(default_factory=list)
    latency_ms: dict[int, float] = field(default_factory=dict)
    stats: dict[int, FrameStats] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _masks: dict[int, bytes] = field(default_factory=dict)

    def keep(self, stamp: int, data: bytes) -> None:
        """Keep a serialized label image; compressed, because a bag has thousands."""
        self._masks[stamp] = zlib.compress(data, 1)

    def labels(self, stamp: int) -> npt.NDArray[np.uint8] | None:
        """Return the (H, W) class ids of a label image; None if the node did not answer."""
        if stamp not in self._masks:
            return None
        message = deserialize_message(zlib.decompress(self._masks[stamp]), Image)
        mask: npt.NDArray[np.uint8] = rgb_view(message).array[:, :, 0]
        return mask
