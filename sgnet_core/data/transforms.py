"""Training transforms that change color, depth, labels and intrinsics of a `Sample` together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.depth_sensor import sense
from sgnet_core.data.sample import Sample
from sgnet_core.models.labels import IGNORE_ID

PADDING_GRAY = 127
"""Color of the pixels that a crop adds outside the image."""


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, flip, color and depth changes; 0 switches a part off.

    Attributes:
        scale: (lowest, highest) factor, drawn from a log-uniform distribution. At 1 the image just
            covers the crop; below 1 the crop is padded.
        flip: probability of a mirror image.
        color: in [0, 1): relative range of brightness, of the gain of each channel, of contrast
            and of saturation.
        blur: probability of a Gaussian blur with σ up to 1 pixel.
        noise: probability of Gaussian noise with σ up to 12 of 255.
        depth_dropout: probability that all depth is removed; otherwise, probability that a random
            rectangle of it is removed.
        depth_sensor: probability that depth gets the noise, steps and holes of a simulated sensor;
            rendered depth has them already.
        depth_step: meters between neighboring values of the stored depth, for example 0.0392 for
            8 bits and 10 m; the simulated sensor dithers them.

    Raises:
        ValueError: a value is out of range.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    color: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    depth_dropout: float = 0.0
    depth_sensor: float = 0.0
    depth_step: float = 0.0

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ValueError(f"scale must be (lowest, highest), both positive; got {self.scale}")
        for name in ("flip", "blur", "noise", "depth_dropout", "depth_sensor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.color < 1:
            raise ValueError(f"color must be in [0, 1), got {self.color}")
        if not 0 <= self.depth_step < math.inf:
            raise ValueError(f"depth_step must be meters, not negative, got {self.depth_step}")

    def __call__(self, sample: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
        """Return a sample of ``size`` (H, W); outside the image depth is 0 and labels are 255."""
        sample = self._scaled_crop(sample, size, rng)
        if rng.random() < self.flip:
            sample = flip(sample)
        rgb = recolor(sample.rgb, self.color, rng) if self.color else sample.rgb
        if rng.random() < self.blur:
            rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.1, 1)).astype(np.uint8)
        if rng.random() < self.noise:
            grain = rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(
                rng.uniform(1, 12)
            )
            rgb = np.clip(rgb + grain, 0, 255).astype(np.uint8)
        return replace(sample, rgb=rgb, depth=self._dropped(self._measured(sample, rng), rng))

    def _scaled_crop(
        self, sample: Sample, size: tuple[int, int], rng: np.random.Generator
    ) -> Sample:
        height, width = size
        there = sample.labels.shape
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        fit = max(height / there[0], width / there[1]) * factor
        h, w = (max(1, round(n * fit)) for n in there)
        left, top = _window_start(w, width, rng), _window_start(h, height, rng)
        return crop(resize(sample, w, h), left, top, width, height)

    def _measured(self, sample: Sample, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the depth of a simulated sensor, with probability ``depth_sensor``."""
        if sample.depth_exact is not None or rng.random() >= self.depth_sensor:
            return sample.depth
        return sense(sample, rng, self.depth_step)

    def _dropped(self, depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        if rng.random() < self.depth_dropout:
            return np.zeros_like(depth)
        if rng.random() < self.depth_dropout:
            (y0, y1), (x0, x1) = (np.sort(rng.integers(0, n + 1, 2)) for n in depth.shape)
            depth = depth.copy()
            depth[y0:y1, x0:x1] = 0
        return depth


def resize(sample: Sample, width: int, height: int) -> Sample:
    """Resample to ``width`` x ``height`` pixels; depth values stay the same.

    Color is averaged when it shrinks, and else interpolated bilinearly. Depth and labels take the
    nearest pixel, because a mean of two depths across an edge is wrong.
    """
    if (height, width) == sample.labels.shape:
        return sample
    smaller = width < sample.labels.shape[1]
    rgb = cv2.resize(
        sample.rgb, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )

    def nearest(image: NDArray[Any]) -> NDArray[Any]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)

    exact = sample.depth_exact
    return replace(
        sample,
        rgb=rgb.astype(np.uint8),
        depth=nearest(sample.depth),
        labels=nearest(sample.labels),
        intrinsics=sample.intrinsics.resized(width, height),
        depth_exact=None if exact is None else nearest(exact),
    )


def crop(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """Cut out a window; outside the image, color is mid-gray, depth is 0, and labels are 255."""

    def window(image: NDArray[Any], fill: int) -> NDArray[Any]:
        h, w = image.shape[:2]
        result = np.full((height, width, *image.shape[2:]), fill, image.dtype)
        x0, x1 = np.clip((left, left + width), 0, w)
        y0, y1 = np.clip((top, top + height), 0, h)
        result[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
        return result

    exact = sample.depth_exact
    return replace(
        sample,
        rgb=window(sample.rgb, PADDING_GRAY),
        depth=window(sample.depth, 0),
        labels=window(sample.labels, IGNORE_ID),
        intrinsics=sample.intrinsics.cropped(left, top, width, height),
        depth_exact=None if exact is None else window(exact, 0),
    )


def flip(sample: Sample) -> Sample:
    """Mirror the sample left to right: the image of a scene mirrored in X."""

    def mirrored(image: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(image[:, ::-1])

    exact, up = sample.depth_exact, sample.up
    return replace(
        sample,
        rgb=mirrored(sample.rgb),
        depth=mirrored(sample.depth),
        labels=mirrored(sample.labels),
        intrinsics=sample.intrinsics.flipped(),
        depth_exact=None if exact is None else mirrored(exact),
        up=None if up is None else up * np.array((-1, 1, 1), np.float32),
    )


def recolor(rgb: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, white balance, contrast and saturation of (H, W, 3) uint8 at random.

    Args:
        rgb: the image.
        amount: range of the factors: 1 ± amount.
        rng: source of randomness.
    """
    brightness, contrast, saturation = 1 + amount * rng.uniform(-1, 1, 3)
    gains = brightness * (1 + amount / 2 * rng.uniform(-1, 1, 3))
    image = rgb * gains.astype(np.float32)
    gray = image.mean(axis=2, keepdims=True)
    image = gray + (image - gray) * np.float32(saturation)
    mean = gray.mean()
    image = mean + (image - mean) * np.float32(contrast)
    return np.clip(image, 0, 255).astype(np.uint8)


def _window_start(available: int, wanted: int, rng: np.random.Generator) -> int:
    """Draw the start of a window that lies inside the image or contains the whole image."""
    low, high = sorted((0, available - wanted))
    return int(rng.integers(low, high + 1))
