"""From camera images to what a network takes: the same in training, evaluation and use."""

from __future__ import annotations

from torch import Tensor

from sgnet_core.geometry.holes import HolePolicy, fill_holes
from sgnet_core.geometry.spatial import SPATIAL_CHANNELS, spatial_input
from sgnet_core.models.info import ModelInfo


def usable_depth(
    info: ModelInfo, depth: Tensor, rgb: Tensor, holes: HolePolicy | None = None
) -> Tensor:
    """(B, 1, H, W) metres as a model wants them: its range, its holes filled, 0 for the others.

    Args:
        info: of the model.
        depth: (B, 1, H, W) metres, "no measurement" in any form.
        rgb: (B, 3, H, W) in 0..255.
        holes: a policy in place of the model's.
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
    """The two inputs of a network.

    Args:
        kind: of the spatial input, ``SGNetConfig.spatial``.
        info: of the model.
        rgb: (B, 3, H, W) RGB, 0..255.
        depth: (B, 1, H, W) metres, "no measurement" in any form.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy; see `spatial_input`.
        up: (B, 3) or (1, 3) against gravity in the camera frame; see `spatial_input`.
        holes: a policy in place of the model's.

    Returns:
        (B, 3, H, W) normalised image, and (B, c', H, W), or None where the kind needs no input.

    Raises:
        ValueError: intrinsics are missing where they are needed.
    """
    if SPATIAL_CHANNELS[kind]:
        depth = usable_depth(info, depth, rgb, holes)
    return info.normalization(rgb), spatial_input(kind, depth, intrinsics, up)
