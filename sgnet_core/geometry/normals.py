"""Compute surface normals by fitting planes to the widest windows that show one surface."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 240
"""Approximate rows of the grid of normals; on a finer grid they would follow the noise."""

WINDOWS = ((2, 4), (2, 2), (1, 2))
"""(spacing, radius) of every grid of windows, from coarse to fine.

The spacing of the window centers is in cells, the radius in spacings. The windows are 18, 10 and 5
cells wide, which is 36, 20 and 10 pixels at 480 rows. The published code uses 21 pixels for gravity
and 7 for the angle.
"""

RIDGE = 0.03
"""Cells², added to the spread of every window.

With it, a single pixel gets a plane that faces the camera. A full window of 10x10 pixels (spread
200) changes by 2e-4.
"""

RESIDUAL_FLOOR = 1e-8
"""1/m², the resolution of float32, added to the residuals, so that exact fits compare equal."""


def cell_size(height: int) -> int:
    """Return the side of a grid cell in pixels, for images with ``height`` rows."""
    return max(1, (height + ROWS // 2) // ROWS)


def surface_normals(
    weight: Tensor, disparity: Tensor, intrinsics: Tensor, cell: int
) -> tuple[Tensor, Tensor]:
    """Compute unit normals that point to the camera, on a grid of cells.

    The inverse depth of a plane is linear in the pixel coordinates, and the noise of
    structured-light and stereo cameras is uniform in it, so a plane is fitted by linear regression
    from windowed moments. Small windows give noisy normals, wide ones mix surfaces. So each cell
    chooses among three window widths the one with the least variance of the mean, which is the
    variance of the residuals divided by the number of pixels. It falls as windows get wider, until
    they reach across an edge.

    Args:
        weight: (B, 1, H, W), 1 where there is a measurement, else 0.
        disparity: (B, 1, H, W) inverse depth in 1/m; 0 where there is no measurement.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy in pixels of this image.
        cell: pixels along the side of a cell, see `cell_size`.

    Returns:
        (B, 3, h, w) normals, (0, 0, −1) where no window contains a measurement, and (B, 1, h, w)
        numbers of measured pixels per cell. Pixel (v, u) is in cell (v // cell, u // cell); h and w
        are even, so the last row and column may lie outside the image.
    """
    cells = _cell_moments(weight, disparity, cell)
    moments = {1: cells, 2: _binned(_binned(cells, 2, 2), 3, 2)}
    planes: list[Tensor] = []
    for spacing, radius in WINDOWS:
        plane, variance = _fit(_windowed(moments[spacing], radius))
        if planes:
            if spacing == 1:
                planes = [_doubled(x) for x in planes]
            better = variance <= planes[1]
            plane = torch.where(better, plane, planes[0])
            variance = torch.where(better, variance, planes[1])
        planes = [plane, variance]
    slope_u, slope_v, middle = planes[0].unbind(1)
    height, width = weight.shape[2:]
    fx, fy, cx, cy = intrinsics.to(middle).view(-1, 4, 1, 1).unbind(1)
    # The plane a·x + b·y + c·z = 1 has the inverse depth a·(u − cx)/fx + b·(v − cy)/fy + c. It is
    # positive where the plane is visible, which gives the sign of the normal.
    du, dv = (cx - (width - 1) / 2) / cell, (cy - (height - 1) / 2) / cell
    c = middle + slope_u * du + slope_v * dv
    normals = torch.stack((slope_u * (fx / cell), slope_v * (fy / cell), c), dim=1)
    # This is several times faster than F.normalize.
    return normals * -torch.rsqrt(normals.square().sum(1, keepdim=True)), cells[:, :1]


def _cell_moments(weight: Tensor, disparity: Tensor, cell: int) -> Tensor:
    """Sum 1, u, v, u², uv, v², d, du, dv, d² over the pixels of every cell, (B, 10, h, w).

    u and v are in cells from the middle of the image, d is the disparity.
    """
    height, width = weight.shape[2:]
    side = 2 * cell
    rows, columns = (height + side - 1) // side * side, (width + side - 1) // side * side
    margin = (0, columns - width, 0, rows - height)
    weight, disparity = F.pad(weight, margin), F.pad(disparity, margin)
    u = torch.arange(columns, device=weight.device).to(weight)
    v = torch.arange(rows, device=weight.device).to(weight).view(-1, 1)
    u, v = (u - (width - 1) / 2) / cell, (v - (height - 1) / 2) / cell
    w_u = weight * u
    planes = (weight, w_u, w_u * u, disparity, disparity * u, disparity.square())
    s, s_u, s_uu, t, t_u, t_t = (_binned(plane, 3, cell) for plane in planes)
    s_v = s * v
    binned = torch.cat((s, s_u, s_v, s_uu, s_u * v, s_v * v, t, t_u, t * v, t_t), dim=1)
    return _binned(binned, 2, cell)


def _binned(planes: Tensor, dim: int, size: int) -> Tensor:
    """Sum ``size`` neighbors along a dimension, much faster than `avg_pool2d` on the CPU."""
    bins = planes.unflatten(dim, (planes.shape[dim] // size, size)).unbind(dim + 1)
    total = bins[0]
    for k in range(1, size):
        total = total + bins[k]
    return total


def _doubled(planes: Tensor) -> Tensor:
    """Repeat every value in both directions, (..., 2h, 2w)."""
    height, width = planes.shape[2:]
    squares = planes[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return squares.reshape(*planes.shape[:2], 2 * height, 2 * width)


def _windowed(planes: Tensor, radius: int) -> Tensor:
    """Sum over the (2·radius + 1)² window around every cell, with zeros beyond the border.

    Adding shifted copies is as fast as a convolution on the CPU and never rounds to TF32 or half
    precision.
    """
    for dim, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius))):
        length, padded = planes.shape[dim], F.pad(planes, pad)
        planes = padded.narrow(dim, 0, length).clone()
        for k in range(1, 2 * radius + 1):
            planes = planes.add_(padded.narrow(dim, k, length))
    return planes


def _fit(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Fit least-squares planes to windows, from their moments.

    Returns:
        (B, 3, h, w) slopes of the disparity along u and v per cell, and its value in the middle of
        the image; 0, 0 and 1 for empty windows. (B, 1, h, w) variance of the mean, 1/m².
    """
    s, s_u, s_v, s_uu, s_uv, s_vv, t, t_u, t_v, t_t = moments.unbind(1)
    scale = 1 / s.clamp(min=0.5)
    mean_u, mean_v, mean_t = s_u * scale, s_v * scale, t * scale
    c_uu, c_vv = s_uu - s_u * mean_u + RIDGE, s_vv - s_v * mean_v + RIDGE
    c_uv = s_uv - s_u * mean_v
    c_tu, c_tv = t_u - t * mean_u, t_v - t * mean_v
    det = 1 / (c_uu * c_vv - c_uv * c_uv)
    slope_u = (c_vv * c_tu - c_uv * c_tv) * det
    slope_v = (c_uu * c_tv - c_uv * c_tu) * det
    middle = mean_t - slope_u * mean_u - slope_v * mean_v + (s <= 0).to(t)
    residual = (t_t - t * mean_t - slope_u * c_tu - slope_v * c_tv).clamp(min=0)
    # A plane fits any three pixels exactly, so only the others tell the noise.
    variance = (residual * scale + RESIDUAL_FLOOR) / (s - 3).clamp(min=1e-3)
    return torch.stack((slope_u, slope_v, middle), dim=1), variance[:, None]
