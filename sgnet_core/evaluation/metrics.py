"""Segmentation scores from confusion matrices, for all pixels and by distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.models.labels import IGNORE_ID

Ids = npt.NDArray[np.integer[Any]]

DISTANCE_BANDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"0-2 m": (0.0, 2.0), "2-4 m": (2.0, 4.0), "4+ m": (4.0, math.inf)}
)
"""Ranges in meters along the optical axis by name; the end is excluded."""

NO_DEPTH = "no depth"
"""Name of the group of pixels without a measurement."""


class ConfusionMatrix:
    """Counts of pixels by true and predicted class, and the scores derived from them.

    Attributes:
        counts: (C, C) int64, row = true class, column = predicted class.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, truth: Ids, predicted: Ids) -> None:
        """Add two equally shaped id maps; pixels whose truth is 255 do not count.

        Raises:
            ValueError: shapes differ, or an id is neither a class nor (in the truth) 255.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape}, but prediction is {predicted.shape}")
        n = len(self.counts)
        known = truth != IGNORE_ID
        t, p = truth[known].astype(np.int64), predicted[known].astype(np.int64)
        if t.size and (max(t.max(), p.max()) >= n or min(t.min(), p.min()) < 0):
            raise ValueError(f"ids outside 0..{n - 1} (255 is ignored only in the truth)")
        self.counts += np.bincount(t * n + p, minlength=n * n).reshape(n, n)

    def __iadd__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        self.counts += other.counts
        return self

    @property
    def pixels(self) -> int:
        """Number of labeled pixels."""
        return int(self.counts.sum())

    @property
    def pixel_accuracy(self) -> float:
        """Share of labeled pixels with the right class, 0..1; NaN without labeled pixels."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    @property
    def class_accuracy(self) -> npt.NDArray[np.float64]:
        """(C,) recall per class, 0..1; NaN for classes absent from the truth."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def class_iou(self) -> npt.NDArray[np.float64]:
        """(C,) intersection over union, 0..1; NaN for classes absent from the truth."""
        truth = self.counts.sum(axis=1)
        right = np.diag(self.counts)
        iou = _ratio(right, truth + self.counts.sum(axis=0) - right)
        return np.where(truth > 0, iou, np.nan)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes in the truth."""
        return _mean(self.class_accuracy)

    @property
    def miou(self) -> float:
        """Mean of `class_iou` over the classes in the truth."""
        return _mean(self.class_iou)


class Scores:
    """Confusion matrices of a data set, for all labeled pixels and by distance.

    Attributes:
        total: matrix of all labeled pixels.
        by_distance: one matrix for each of `DISTANCE_BANDS` and `NO_DEPTH`; they add up to
            ``total``.
        frames: number of frames added.
    """

    def __init__(self, num_classes: int) -> None:
        self.total = ConfusionMatrix(num_classes)
        self.by_distance = {
            name: ConfusionMatrix(num_classes) for name in (*DISTANCE_BANDS, NO_DEPTH)
        }
        self.frames = 0

    def add(
        self, truth: Ids, predicted: Ids, depth: npt.NDArray[np.floating[Any]]
    ) -> ConfusionMatrix:
        """Add a frame; return its own confusion matrix.

        Args:
            truth: (H, W) class ids, 255 = ignore.
            predicted: (H, W) class ids.
            depth: (h, w) meters of the same view, of any size; each pixel of the truth takes the
                nearest pixel. 0, negative, NaN and infinite mean "no measurement".

        Raises:
            ValueError: truth and prediction differ in shape, or an id is neither a class nor (in
                the truth) 255. Nothing is added then.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape}, but prediction is {predicted.shape}")
        rows, columns = (_nearest(*sizes) for sizes in zip(depth.shape, truth.shape, strict=True))
        meters = depth[rows[:, None], columns]
        parts = {}
        for name, inside in _bands(meters).items():
            parts[name] = ConfusionMatrix(len(self.total.counts))
            parts[name].update(truth[inside], predicted[inside])
        frame = ConfusionMatrix(len(self.total.counts))
        for name, part in parts.items():
            self.by_distance[name] += part
            frame += part
        self.total += frame
        self.frames += 1
        return frame

    def __iadd__(self, other: Scores) -> Scores:
        """Add the frames of another set."""
        self.total += other.total
        for name, confusion in other.by_distance.items():
            self.by_distance[name] += confusion
        self.frames += other.frames
        return self

    def figures(self) -> dict[str, Any]:
        """Return the scores as JSON types; scores that are not defined (absent classes) are None.

        ``pixel_accuracy``, ``mean_accuracy``, ``miou``; ``per_class_iou`` (C); ``confusion``
        (C, C), row = true class; ``frames``; ``by_distance``: band → ``miou``,
        ``pixel_accuracy``, ``mean_accuracy``, ``pixels``.
        """
        bands = {
            name: {**_means(confusion), "pixels": confusion.pixels}
            for name, confusion in self.by_distance.items()
        }
        return {
            **_means(self.total),
            "per_class_iou": [_finite(v) for v in self.total.class_iou],
            "confusion": self.total.counts.tolist(),
            "frames": self.frames,
            "by_distance": bands,
        }


def _bands(meters: npt.NDArray[np.floating[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return a mask of the pixels for each band; every pixel is in exactly one."""
    measured = (meters >= DEPTH_RANGE[0]) & (meters <= DEPTH_RANGE[1])
    masks = {
        name: measured & (meters >= near) & (meters < far)
        for name, (near, far) in DISTANCE_BANDS.items()
    }
    return {**masks, NO_DEPTH: ~measured}


def _nearest(old: int, new: int) -> npt.NDArray[np.intp]:
    """Return the index of the old pixel under the center of each new one."""
    return ((np.arange(new) + 0.5) * old / new).astype(np.intp)


def _means(confusion: ConfusionMatrix) -> dict[str, float | None]:
    names = ("pixel_accuracy", "mean_accuracy", "miou")
    return {name: _finite(getattr(confusion, name)) for name in names}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _ratio(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
