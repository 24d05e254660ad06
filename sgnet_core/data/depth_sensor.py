"""Simulate depth of a structured-light or time-of-flight camera from the depth of a data set.

Data sets such as NYUDv2 contain in-painted depth in coarse steps; a camera delivers fine steps,
noise and holes. A network trained on the simulation works with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sgnet_core.data.rooms.sensor import measure_depth
from sgnet_core.data.sample import Sample
from sgnet_core.models.labels import IGNORE_ID

if TYPE_CHECKING:  # loading imports the transforms, which import this module
    from sgnet_core.data.loading import Samples

SENSED_SEED = 0

OBJECT_LOSS = 0.12
"""Probability that a class in an image loses much of its depth, like glass and black surfaces."""


def dithered(
    depth: NDArray[np.float32], step: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Add noise to depth that is stored in steps, partly per patch and partly per pixel.

    Args:
        depth: (H, W) meters, 0 where missing.
        step: distance of neighboring values, meters.
        rng: source of randomness.
    """
    height, width = depth.shape
    patches = rng.random((height // 8 + 2, width // 8 + 2), dtype=np.float32)
    smooth = cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)
    offset = (0.7 * smooth + 0.3 * rng.random((height, width), dtype=np.float32) - 0.5) * step
    return np.where(depth > 0, np.maximum(depth + offset, 1e-3), 0).astype(np.float32)


def sense(sample: Sample, rng: np.random.Generator, step: float = 0.0) -> NDArray[np.float32]:
    """Return the depth of a sample, (H, W) float32 meters, with noise, steps and holes of a sensor.

    Holes appear next to edges, on slanted surfaces, in patches, out of range, and on whole objects.

    Args:
        sample: the sample.
        rng: source of randomness.
        step: distance of neighboring stored values in meters, over which they are dithered first; 0
            for depth in fine steps.
    """
    depth = dithered(sample.depth, step, rng) if step else sample.depth
    missing = depth <= 0
    dropout = np.zeros(depth.shape, np.float32)
    for label in np.unique(sample.labels):
        if label != IGNORE_ID and rng.random() < OBJECT_LOSS:
            dropout[sample.labels == label] = rng.uniform(0.3, 2.0)
    exact = np.where(missing, 12.0, depth).astype(np.float32)
    measured = measure_depth(
        torch.from_numpy(exact),
        torch.from_numpy(_facing(exact, sample.intrinsics.fx, sample.intrinsics.fy)),
        torch.from_numpy(dropout),
        sample.intrinsics.fx,
        rng,
        rng,
    ).numpy()
    return np.where(missing, 0, measured).astype(np.float32)


def _facing(depth: NDArray[np.float32], fx: float, fy: float) -> NDArray[np.float32]:
    """Return the (H, W) cosine between surface normal and optical axis, from smoothed depth."""
    smooth = cv2.GaussianBlur(depth, (0, 0), 1.5)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8) * fx
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8) * fy
    facing = smooth / np.sqrt(across**2 + down**2 + smooth**2)
    return facing.astype(np.float32)


class Sensed:
    """A data set with the depth of `sense`; a frame always gets the same depth.

    Args:
        samples: the data set.
        step: as in `sense`.
    """

    def __init__(self, samples: Samples, step: float = 0.0) -> None:
        self.samples, self.step = samples, step

    @property
    def names(self) -> Sequence[str] | None:
        """Names of the frames, or None if the data set has none."""
        return getattr(self.samples, "names", None)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample, rng = self.samples[index], np.random.default_rng((SENSED_SEED, index))
        return replace(sample, depth=sense(sample, rng, self.step))
