"""The spatial input of S-Conv: depth, 3D coordinates or HHA, by name.

Computed from depth and intrinsics on the device, batched, with gradients, in training, evaluation
and use alike. Depth is (B, 1, H, W) meters, in which 0, NaN, infinite, negative and out-of-range
values all mean "no measurement": there, every channel of every spatial input is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.geometry.hha import hha
from sgnet_core.geometry.points import depth_map, point_map, valid_depth

__all__ = [
    "DEPTH_RANGE",
    "NEEDS_INTRINSICS",
    "SPATIAL_CHANNELS",
    "depth_map",
    "hha",
    "point_map",
    "spatial_input",
    "valid_depth",
]

SPATIAL_CHANNELS: Mapping[str, int] = MappingProxyType(
    {"none": 0, "depth": 1, "points": 3, "points_released": 3, "hha": 3, "features": 0}
)
"""Number of channels by name of the spatial input; "none" and "features" have no input."""

NEEDS_INTRINSICS = frozenset({"points", "points_released", "hha"})
"""Spatial inputs that need the camera's intrinsics."""


def spatial_input(
    kind: str, depth: Tensor, intrinsics: Tensor | None = None, up: Tensor | None = None
) -> Tensor | None:
    """Compute the spatial input that a network's configuration names.

    Args:
        kind: "depth" (meters), "points" (3D coordinates, meters), "points_released" (the same in
            the convention of the released SGNet code, see `point_map`), "hha" (0..255), or "none"
            or "features", which need no input.
        depth: (B, 1, H, W) meters.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy; needed by `NEEDS_INTRINSICS`.
        up: (B, 3) or (1, 3) vectors against gravity in the camera frame, for "hha"; estimated
            from the depth if None.

    Returns:
        (B, c', H, W); None where no input is needed.

    Raises:
        ValueError: an unknown kind, or intrinsics missing where they are needed.
    """
    if kind not in SPATIAL_CHANNELS:
        raise ValueError(f"spatial input is one of {', '.join(SPATIAL_CHANNELS)}; got {kind!r}")
    if not SPATIAL_CHANNELS[kind]:
        return None
    if kind == "depth":
        return depth_map(depth)
    if intrinsics is None:
        raise ValueError(f"spatial input {kind!r} needs the camera's intrinsics (fx, fy, cx, cy)")
    if kind == "hha":
        return hha(depth, intrinsics, up)
    return point_map(depth, intrinsics, released=kind == "points_released")
