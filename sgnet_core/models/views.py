"""Test-time views of a frame: other sizes and the mirror image, whose scores are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from sgnet_core.ops.resize import resize_maps

if TYPE_CHECKING:  # inference does not load what training needs
    from sgnet_core.data.loading import Batch

MAX_PIXELS = 1 << 24
"""Of the network's input (4096x4096): more is a mistake, such as a 1x10000 image enlarged."""


def input_size(height: int, width: int, input_height: int | None) -> tuple[int, int]:
    """(h, w) of the network's input for an image of that size, its aspect kept.

    Args:
        input_height: at which the model wants its frames; None: at their own.

    Raises:
        ValueError: more than `MAX_PIXELS`.
    """
    size = (height, width)
    if input_height is not None:
        size = (input_height, max(1, round(width * input_height / height)))
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"a {width}x{height} image is too large, or too wide, to segment")
    return size


def resize_images(image: Tensor, depth: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) RGB 0..255 and (B, 1, H, W) metres at ``size``.

    Colours are averaged where the image shrinks; depth takes the nearest pixel, so that holes
    never mix with measurements.
    """
    if size == tuple(image.shape[2:]):
        return image, depth
    if image.device.type != "cpu":
        image = image.float()  # bytes are resized four times as fast, on the CPU only
    return (
        F.interpolate(image, size, mode="bilinear", antialias=True),
        F.interpolate(depth, size, mode="nearest-exact"),
    )


def at_input_height(batch: Batch, input_height: int | None) -> Batch:
    """The batch as the model wants it, intrinsics too; the labels stay as they are."""
    height, width = batch.rgb.shape[2:]
    size = input_size(height, width, input_height)
    if size == (height, width):
        return batch
    rgb, depth = resize_images(batch.rgb, batch.depth, size)
    sy, sx = size[0] / height, size[1] / width
    fx, fy, cx, cy = batch.intrinsics.unbind(1)  # as `Intrinsics.resized`
    moved = (fx * sx, fy * sy, (cx + 0.5) * sx - 0.5, (cy + 0.5) * sy - 0.5)
    return replace(batch, rgb=rgb, depth=depth, intrinsics=torch.stack(moved, dim=1))


def rescaled(image: Tensor, spatial: Tensor | None, scale: float) -> tuple[Tensor, Tensor | None]:
    """(B, 3, h, w) and (B, c', h, w) network inputs resized by ``scale``, corners aligned.

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
    """The (C, h, w) logits of several views of one frame → their mean (C, H, W) at ``size``."""
    mean = resize_maps(logits[0][None], size)[0]
    for one in logits[1:]:
        mean += resize_maps(one[None], size)[0]
    mean /= len(logits)
    return mean
