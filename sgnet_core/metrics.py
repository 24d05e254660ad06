"""Segmentation scores from one confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sgnet_core.labels import IGNORE_ID


class ConfusionMatrix:
    """Counts of (true, predicted) pixels; every score is derived from them.

    Attributes:
        counts: (C, C) int64, row = true class, column = predicted class.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(
        self, truth: npt.NDArray[np.integer[Any]], predicted: npt.NDArray[np.integer[Any]]
    ) -> None:
        """Adds two equally shaped id maps; pixels whose truth is 255 do not count.

        Raises:
            ValueError: shapes differ, or an id is neither a class nor (in the truth) 255.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape}, prediction {predicted.shape}")
        n = len(self.counts)
        known = truth != IGNORE_ID
        t, p = truth[known].astype(np.int64), predicted[known].astype(np.int64)
        if t.size and (max(t.max(), p.max()) >= n or min(t.min(), p.min()) < 0):
            raise ValueError(f"ids outside 0..{n - 1} (255 is ignored in the truth alone)")
        self.counts += np.bincount(t * n + p, minlength=n * n).reshape(n, n)

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that are right; NaN without any."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    @property
    def class_accuracy(self) -> npt.NDArray[np.float64]:
        """(C,) recall per class; NaN for classes absent from the truth."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def class_iou(self) -> npt.NDArray[np.float64]:
        """(C,) intersection over union; NaN for classes absent from the truth."""
        truth = self.counts.sum(axis=1)
        right = np.diag(self.counts)
        iou = _ratio(right, truth + self.counts.sum(axis=0) - right)
        return np.where(truth > 0, iou, np.nan)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes present."""
        return _mean(self.class_accuracy)

    @property
    def miou(self) -> float:
        """Mean of `class_iou` over the classes present."""
        return _mean(self.class_iou)


def _ratio(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
