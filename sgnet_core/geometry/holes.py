"""Fill missing depth from the nearest measurement, or guided by color."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.geometry.points import depth_map

HolePolicy = Literal["none", "nearest", "joint_bilateral"]

BILATERAL_RADIUS = 4  # pixels
BILATERAL_SPACE = 2.0  # pixels, standard deviation of the distance in the image
BILATERAL_COLOR = 12.0  # standard deviation of the distance in RGB, 0..255
_CHUNK = 1 << 15  # number of holes filled at a time, which limits memory
_FAR = 1 << 14  # pixels, farther than any measurement; its square fits int32


def fill_holes(
    depth: Tensor,
    policy: HolePolicy,
    rgb: Tensor | None = None,
    limits: tuple[float, float] = DEPTH_RANGE,
) -> Tensor:
    """Fill the pixels without a measurement.

    - "none" sets them to 0;
    - "nearest" copies the nearest measured pixel (Euclidean distance in the image);
    - "joint_bilateral" takes the mean of surrounding pixels, weighted by distance in the image and
      in color (Petschnigg et al.; Eisemann and Durand; both SIGGRAPH 2004). It fills from the
      border of a hole inwards, so that filled surfaces tend to end where the color changes.

    Measured pixels keep their values, and images without any measurement become 0. Gradients flow
    from a filled pixel to the measurements that it is computed from.

    Args:
        depth: (B, 1, H, W) meters.
        policy: one of the above.
        rgb: (B, 3, H, W) in 0..255, uint8 or float; needed by "joint_bilateral".
        limits: (nearest, farthest) meters that count as a measurement.

    Raises:
        ValueError: an unknown policy; rgb missing where it is needed, or of another size.
    """
    depth = depth_map(depth, limits)
    if policy == "none":
        return depth
    if policy == "nearest":
        return _fill_nearest(depth)
    if policy != "joint_bilateral":
        raise ValueError(f"holes must be one of {', '.join(get_args(HolePolicy))}; got {policy!r}")
    if rgb is None:
        raise ValueError("hole policy 'joint_bilateral' needs the color image")
    if rgb.shape != (len(depth), 3, *depth.shape[2:]):
        raise ValueError(
            f"the color image must be (B, 3, H, W) for depth of {tuple(depth.shape)}, "
            f"got {tuple(rgb.shape)}"
        )
    return _fill_joint_bilateral(depth, rgb.to(depth))


def _fill_nearest(depth: Tensor) -> Tensor:
    """Fill with the exact nearest measurement in two passes, along columns, then along rows."""
    plane = depth[:, 0]
    valid = plane > 0
    row = _nearest_along(valid, 1)
    height, width = plane.shape[1:]
    v = torch.arange(height, device=depth.device, dtype=torch.int32).view(-1, 1)
    u = torch.arange(width, device=depth.device, dtype=torch.int32)
    vertical = (row - v).abs().clamp(max=_FAR)
    holes = (~valid & valid.flatten(1).any(1)[:, None, None]).nonzero()
    if len(holes) == 0:
        return depth
    # The nearest measurement in the row or the column of a hole limits its search along the row.
    bound = torch.minimum(vertical, (_nearest_along(valid, 2) - u).abs())
    reach = min(int(bound[tuple(holes.T)].max()), width - 1)
    offset = torch.arange(-reach, reach + 1, device=depth.device, dtype=torch.int32)
    squared = F.pad(vertical * vertical, (reach, reach), value=_FAR * _FAR).flatten()
    filled = plane.clone()
    for b, y, x in (chunk.unbind(1) for chunk in holes.split(_CHUNK)):
        start = (b * height + y) * (width + 2 * reach) + x
        distance = squared[start[:, None] + (offset + reach)] + offset * offset
        column = x + distance.argmin(1) - reach
        filled[b, y, x] = plane[b, row[b, y, column].long(), column]
    return filled[:, None]


def _nearest_along(valid: Tensor, dim: int) -> Tensor:
    """Return the int32 index along `dim` of the nearest true pixel, or at most −`_FAR`."""
    size = [1, 1, 1]
    size[dim] = -1
    index = torch.arange(valid.shape[dim], device=valid.device, dtype=torch.int32).view(size)
    before = torch.where(valid, index, -2 * _FAR).cummax(dim).values
    after = torch.where(valid, index, 2 * _FAR).flip(dim).cummin(dim).values.flip(dim)
    none_after = after >= 2 * _FAR
    return torch.where(none_after | (index - before <= after - index), before, after)


def _fill_joint_bilateral(depth: Tensor, rgb: Tensor) -> Tensor:
    """Fill in rounds; each round fills every hole that has a known pixel within the radius."""
    r = BILATERAL_RADIUS
    height, width = depth.shape[2:]
    steps = torch.arange(-r, r + 1, device=depth.device)
    offset = (steps[:, None] * (width + 2 * r) + steps).flatten()
    near = (steps[:, None] ** 2 + steps**2).flatten() / (-2 * BILATERAL_SPACE**2)
    color = F.pad(rgb, (r, r, r, r)).movedim(1, 3).reshape(-1, 3)
    inside = F.pad(torch.ones_like(depth[:, 0], dtype=torch.bool), (r, r, r, r))
    padded = F.pad(depth[:, 0], (r, r, r, r))
    while True:
        known = padded > 0
        reached = F.max_pool2d(known.to(depth), (2 * r + 1, 1), 1, (r, 0))
        reached = F.max_pool2d(reached, (1, 2 * r + 1), 1, (0, r)) > 0
        border = (reached & ~known & inside).flatten().nonzero()
        if len(border) == 0:
            return padded[:, None, r : r + height, r : r + width]
        source = padded.flatten()
        values = []
        for hole in border.split(_CHUNK):
            window = hole + offset
            z = source[window]
            contrast = (color[window] - color[hole]).square().sum(2)
            score = near - contrast / (2 * BILATERAL_COLOR**2)
            weight = torch.where(z > 0, score, -torch.inf).softmax(1)
            values.append((weight * z).sum(1))
        padded = source.index_put((border[:, 0],), torch.cat(values)).view_as(padded)
