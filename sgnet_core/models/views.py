"""Resize frames to a network's input, at one scale or several, and average the scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sgnet_core.ops.resize import resize_maps

MAX_PIXELS = 1 << 24
"""Largest input of a network (4096x4096): more is a mistake, such as a 1x10000 image enlarged."""

WIDTH_STEP = 32
"""Widths of resized inputs are multiples of this, the stride of a ResNet's last layer.

Maps of all strides are brought together with their corners aligned. How far the coarse ones are
shifted by that depends on the remainder of the width, and networks are trained on crops of such
multiples: on other widths, such as 427 for a 16:9 camera at 240 rows, they are a little worse.
"""


def input_size(height: int, width: int, input_height: int | None) -> tuple[int, int]:
    """Return (h, w) of the network's input for an image.

    Args:
        height, width: of the image.
        input_height: rows of the model's input, whose columns are the multiple of `WIDTH_STEP`
            nearest to the image's aspect ratio; None takes the image's own size.

    Raises:
        ValueError: the input would have more than `MAX_PIXELS`.
    """
    size = (height, width)
    if input_height is not None:
        columns = width * input_height / height
        step = WIDTH_STEP if columns > WIDTH_STEP / 2 else 1
        size = (input_height, max(1, step * round(columns / step)))
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"a {width}x{height} image is too large, or too wide, to segment")
    return size


def resize_images(image: Tensor, depth: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize (B, 3, H, W) RGB 0..255 and (B, 1, H, W) meters to ``size``.

    Colors are averaged where the image shrinks; depth takes the nearest pixel, so that holes never
    mix with measurements.
    """
    if size == tuple(image.shape[2:]):
        return image, depth
    if image.device.type != "cpu":
        image = image.float()  # bytes are resized four times as fast, on the CPU only
    return (
        F.interpolate(image, size, mode="bilinear", antialias=True),
        F.interpolate(depth, size, mode="nearest-exact"),
    )


def rescaled(image: Tensor, spatial: Tensor | None, scale: float) -> tuple[Tensor, Tensor | None]:
    """Resize (B, 3, h, w) and (B, c', h, w) network inputs by ``scale``, corners aligned.

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
            f"scale {scale:g} makes {size[1]}x{size[0]} of {width}x{height}: too large"
        )
    return resize_maps(image, size), None if spatial is None else resize_maps(spatial, size)


def mean_scores(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return the mean (C, H, W) at ``size`` of the (C, h, w) logits of several views."""
    mean = resize_maps(logits[0][None], size)[0]
    for one in logits[1:]:
        mean += resize_maps(one[None], size)[0]
    mean /= len(logits)
    return mean
