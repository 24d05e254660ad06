"""Feature maps, scores and spatial inputs at another size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) → (B, C, H, W), bilinear, corners aligned, as the published code does it."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
