"""Mask invalid depth and convert depth images to 3D points. All functions keep gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from sgnet_core.geometry.depth_range import DEPTH_RANGE


def valid_depth(depth: Tensor, limits: tuple[float, float] = DEPTH_RANGE) -> Tensor:
    """Return a boolean mask of the pixels that contain a measurement.

    NaN, infinite, zero, negative and out-of-range values all mean "no measurement".

    Args:
        depth: meters, any shape.
        limits: (nearest, farthest) meters that count as a measurement.
    """
    return (depth >= limits[0]) & (depth <= limits[1])


def depth_map(depth: Tensor, limits: tuple[float, float] = DEPTH_RANGE) -> Tensor:
    """Set pixels of (B, 1, H, W) meters that are not `valid_depth` to 0."""
    return torch.where(valid_depth(depth, limits), depth, torch.zeros_like(depth))


def point_map(depth: Tensor, intrinsics: Tensor, released: bool = False) -> Tensor:
    """Back-project: x = (u − cx)·z/fx, y = (v − cy)·z/fy, z in the optical frame (REP 103).

    Args:
        depth: (B, 1, H, W) meters.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy in pixels of this depth image; the center of
            the top-left pixel is (0, 0).
        released: use the convention of the released SGNet code, for networks trained with it: the
            principal point is (W/2, H/2), pixels count from 1, and cx and cy are ignored.

    Returns:
        (B, 3, H, W) x, y, z in meters; all three are 0 where there is no measurement.
    """
    z = depth_map(depth)
    height, width = z.shape[2:]
    fx, fy, cx, cy = intrinsics.to(z).view(-1, 4, 1, 1, 1).unbind(1)
    if released:
        cx, cy = torch.full_like(cx, width / 2 - 1), torch.full_like(cy, height / 2 - 1)
    u = torch.arange(width, device=z.device, dtype=z.dtype)
    v = torch.arange(height, device=z.device, dtype=z.dtype).view(-1, 1)
    return torch.cat(((u - cx) / fx * z, (v - cy) / fy * z, z), dim=1)
