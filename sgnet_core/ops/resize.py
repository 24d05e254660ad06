"""Resize feature maps, scores and spatial inputs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, h, w) to (B, C, H, W), bilinear with aligned corners, as the released code."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
