"""Depth of one camera seen from another: re-projection onto the colour image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sgnet_core.camera import Intrinsics

_MAX_FOOTPRINT = 32
"""A depth pixel that would cover more target pixels than this, per axis, lies nearly at the colour
camera's centre: no surface that the camera can depict."""


def register_depth(
    depth: npt.NDArray[np.floating],
    depth_camera: Intrinsics,
    rgb_camera: Intrinsics,
    depth_to_rgb: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Depth as the colour camera sees it, by forward projection with a z-buffer.

    Each depth pixel is a small square facing its camera; it covers the pixels of the colour image
    whose centres lie in the bounding box of the square's projection, so a colour image of finer
    resolution gets no grid of holes. Where squares overlap the nearest one wins.

    Args:
        depth: (h, w) metres, 0 or less = invalid.
        depth_camera: intrinsics of ``depth``, w x h.
        rgb_camera: intrinsics of the colour image, W x H.
        depth_to_rgb: (4, 4) float64, takes points of the depth camera's optical frame to the colour
            camera's, metres.

    Returns:
        (H, W) float32 metres along the colour camera's axis, 0 where nothing was projected.

    Raises:
        ValueError: ``depth`` isn't of the size that ``depth_camera`` says.
    """
    if depth.shape != (depth_camera.height, depth_camera.width):
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, its intrinsics are for "
            f"{depth_camera.width}x{depth_camera.height}"
        )
    v, u = np.nonzero(depth > 0)
    z = depth[v, u].astype(np.float64)
    centre = _transform(u, v, z, depth_camera, depth_to_rgb)
    boxes = [
        _project(_transform(u + du, v + dv, z, depth_camera, depth_to_rgb), rgb_camera)
        for du in (-0.5, 0.5)
        for dv in (-0.5, 0.5)
    ]
    # (2, N): the first pixel centre inside the box and one past the last, columns and rows
    first = np.ceil(np.min(boxes, axis=0))
    last = np.ceil(np.max(boxes, axis=0))
    z_rgb = centre[2]
    usable = (z_rgb > 0) & np.isfinite(first + last).all(0)
    usable &= (last - first <= _MAX_FOOTPRINT).all(0)
    limits = np.array([[rgb_camera.width], [rgb_camera.height]])
    first = np.clip(first[:, usable], 0, limits).astype(np.intp)
    last = np.clip(last[:, usable], 0, limits).astype(np.intp)
    return _rasterize(first, last, z_rgb[usable], rgb_camera)


def _transform(
    u: npt.NDArray[np.floating | np.integer],
    v: npt.NDArray[np.floating | np.integer],
    z: npt.NDArray[np.float64],
    camera: Intrinsics,
    transform: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Pixels (N,) at depth z (N,) as points (3, N) of the other camera."""
    x = (u - camera.cx) / camera.fx * z
    y = (v - camera.cy) / camera.fy * z
    rotation, translation = transform[:3, :3], transform[:3, 3:]
    moved: npt.NDArray[np.float64] = rotation @ np.stack([x, y, z]) + translation
    return moved


def _project(points: npt.NDArray[np.float64], camera: Intrinsics) -> npt.NDArray[np.float64]:
    """Points (3, N) → (2, N) column and row; points behind the camera become NaN."""
    z = np.where(points[2] > 0, points[2], np.nan)
    return np.stack([points[0] / z * camera.fx + camera.cx, points[1] / z * camera.fy + camera.cy])


def _rasterize(
    first: npt.NDArray[np.intp],
    last: npt.NDArray[np.intp],
    z: npt.NDArray[np.float64],
    camera: Intrinsics,
) -> npt.NDArray[np.float32]:
    """Boxes (2, N), half open, at depth z (N,) → (H, W) float32, the nearest depth per pixel."""
    nearest = np.full(camera.height * camera.width, np.inf)
    extent = (last - first).max(axis=1, initial=0)
    for dv in range(extent[1]):
        for du in range(extent[0]):
            inside = (first[0] + du < last[0]) & (first[1] + dv < last[1])
            pixels = (first[1, inside] + dv) * camera.width + first[0, inside] + du
            np.minimum.at(nearest, pixels, z[inside])
    nearest[np.isinf(nearest)] = 0
    return nearest.reshape(camera.height, camera.width).astype(np.float32)
