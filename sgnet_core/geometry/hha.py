"""HHA: horizontal disparity, height above ground, angle with gravity.

Gupta, Girshick, Arbelaez, Malik, "Learning Rich Features from RGB-D Images for Object Detection
and Segmentation", ECCV 2014, section 2.2, in the encoding and value ranges that their released
code writes to image files.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sgnet_core.geometry.gravity import estimate_up
from sgnet_core.geometry.normals import cell_size, surface_normals
from sgnet_core.geometry.points import point_map

DISPARITY_SCALE = 310.0  # meters: 31000 / depth in centimeters
NEAREST = 1.0  # meters; nearer surfaces are treated as if at this depth
ANGLE_OFFSET = 38.0  # 128 − 90: an upright wall gets 128
LEAST_CAMERA_HEIGHT = 0.9  # meters; if no point is lower than this, the ground is not in view
USUAL_CAMERA_HEIGHT = 1.3  # meters, assumed if the ground is not in view
GROUND_PERCENTILE = 1.0

SPARSE = 2  # gravity and ground are estimated from every second cell of each row and column


def hha(
    depth: Tensor,
    intrinsics: Tensor,
    up: Tensor | None = None,
    cell: int | None = None,
    *,
    up_may_be_zero: bool = False,
) -> Tensor:
    """Compute horizontal disparity, height above ground and angle with gravity, in 0..255.

    Channels and units are those of the published image files, without rounding:

    - disparity: 310 / z for z in meters, so 255 at 1.2 m and nearer;
    - height: centimeters above the ground, at most 255. The ground is at the 1st percentile of the
      points, or, if that is less than 0.9 m below the camera, at 1.3 m below the camera;
    - angle: degrees between the surface normal and up, plus 38: floor 38, wall 128, ceiling 218.

    All three have gradients with respect to the depth, but not through up and ground.

    Args:
        depth: (B, 1, H, W) meters.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy in pixels of this depth image.
        up: (B, 3) or (1, 3) vectors against gravity in the camera frame (x right, y down,
            z forward), for instance from an IMU; estimated from the depth if None.
        cell: side in pixels of the cells for which normals are computed; None takes
            `sgnet_core.geometry.normals.cell_size` of the image.
        up_may_be_zero: estimate ``up`` where it is (0, 0, 0). An exported graph has no branches, so
            the estimate is then computed for every image.

    Returns:
        (B, 3, H, W); all three are 0 where there is no measurement.
    """
    cell = cell or cell_size(depth.shape[2])
    points, inverse = _points_and_inverse(depth, intrinsics)
    valid = inverse > 0
    normals, measured = surface_normals(valid.to(inverse), inverse, intrinsics, cell)
    if up is None:
        up = _estimate_up(normals, measured)
    elif up_may_be_zero:
        known = (up != 0).any(1, keepdim=True)
        up = torch.where(known, up, _estimate_up(normals, measured))
    return _encode(points, inverse, normals, up, cell).to(depth.dtype)


def estimated_up(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Estimate the direction against gravity from depth alone.

    Args:
        depth: (B, 1, H, W) meters.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy in pixels of this depth image.

    Returns:
        (B, 3) unit vectors in the camera frame (x right, y down, z forward).
    """
    _, inverse = _points_and_inverse(depth, intrinsics)
    cell = cell_size(depth.shape[2])
    return _estimate_up(*surface_normals((inverse > 0).to(inverse), inverse, intrinsics, cell))


def _points_and_inverse(depth: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, 3, H, W) points in m and (B, 1, H, W) inverse depth; 0 without measurement."""
    points = point_map(depth if depth.dtype == torch.float64 else depth.float(), intrinsics)
    z = points[:, 2:]
    valid = z > 0
    return points, valid.to(z) / torch.where(valid, z, 1.0)


def _estimate_up(normals: Tensor, measured: Tensor) -> Tensor:
    sparse = (x.detach()[..., ::SPARSE, ::SPARSE] for x in (normals, measured))
    return estimate_up(*sparse)


def _encode(points: Tensor, inverse: Tensor, normals: Tensor, up: Tensor, cell: int) -> Tensor:
    """Encode points and the normals of their cells as (B, 3, H, W) HHA."""
    rows, columns = inverse.shape[2:]
    valid = inverse > 0
    up = F.normalize(up.to(points), dim=1)[..., None, None]
    cosine = (normals * up).sum(1, keepdim=True)
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6)) * (180 / math.pi)
    if cell > 1:
        size = (angle.shape[2] * cell, angle.shape[3] * cell)
        angle = F.interpolate(angle, size, mode="bilinear")
    angle = angle[..., :rows, :columns]
    height = (points * up).sum(1, keepdim=True)
    disparity = DISPARITY_SCALE * inverse.clamp(max=1 / NEAREST)
    step = SPARSE * cell
    height = 100 * (height - _ground(*(x.detach()[..., ::step, ::step] for x in (height, valid))))
    encoded = torch.cat((disparity, height, angle + ANGLE_OFFSET), dim=1).clamp(0, 255)
    return torch.where(valid, encoded, 0.0)


def _ground(height: Tensor, valid: Tensor) -> Tensor:
    """Return the height of the ground relative to the camera, (B, 1, 1, 1) meters."""
    height, valid = height.flatten(1), valid.flatten(1)
    ordered = torch.where(valid, height, torch.inf).sort(dim=1).values
    rank = (valid.sum(1, keepdim=True) * (GROUND_PERCENTILE / 100)).long()
    lowest = ordered.gather(1, rank)
    lowest = torch.where(lowest > -LEAST_CAMERA_HEIGHT, -USUAL_CAMERA_HEIGHT, lowest)
    return lowest[..., None, None]
