"""Depth of rooms and planes with known normals and gravity."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgnet_core.data.rooms import Rooms
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.normals import cell_size, surface_normals

Array = NDArray[np.float64]


@cache
def rooms(height: int = 240, number: int = 10) -> list[Sample]:
    source = Rooms(seed=4_000, length=number, size=(height, height * 4 // 3))
    return [source[i] for i in range(len(source))]


def tensors(sample: Sample, exact: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    depth = sample.depth_exact if exact else sample.depth
    assert depth is not None and sample.up is not None
    return (
        torch.from_numpy(depth)[None, None],
        sample.intrinsics.parameters(),
        torch.from_numpy(sample.up)[None],
    )


def normals_of(depth: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Return the `surface_normals` of depth in meters that is 0 where nothing was measured."""
    valid = (depth > 0).to(depth)
    inverse = valid / torch.where(depth > 0, depth, 1.0)
    return surface_normals(valid, inverse, intrinsics, cell_size(depth.shape[2]))


def plane_depth(camera: Intrinsics, normal: Array, distance: float) -> Array:
    """Return the depth of the plane n·P = −distance, (H, W) meters; inf behind the camera."""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    slope = normal[0] * (u - camera.cx) / camera.fx + normal[1] * (v - camera.cy) / camera.fy
    with np.errstate(divide="ignore"):
        depth = -distance / (slope + normal[2])
    return np.where(depth > 0, depth, np.inf)


def to_tensor(depth: Array) -> Tensor:
    return torch.from_numpy(depth).float()[None, None]


def angle_between(a: Array | Tensor, b: Array | Tensor) -> float:
    cosine = float(np.dot(np.asarray(a).ravel(), np.asarray(b).ravel()))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
