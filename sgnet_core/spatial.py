"""The spatial input of S-Conv, computed from depth and intrinsics on the device.

All functions are batched, keep gradients, and take depth as (B, 1, H, W) metres in which 0, NaN,
infinite and negative values alike mean "no measurement".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

SPATIAL_CHANNELS: Mapping[str, int] = MappingProxyType(
    {"none": 0, "depth": 1, "points": 3, "hha": 3}
)
"""Channels of every spatial input by name; "none" belongs to plain networks."""


def valid_depth(depth: Tensor) -> Tensor:
    """Boolean mask of the pixels that hold a measurement: finite and positive."""
    return torch.isfinite(depth) & (depth > 0)


def depth_map(depth: Tensor) -> Tensor:
    """(B, 1, H, W) metres with every kind of missing value set to 0."""
    return torch.where(valid_depth(depth), depth, torch.zeros_like(depth))


def point_map(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Back-projection: x = (u − cx)·z/fx, y = (v − cy)·z/fy, z in the optical frame (REP 103).

    Args:
        depth: (B, 1, H, W) metres.
        intrinsics: (B, 4) or (1, 4): fx, fy, cx, cy in pixels of this depth image.

    Returns:
        (B, 3, H, W) x, y, z in metres; all three are 0 where there is no measurement.
    """
    z = depth_map(depth)
    fx, fy, cx, cy = intrinsics.to(z).view(-1, 4, 1, 1, 1).unbind(1)
    u = torch.arange(z.shape[3], device=z.device, dtype=z.dtype)
    v = torch.arange(z.shape[2], device=z.device, dtype=z.dtype).view(-1, 1)
    return torch.cat(((u - cx) / fx * z, (v - cy) / fy * z, z), dim=1)


def spatial_input(kind: str, depth: Tensor, intrinsics: Tensor | None = None) -> Tensor | None:
    """The spatial input that a network's configuration names.

    Args:
        kind: "none", "depth", "points" (3D coordinates) or "hha".
        depth: (B, 1, H, W) metres.
        intrinsics: (B, 4) fx, fy, cx, cy; needed by "points" and "hha".

    Returns:
        (B, c', H, W), or None for "none".

    Raises:
        ValueError: an unknown kind, or intrinsics missing where they are needed.
    """
    if kind == "none":
        return None
    if kind == "depth":
        return depth_map(depth)
    if intrinsics is None:
        raise ValueError(f"spatial input {kind!r} needs the camera's intrinsics (fx, fy, cx, cy)")
    if kind == "points":
        return point_map(depth, intrinsics)
    raise ValueError(f"spatial input is one of {', '.join(SPATIAL_CHANNELS)}; got {kind!r}")
