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
"""Downward pitch that the search starts at, radians. The published start is a level camera; but a
camera that looks down at 46 degrees sees the same corner as one that looks up at 44, and hands,
heads and robots look down far more often."""


@torch.no_grad()
def estimate_up(normals: Tensor, weight: Tensor) -> Tensor:
    """Find the direction that most normals are parallel or orthogonal to, by alternation.

    Each round takes the normals within a threshold of the present direction (or its opposite) as
    level surfaces, those within a threshold of orthogonal to it as walls, and moves to the
    direction y that minimizes Σ_walls (n·y)² − Σ_level (n·y)². The true direction must lie within
    45° of the start: a camera that does not roll may look from 60° down to 30° up. The selection
    has no useful gradient: none is kept.

    Args:
        normals: (B, 3, ...) unit vectors in the camera frame (x right, y down, z forward).
        weight: (B, 1, ...) ≥ 0 of each normal.

    Returns:
        (B, 3) unit vectors that point up. Directions which the normals leave undecided stay as
        they were at the start.
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
    """Eigenvector of the largest eigenvalue, (B, 3), on the side of `start`.

    By repeated squaring of the positive definite matrix (256 power iterations): no solver to wait
    for on a GPU, and where eigenvalues are equal it keeps the start's part in their space. They are
    2 at most: in float64 the powers need no scaling, and autocast and TF32 leave them alone.
    """
    matrix = matrix.double()
    for _ in range(8):
        matrix = matrix @ matrix
    vector = (matrix @ start.double()[..., None])[..., 0]
    return torch.nn.functional.normalize(vector, dim=1).to(start)
