"""Estimate the direction of gravity from the surfaces that a camera sees.

Gupta, Arbelaez, Malik, "Perceptual Organization and Recognition of Indoor Scenes from RGB-D
Images", CVPR 2013, section 3: floors and table tops are level, walls upright.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STAGES = ((45.0, 5), (15.0, 5))
"""(threshold in degrees, rounds): coarse, then fine."""
PITCH = math.radians(15)
"""Downward pitch at which the search starts, radians.

The published start is a level camera. But in a room, a camera that looks down by 46 degrees sees
the same normals as one that looks up by 44 degrees, and cameras on robots mostly look down.
"""


@torch.no_grad()
def estimate_up(normals: Tensor, weight: Tensor) -> Tensor:
    """Estimate the direction to which most normals are parallel or orthogonal.

    Each round takes the normals within a threshold of the current direction or its opposite as
    level surfaces, those nearly orthogonal to it as walls, and moves to the direction y that
    minimizes Σ_walls (n·y)² − Σ_level (n·y)². The true direction must lie within 45° of the start:
    a camera without roll may look from 60° down to 30° up. No gradients are computed.

    Args:
        normals: (B, 3, ...) unit vectors in the camera frame (x right, y down, z forward).
        weight: (B, 1, ...) weights of the normals, ≥ 0.

    Returns:
        (B, 3) unit vectors that point up. Where the normals do not determine the direction, it
        keeps its starting value.
    """
    n, w = normals.flatten(2), weight.flatten(2)
    total = w.sum(2)[..., None]
    w = w / total.clamp(min=1e-12)
    products = (n[:, :, None] * n[:, None]).flatten(1, 2) * w
    start = (0.0, -math.cos(PITCH), -math.sin(PITCH))
    up = torch.stack([n.new_full((len(n),), value) for value in start], dim=1)
    eye = torch.eye(3, device=n.device, dtype=n.dtype)
    for threshold, rounds in STAGES:
        parallel, orthogonal = math.cos(math.radians(threshold)), math.sin(math.radians(threshold))
        for _ in range(rounds):
            along = (n * up[..., None]).sum(1, keepdim=True).abs()
            sign = (along < orthogonal).to(w) - (along > parallel).to(w)
            up = _dominant(eye - (products * sign).sum(2).view(-1, 3, 3), up)
    return up


def _dominant(matrix: Tensor, start: Tensor) -> Tensor:
    """Return the (B, 3) eigenvector of the largest eigenvalue that points to the side of `start`.

    Squaring the positive definite matrix eight times amounts to 256 power iterations. This needs no
    solver, which would stall a GPU, and for equal eigenvalues it returns the projection of `start`
    onto their space. Eigenvalues are at most 2, so the powers fit float64, which neither autocast
    nor TF32 affects.
    """
    matrix = matrix.double()
    for _ in range(8):
        matrix = matrix @ matrix
    vector = (matrix @ start.double()[..., None])[..., 0]
    return torch.nn.functional.normalize(vector, dim=1).to(start)
