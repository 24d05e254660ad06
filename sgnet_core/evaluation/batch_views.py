"""Resize a batch to the input height of a model."""

from __future__ import annotations

from dataclasses import replace

import torch

from sgnet_core.data.loading import Batch
from sgnet_core.models.views import input_size, resize_images


def at_input_height(batch: Batch, input_height: int | None) -> Batch:
    """Resize images, depth and intrinsics to the input height of a model, but not the labels.

    Args:
        batch: frames of one size.
        input_height: rows of the input; None returns the batch itself.
    """
    height, width = batch.rgb.shape[2:]
    size = input_size(height, width, input_height)
    if size == (height, width):
        return batch
    rgb, depth = resize_images(batch.rgb, batch.depth, size)
    sy, sx = size[0] / height, size[1] / width
    fx, fy, cx, cy = batch.intrinsics.unbind(1)  # resized as in `Intrinsics.resized`
    moved = (fx * sx, fy * sy, (cx + 0.5) * sx - 0.5, (cy + 0.5) * sy - 0.5)
    return replace(batch, rgb=rgb, depth=depth, intrinsics=torch.stack(moved, dim=1))
