"""RGB-D frames and their sources, without ROS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgnet_core.geometry.intrinsics import Intrinsics

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class CameraFrame:
    """One RGB-D frame of a camera, with depth registered to color.

    Attributes:
        rgb: (H, W, 3) uint8 RGB.
        depth: (H, W) uint16 millimeters, 0 = no measurement.
        labels: (H, W) uint8 ground truth, 255 = unlabeled; None if there is none.
        intrinsics: intrinsics of the color image; None if unknown.
        stamp_ns: time of exposure in nanoseconds; None if unknown.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8] | None
    intrinsics: Intrinsics | None
    stamp_ns: int | None = None

    def resized(self, size: Size) -> CameraFrame:
        """Return the frame at another size; depth and labels take the nearest pixel."""
        width, height = size
        rows = _nearest(self.rgb.shape[0], height)
        columns = _nearest(self.rgb.shape[1], width)
        picture = Image.fromarray(self.rgb).resize(size, Image.Resampling.BILINEAR)
        return CameraFrame(
            rgb=np.asarray(picture),
            depth=self.depth[rows[:, None], columns],
            labels=None if self.labels is None else self.labels[rows[:, None], columns],
            intrinsics=self.intrinsics and self.intrinsics.resized(width, height),
            stamp_ns=self.stamp_ns,
        )


class Source:
    """Frames in their order; iterating starts from the first one each time.

    Attributes:
        name: name for messages to the user.
        label_set: name of the label set of the ground truth; None if it is unknown or there is no
            ground truth.
        rate_hz: rate of the recording; None if the source has none.
        count: largest number of frames; None if the source is endless.
    """

    def __init__(
        self,
        name: str,
        count: int | None,
        label_set: str | None = None,
        rate_hz: float | None = None,
    ) -> None:
        self.name, self.count, self.label_set, self.rate_hz = name, count, label_set, rate_hz

    def __iter__(self) -> Iterator[CameraFrame]:
        raise NotImplementedError


def in_millimeters(meters: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint16]:
    """Return depth in meters (H, W) as uint16 millimeters; 0 for NaN, ±Inf, < 0 and ≥ 65.535 m."""
    scaled = np.rint(np.nan_to_num(meters.astype(np.float64), posinf=0, neginf=0) * 1000)
    scaled[(scaled < 0) | (scaled >= np.iinfo(np.uint16).max)] = 0  # 65535 marks no measurement
    return scaled.astype(np.uint16)


def stamp_of(name: str) -> int | None:
    """Return the stamp in nanoseconds that a frame is named after; None for other names.

    Names are whole nanoseconds of at least 16 digits (``1700000000123456789``, as `bag_export`
    writes them), or seconds with decimals (``1305031102.175304``, as in the TUM data sets).
    """
    seconds, dot, decimals = name.partition(".")
    if not (seconds + decimals).isdecimal() or not seconds or (dot and not decimals):
        return None
    if not dot:
        return int(seconds) if len(seconds) >= 16 else None
    return int(seconds) * 10**9 + int(decimals[:9].ljust(9, "0"))


def name_of(stamp_ns: int) -> str:
    """Return the name of a frame with this stamp; the order of names is the order of stamps."""
    return f"{stamp_ns:019d}"


def _nearest(old: int, new: int) -> npt.NDArray[np.intp]:
    """Return, for each new pixel, the index of the old pixel under its center."""
    return ((np.arange(new) + 0.5) * old / new).astype(np.intp)
