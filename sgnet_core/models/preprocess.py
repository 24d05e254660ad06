"""Compute the inputs of a network from camera images, in training, evaluation and inference."""

from __future__ import annotations

from torch import Tensor

from sgnet_core.geometry.holes import HolePolicy, fill_holes
from sgnet_core.geometry.spatial import SPATIAL_CHANNELS, spatial_input
from sgnet_core.models.info import ModelInfo


def usable_depth(
    info: ModelInfo, depth: Tensor, rgb: Tensor, holes: HolePolicy | None = None
) -> Tensor:
    """Limit depth to the range of a model and fill its holes by the policy of the model.

    Args:
        info: description of the model.
        depth: (B, 1, H, W) meters; 0, negative, NaN or infinite where there is no measurement.
        rgb: (B, 3, H, W) in 0..255.
        holes: policy to use instead of the model's.

    Returns:
        (B, 1, H, W) meters; 0 where there is no measurement and the policy fills nothing.
    """
    return fill_holes(depth, holes or info.holes, rgb, info.depth_range)


def network_input(
    kind: str,
    info: ModelInfo,
    rgb: Tensor,
    depth: Tensor,
    intrinsics: Tensor | None = None,
    up: Tensor | None = None,
    holes: HolePolicy | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Compute the two inputs of a network.

    Args:
        kind: name of the spatial input, ``SGNetConfig.spatial``.
        info: description of the model.
        rgb: (B, 3, H, W) RGB, 0..255.
        depth: (B, 1, H, W) meters; 0, negative, NaN or infinite where there is no measurement.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy; see `spatial_input`.
        up: (B, 3) or (1, 3) direction against gravity in the camera frame; see `spatial_input`.
        holes: policy to use instead of the model's.

    Returns:
        (B, 3, H, W) normalized image, and (B, c', H, W), or None where the kind needs no input.

    Raises:
        ValueError: intrinsics are missing where they are needed.
    """
    if SPATIAL_CHANNELS[kind]:
        depth = usable_depth(info, depth, rgb, holes)
    return info.normalization(rgb), spatial_input(kind, depth, intrinsics, up)
