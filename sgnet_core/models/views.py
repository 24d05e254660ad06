"""Resize frames for a network, at one scale or several, and average the scores of the scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sgnet_core.ops.resize import resize_maps

MAX_PIXELS = 1 << 24
"""Largest input of a network (4096x4096); it catches mistakes such as an enlarged 1x10000 image."""

WIDTH_STEP = 32
"""Widths of resized inputs are multiples of this, the stride of the last layer of a ResNet.

Networks are trained on crops of such sizes. Resizing with aligned corners shifts the coarse feature
maps by an amount that depends on the remainder of the width, so other widths (427 for a 16:9 camera
at 240 rows) score slightly worse.
"""


def input_size(height: int, width: int, input_height: int | None) -> tuple[int, int]:
    """Return (h, w) of the network's input for an image.

    Args:
        height, width: size of the image.
        input_height: rows of the input; its columns are the multiple of `WIDTH_STEP` nearest to the
            aspect ratio of the image. None takes the size of the image.

    Raises:
        ValueError: the input would have more than `MAX_PIXELS`.
    """
    size = (height, width)
    if input_height is not None:
        columns = width * input_height / height
        step = WIDTH_STEP if columns > WIDTH_STEP / 2 else 1
        size = (input_height, max(1, step * round(columns / step)))
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"a {width}x{height} image is too large, or too wide, to segment: the network's input "
            f"would have {size[1]}x{size[0]} pixels"
        )
    return size


def resize_images(image: Tensor, depth: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize (B, 3, H, W) RGB 0..255 and (B, 1, H, W) meters to ``size``.

    RGB is resized bilinearly with antialiasing. Depth takes the nearest pixel, so that holes never
    mix with measurements.
    """
    if size == tuple(image.shape[2:]):
        return image, depth
    if image.device.type != "cpu":
        image = image.float()  # only the CPU resizes uint8, four times as fast as float32
    return (
        F.interpolate(image, size, mode="bilinear", antialias=True),
        F.interpolate(depth, size, mode="nearest-exact"),
    )


def rescaled(image: Tensor, spatial: Tensor | None, scale: float) -> tuple[Tensor, Tensor | None]:
    """Resize (B, 3, h, w) and (B, c', h, w) network inputs by ``scale``, with aligned corners.

    As in the published multi-scale evaluation, depth values are not divided by the scale.

    Raises:
        ValueError: more than `MAX_PIXELS`.
    """
    if scale == 1:
        return image, spatial
    height, width = image.shape[2:]
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"scale {scale:g} enlarges {width}x{height} to {size[1]}x{size[0]}, which is too large"
        )
    return resize_maps(image, size), None if spatial is None else resize_maps(spatial, size)


def mean_scores(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return the mean (C, H, W) at ``size`` of the (C, h, w) logits of several views."""
    mean = resize_maps(logits[0][None], size)[0]
    for one in logits[1:]:
        mean += resize_maps(one[None], size)[0]
    mean /= len(logits)
    return mean
