"""Training transforms that keep rgb, depth, labels and intrinsics of a `Sample` consistent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from sgnet_core.data.sample import Sample
from sgnet_core.labels import IGNORE_ID


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, flip, colour and depth changes; amounts of 0 switch a part off.

    Attributes:
        scale: (lowest, highest) factor on the image size before the crop.
        flip: probability of a mirror image.
        color: relative range of brightness, contrast and saturation, and of the channel gains.
        blur: probability of a Gaussian blur with a radius up to 1 pixel.
        depth_dropout: probability that the depth is missing altogether, and, independently, that
            a random rectangle of it is.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    color: float = 0.0
    blur: float = 0.0
    depth_dropout: float = 0.0

    def __call__(self, sample: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
        """A sample of ``size`` (H, W); where the image does not reach, depth is 0, labels 255."""
        height, width = size
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        fit = max(height / sample.rgb.shape[0], width / sample.rgb.shape[1]) * factor
        h, w = (max(1, round(n * fit)) for n in sample.rgb.shape[:2])
        sample = resize(sample, w, h)
        left, top = (_window(a, b, rng) for a, b in ((w, width), (h, height)))
        sample = crop(sample, left, top, width, height)
        if rng.random() < self.flip:
            sample = flip(sample)
        rgb = _recolor(sample.rgb, self.color, rng) if self.color else sample.rgb
        if rng.random() < self.blur:
            rgb = cv2.GaussianBlur(rgb, (0, 0), max(0.1, rng.uniform(0, 1))).astype(np.uint8)
        return replace(sample, rgb=rgb, depth=self._drop(sample.depth, rng))

    def _drop(self, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() < self.depth_dropout:
            return np.zeros_like(depth)
        if rng.random() < self.depth_dropout:
            height, width = depth.shape
            (y0, y1), (x0, x1) = (np.sort(rng.integers(0, n + 1, 2)) for n in (height, width))
            depth = depth.copy()
            depth[y0:y1, x0:x1] = 0
        return depth


def resize(sample: Sample, width: int, height: int) -> Sample:
    """Resampled image: colour by area or bilinear, depth and labels by the nearest pixel.

    Nearest, because the mean of a depth and a hole, or of two depths across an edge, is no depth.
    """
    if (height, width) == sample.rgb.shape[:2]:
        return sample
    smaller = width < sample.rgb.shape[1]
    shape = (width, height)
    return Sample(
        rgb=cv2.resize(
            sample.rgb, shape, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        ).astype(np.uint8),
        depth=cv2.resize(sample.depth, shape, interpolation=cv2.INTER_NEAREST_EXACT).astype(
            np.float32
        ),
        labels=cv2.resize(sample.labels, shape, interpolation=cv2.INTER_NEAREST_EXACT).astype(
            np.uint8
        ),
        intrinsics=sample.intrinsics.resized(width, height),
    )


def crop(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """The window with that top-left pixel; outside the image: mid-grey, depth 0, label 255."""
    h, w = sample.labels.shape
    rgb = np.full((height, width, 3), 127, np.uint8)
    depth = np.zeros((height, width), np.float32)
    labels = np.full((height, width), IGNORE_ID, np.uint8)
    x0, x1, y0, y1 = max(left, 0), min(left + width, w), max(top, 0), min(top + height, h)
    if x0 < x1 and y0 < y1:
        there = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        here = np.s_[y0:y1, x0:x1]
        rgb[there], depth[there] = sample.rgb[here], sample.depth[here]
        labels[there] = sample.labels[here]
    return Sample(rgb, depth, labels, sample.intrinsics.cropped(left, top, width, height))


def flip(sample: Sample) -> Sample:
    """The mirror image, left to right."""
    return Sample(
        rgb=np.ascontiguousarray(sample.rgb[:, ::-1]),
        depth=np.ascontiguousarray(sample.depth[:, ::-1]),
        labels=np.ascontiguousarray(sample.labels[:, ::-1]),
        intrinsics=sample.intrinsics.flipped(),
    )


def _window(available: int, wanted: int, rng: np.random.Generator) -> int:
    """Where a window starts: anywhere inside, or with the whole image somewhere inside it."""
    low, high = sorted((0, available - wanted))
    return int(rng.integers(low, high + 1))


def _recolor(rgb: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    gains = 1 + amount * rng.uniform(-1, 1, 3) * (1, 1, 1) + amount * rng.uniform(-1, 1) / 2
    contrast, saturation = 1 + amount * rng.uniform(-1, 1, 2)
    image = rgb.astype(np.float32) * gains.astype(np.float32)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(saturation)
    mean = grey.mean()
    image = mean + (image - mean) * np.float32(contrast)
    clipped: np.ndarray = np.clip(image, 0, 255).astype(np.uint8)
    return clipped
