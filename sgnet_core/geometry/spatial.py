"""The spatial input of S-Conv: depth, 3D coordinates or HHA, by name.

Training, evaluation and inference compute it with the same function, on the device and with
gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from sgnet_core.geometry.hha import hha
from sgnet_core.geometry.points import depth_map, point_map

SPATIAL_CHANNELS: Mapping[str, int] = MappingProxyType(
    {"none": 0, "depth": 1, "points": 3, "points_released": 3, "hha": 3, "features": 0}
)
"""Number of channels by name of the spatial input; 0 for "none" and "features", which have none."""

NEEDS_INTRINSICS = frozenset({"points", "points_released", "hha"})
"""Spatial inputs that need the camera's intrinsics."""


def spatial_input(
    kind: str, depth: Tensor, intrinsics: Tensor | None = None, up: Tensor | None = None
) -> Tensor | None:
    """Compute the spatial input for a network.

    Args:
        kind: "depth" (meters), "points" (3D coordinates, meters), "points_released" (the same in
            the convention of the released SGNet code, see `point_map`), "hha" (0..255), or "none"
            or "features", which need no input.
        depth: (B, 1, H, W) meters; 0, negative, NaN or infinite where there is no measurement.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy; needed by `NEEDS_INTRINSICS`.
        up: (B, 3) or (1, 3) vectors against gravity in the camera frame, for "hha"; estimated
            from the depth if None.

    Returns:
        (B, c', H, W), 0 where there is no measurement; None for kinds that need no input.

    Raises:
        ValueError: an unknown kind, or intrinsics missing where they are needed.
    """
    if kind not in SPATIAL_CHANNELS:
        known = ", ".join(SPATIAL_CHANNELS)
        raise ValueError(f"spatial input must be one of {known}; got {kind!r}")
    if not SPATIAL_CHANNELS[kind]:
        return None
    if kind == "depth":
        return depth_map(depth)
    if intrinsics is None:
        raise ValueError(f"spatial input {kind!r} needs the camera's intrinsics (fx, fy, cx, cy)")
    if kind == "hha":
        return hha(depth, intrinsics, up)
    return point_map(depth, intrinsics, released=kind == "points_released")
