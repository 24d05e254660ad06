"""Surface normals of a depth image: one plane per pixel, fitted to the window around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1e-2
"""Pixels², added to the spread of every window: a pixel alone gets a plane that faces the camera,
a full 7x7 window (spread 196) changes by 5e-5."""


def normal_map(weight: Tensor, disparity: Tensor, intrinsics: Tensor, radius: int) -> Tensor:
    """Unit normals, towards the camera, of least-squares planes through (2·radius + 1)² windows.

    A plane's inverse depth is linear in the pixel coordinates, and a structured-light or stereo
    camera's noise is even in it; so the fit is a linear regression, from nine windowed moments.
    Pixels without a measurement weigh nothing, those beyond the border neither.

    Args:
        weight: (B, 1, H, W) ≥ 0; 0 where there is no measurement.
        disparity: (B, 1, H, W) inverse depth in 1/m, *multiplied by the weight*.
        intrinsics: (B, 4) or (1, 4) fx, fy, cx, cy in pixels of this image.
        radius: of the window, pixels.

    Returns:
        (B, 3, H, W); (0, 0, −1) in windows with nothing in them.
    """
    count, disparity = weight[:, 0], disparity[:, 0]
    padded = [F.pad(plane, (radius,) * 4) for plane in (count, disparity)]
    m0, m1, m2 = (_moment(padded[0], 2, radius, order) for order in (0, 1, 2))
    t0, t1 = (_moment(padded[1], 2, radius, order) for order in (0, 1))
    s, s_v, s_vv = (_moment(m0, 1, radius, order) for order in (0, 1, 2))
    s_u, s_uv = (_moment(m1, 1, radius, order) for order in (0, 1))
    s_uu = _moment(m2, 1, radius, 0)
    t, t_v = (_moment(t0, 1, radius, order) for order in (0, 1))
    t_u = _moment(t1, 1, radius, 0)

    scale = 1 / s.clamp(min=1e-3)
    mean_u, mean_v = s_u * scale, s_v * scale
    c_uu = s_uu - s_u * mean_u + RIDGE
    c_vv = s_vv - s_v * mean_v + RIDGE
    c_uv = s_uv - s_u * mean_v
    c_tu, c_tv = t_u - t * mean_u, t_v - t * mean_v
    det = 1 / (c_uu * c_vv - c_uv * c_uv)
    slope_u = (c_vv * c_tu - c_uv * c_tv) * det
    slope_v = (c_uu * c_tv - c_uv * c_tu) * det
    # Positive, since the surface lies before the camera; this also fixes the normal's sign.
    centre = (t * scale - slope_u * mean_u - slope_v * mean_v).clamp(min=1e-6)

    fx, fy, cx, cy = intrinsics.to(centre).view(-1, 4, 1, 1).unbind(1)
    u = torch.arange(centre.shape[2], device=centre.device, dtype=centre.dtype)
    v = torch.arange(centre.shape[1], device=centre.device, dtype=centre.dtype).view(-1, 1)
    # The plane a·x + b·y + c·z = 1 has inverse depth a·(u − cx)/fx + b·(v − cy)/fy + c.
    a, b, c = slope_u * fx, slope_v * fy, centre - slope_u * (u - cx) - slope_v * (v - cy)
    length = -torch.rsqrt(a * a + b * b + c * c)  # several times faster than F.normalize
    return torch.stack((a * length, b * length, c * length), dim=1)


def _moment(padded: Tensor, dim: int, radius: int, order: int) -> Tensor:
    """Σ kᵒʳᵈᵉʳ · plane(p + k) over k = −radius..radius along a dimension padded by the radius.

    Shifted sums: on the CPU as fast as a convolution, and never rounded to TF32 or half.
    """
    length = padded.shape[dim] - 2 * radius
    middle = padded.narrow(dim, radius, length)
    total = middle.clone() if order == 0 else torch.zeros_like(middle)
    for k in range(1, radius + 1):
        total.add_(padded.narrow(dim, radius + k, length), alpha=k**order)
        total.add_(padded.narrow(dim, radius - k, length), alpha=(-k) ** order)
    return total
