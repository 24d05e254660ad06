"""Detection of images lost between driver and node, from gaps in their stamps."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

from rclpy.utilities import get_rmw_implementation_identifier

from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.system.environment import profile_variable

_LARGE = 512 << 10  # bytes: Fast DDS's default shared-memory segment
_WINDOW = 60  # intervals: 2 s at 30 Hz
_STEADY = 0.2  # of a period: largest distance of an interval from a multiple of the period
_STEADY_SHARE = 0.9  # of the intervals
_LOSS = 0.1  # share of lost images from which the node warns
_SCATTERED = 8  # changes between gaps and no gaps; a camera that changes its rate has only one


@dataclass(frozen=True)
class Losses:
    """Lost images in a window of stamps.

    Attributes:
        sent: images that the camera took in the window.
        received: number of these that arrived.
        rate_hz: the camera's rate.
    """

    sent: int
    received: int
    rate_hz: float


class LossWatch:
    """Find lost images of one topic: scattered gaps in stamps that come at a steady rate."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._intervals: deque[int] = deque(maxlen=_WINDOW)

    def note(self, stamp: int) -> None:
        """Record the stamp of a received image, nanoseconds; a jump back clears the window."""
        last, self._last = self._last, stamp
        if last is None:
            return
        if stamp <= last:
            self._intervals.clear()
            return
        self._intervals.append(stamp - last)

    def receive(self, message: Any) -> None:
        """Record an image if it is so large that middlewares lose it at best effort."""
        if len(message.data) > _LARGE:
            self.note(stamp_ns(message.header))

    def losses(self) -> Losses | None:
        """Return the losses; None if they are small, or the rate is too unsteady to tell."""
        if len(self._intervals) < _WINDOW:
            return None
        ordered = sorted(self._intervals)
        shortest = ordered[_WINDOW // 10]  # some of the shortest are jitter
        period = statistics.median(i for i in ordered if i < 1.5 * shortest)
        frames = [max(1, round(interval / period)) for interval in self._intervals]
        steady = [
            abs(interval / period - number) < _STEADY
            for interval, number in zip(self._intervals, frames, strict=True)
        ]
        holes = [number > 1 for number in frames]
        changes = sum(a != b for a, b in itertools.pairwise(holes))
        sent, received = sum(frames), len(frames)
        if (
            sum(steady) < _STEADY_SHARE * received
            or changes < _SCATTERED
            or sent - received < _LOSS * sent
        ):
            return None
        return Losses(sent, received, 1e9 / period)


def warning(topic: str, losses: Losses) -> str:
    """Return a warning about the lost images of a topic, with the remedy."""
    text = (
        f"{topic}: {losses.sent - losses.received} of {losses.sent} images did not arrive (camera "
        f"{losses.rate_hz:.1f} Hz, by the stamps). "
    )
    if "fastrtps" not in get_rmw_implementation_identifier():
        return text + "Raise the kernel's network buffers: see docs/troubleshooting.md"
    variable, path = profile_variable()
    return (
        f"{text}Fast DDS loses large images at best effort: start the driver with "
        f"{variable}={path}, or launch it after this node with dds_profile:=launch"
    )
