"""Counts and times of the answers to one or several bags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.models.labels import IGNORE_ID

Mask = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.uint16]

STATIC_MM, STATIC_SHARE = 10, 0.01
"""Largest difference of two depths of the same surface, 10 mm or 1 %, whichever is more: the noise
of structured-light and stereo cameras indoors."""


@dataclass(frozen=True)
class Stability:
    """Number of pixels on static geometry in two consecutive frames, and of those that flipped."""

    static: int = 0
    flipped: int = 0

    def __add__(self, other: Stability) -> Stability:
        return Stability(self.static + other.static, self.flipped + other.flipped)

    @property
    def flip_rate(self) -> float | None:
        """Share of the static pixels that changed their label; None without static pixels."""
        return self.flipped / self.static if self.static else None


def stability(depths: tuple[Depth, Depth], labels: tuple[Mask, Mask]) -> Stability:
    """Compare two consecutive frames.

    A pixel is static if both depths are measured and differ by at most `STATIC_MM` or
    `STATIC_SHARE`, and both labels are classes. It flipped if the labels differ.

    Args:
        depths: (H, W) uint16 millimeters, 0 = no measurement.
        labels: (H, W) ids, 255 = unlabeled.
    """
    a, b = (depth.astype(np.int32) for depth in depths)
    tolerance = np.maximum(STATIC_MM, STATIC_SHARE * np.minimum(a, b))
    static = (a > 0) & (b > 0) & (np.abs(a - b) <= tolerance)
    static &= (labels[0] != IGNORE_ID) & (labels[1] != IGNORE_ID)
    return Stability(int(static.sum()), int((static & (labels[0] != labels[1])).sum()))


@dataclass
class Tally:
    """Counts and times of one bag, or of several added up.

    Attributes:
        frames: number of color images played; in lossless mode, only those with depth.
        labeled: number of label images received.
        dropped: number of the other frames, by cause.
        seconds: time from the first frame sent to the last label image.
        latency_ms: for each label image, the time since the second image of its frame was sent.
        inference_ms, overhead_ms: for each label image, from the node's FrameStats.
        confusion: confusion matrix of ground truth and labels; None without ground truth.
        compared: number of label images with ground truth.
        stability: sum over all consecutive frames with label images.
    """

    frames: int = 0
    labeled: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    latency_ms: list[float] = field(default_factory=list)
    inference_ms: list[float] = field(default_factory=list)
    overhead_ms: list[float] = field(default_factory=list)
    confusion: ConfusionMatrix | None = None
    compared: int = 0
    stability: Stability = Stability()

    def add(self, other: Tally) -> None:
        """Add the counts and times of another bag whose node had the same classes."""
        self.frames += other.frames
        self.labeled += other.labeled
        self.dropped += other.dropped
        self.seconds += other.seconds
        self.latency_ms += other.latency_ms
        self.inference_ms += other.inference_ms
        self.overhead_ms += other.overhead_ms
        self.compared += other.compared
        self.stability += other.stability
        if other.confusion is not None:
            if self.confusion is None:
                self.confusion = ConfusionMatrix(len(other.confusion.counts))
            self.confusion += other.confusion

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the report's figures as JSON types; docs/replay.md defines each.

        Args:
            names: names of the classes.
        """
        confusion = self.confusion
        scored = confusion is not None and confusion.counts.any()
        iou = confusion.class_iou if confusion is not None and scored else ()
        return {
            "frames": self.frames,
            "labeled": self.labeled,
            "dropped": dict(sorted(self.dropped.items())),
            "compared": self.compared,
            "miou": confusion.miou if confusion is not None and scored else None,
            "pixel_accuracy": confusion.pixel_accuracy if confusion and scored else None,
            "class_iou": {n: float(v) for n, v in zip(names, iou, strict=False) if np.isfinite(v)},
            "flip_rate": self.stability.flip_rate,
            "static_pixels": self.stability.static,
            "seconds": round(self.seconds, 3),
            "throughput_hz": round(self.labeled / self.seconds, 3) if self.seconds else None,
            "latency_ms": percentiles(self.latency_ms),
            "inference_ms": percentiles(self.inference_ms),
            "overhead_ms": percentiles(self.overhead_ms),
        }

    def to_json(self) -> dict[str, Any]:
        """Return all values, for `from_json` in another process."""
        values = dict(vars(self))
        values["confusion"] = None if self.confusion is None else self.confusion.counts.tolist()
        values["stability"] = [self.stability.static, self.stability.flipped]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Tally:
        """Build from the return value of `to_json`."""
        confusion = None
        if values["confusion"] is not None:
            confusion = ConfusionMatrix(len(values["confusion"]))
            confusion.counts += np.array(values["confusion"], np.int64)
        others = {
            "dropped": Counter(values["dropped"]),
            "confusion": confusion,
            "stability": Stability(*values["stability"]),
        }
        return cls(**{**values, **others})


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, 90th, 95th and 99th percentile and maximum; None without values."""
    if not values:
        return None
    marks = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    found = np.percentile(np.asarray(values, np.float64), list(marks.values()))
    return {name: round(float(v), 3) for name, v in zip(marks, found, strict=True)}
