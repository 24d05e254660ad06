"""Remove labels of unwanted classes, and labels with too little confidence."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgnet_core.models.labels import IGNORE_ID


def needed_confidence(
    count: int, min_confidence: float, classes: Collection[int] | None
) -> npt.NDArray[np.float32] | None:
    """Return the confidence that a pixel of each class needs to keep its label.

    Args:
        count: number of classes.
        min_confidence: probability 0..1.
        classes: ids of the classes that are kept; None keeps all.

    Returns:
        (count,) float32 in 0..255, infinite for classes that are not kept; None if all pixels keep
        their labels.

    Raises:
        ValueError: a probability outside [0, 1], or an id without a class.
    """
    if not 0 <= min_confidence <= 1:
        raise ValueError(f"min_confidence must be in [0, 1], got {min_confidence}")
    if unknown := sorted(set(classes or ()) - set(range(count))):
        raise ValueError(f"classes must be ids from 0 to {count - 1}, got {unknown[0]}")
    if classes is None and min_confidence == 0:
        return None
    kept = list(range(count) if classes is None else classes)
    needed = np.full(count, np.inf, np.float32)
    needed[kept] = 255 * min_confidence
    return needed


def unlabel(labels: Tensor, confidence: Tensor, needed: Tensor) -> Tensor:
    """Set labels to `IGNORE_ID` where the confidence is less than their class needs.

    Args:
        labels, confidence: (H, W) uint8, as returned by `upsampling.best_labels`.
        needed: (C,) float32 from `needed_confidence`, on the same device.
    """
    return torch.where(confidence < needed[labels.long()], IGNORE_ID, labels)
