"""Register depth images to a color camera."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.points import valid_depth

_MAX_FOOTPRINT = 32
"""Depth pixels that would cover more color pixels than this along an axis are dropped: they lie
almost at the center of the color camera, which cannot see them."""
_CHUNK = 1 << 22  # number of covered pixels drawn at a time, which limits memory


class DepthRegistration:
    """Projects depth images into a color camera; made once per calibration.

    As in ROS's ``depth_image_proc/register``, each measured pixel is projected into the color
    camera and written to the nearest pixel, where the smaller z wins. To leave no grid of holes
    where the color image has more pixels, a depth pixel is taken as a small square facing its
    camera: it is also written to the pixels whose centers lie in the bounding box of the projected
    square. (``fill_upsampling_holes`` of ``depth_image_proc`` rounds that box outwards, which makes
    near surfaces up to a pixel wider.) The rays of both cameras go through their lens models.

    Args:
        depth_camera: camera of the depth images, w x h.
        rgb_camera: camera of the color image, W x H.
        depth_to_rgb: (4, 4) float64 transform of points from the optical frame of the depth camera
            to that of the color camera, meters.
        device: device of the depth images.

    Attributes:
        never_waits: registration runs on a GPU alone, and a CUDA graph can record it.
    """

    def __init__(
        self,
        depth_camera: Camera,
        rgb_camera: Camera,
        depth_to_rgb: npt.NDArray[np.float64],
        device: torch.device | str = "cpu",
    ) -> None:
        self._size = (depth_camera.pinhole.height, depth_camera.pinhole.width)
        self._rgb = rgb_camera
        ends = [[rgb_camera.pinhole.width], [rgb_camera.pinhole.height]]
        self._ends = torch.tensor(ends, device=device)[..., None]
        rotation, translation = depth_to_rgb[:3, :3], depth_to_rgb[:3, 3]
        self._shift = torch.tensor(translation, dtype=torch.float32, device=device)[:, None, None]
        centers, corners = (
            torch.einsum(
                "ij,jhw->ihw",
                torch.from_numpy(np.ascontiguousarray(rotation, np.float64)),
                torch.cat((rays, torch.ones_like(rays[:1]))),
            ).to(device, torch.float32)
            for rays in (depth_camera.rays(), depth_camera.corner_rays())
        )
        height, width = self._size
        self._centers = centers
        self.never_waits = False
        if centers.is_cuda:
            from sgnet_core.ops.triton_support import fused_runs_on  # loads torch's compiler

            self.never_waits = fused_runs_on(centers.device)
        self._corners = [corners[:, v : v + height, u : u + width] for v in (0, 1) for u in (0, 1)]

    @torch.no_grad()
    def __call__(self, depth: Tensor) -> Tensor:
        """Register one depth image.

        Args:
            depth: (h, w) float32 meters on the device; 0, negative, NaN or infinite where there is
                no measurement.

        Returns:
            (H, W) float32 meters along the axis of the color camera, 0 where nothing is projected.

        Raises:
            ValueError: ``depth`` does not have the size of the depth camera.
        """
        if tuple(depth.shape) != self._size:
            raise ValueError(
                f"depth is {depth.shape[1]}x{depth.shape[0]}, but its intrinsics are for "
                f"{self._size[1]}x{self._size[0]}"
            )
        depth = torch.where(valid_depth(depth), depth, torch.nan)
        points = self._centers * depth + self._shift
        nearest = (torch.stack(self._rgb.project(points)) + 0.5).floor()
        corners = torch.stack(
            [torch.stack(self._rgb.project(c * depth + self._shift)) for c in self._corners]
        )
        # (2, h, w): the first covered column and row, and one past the last
        first = torch.minimum(corners.amin(0).ceil(), nearest)
        last = torch.maximum(corners.amax(0).ceil(), nearest + 1)
        usable = (last - first <= _MAX_FOOTPRINT).all(0) & (points[2] >= DEPTH_RANGE[0])
        first, last = (edge.clamp(min=0).minimum(self._ends) for edge in (first, last))
        camera = self._rgb.pinhole
        if self.never_waits:
            from sgnet_core.ops.triton_nearest import draw_nearest  # needs Triton

            boxes = torch.where(usable, torch.cat((first, last)), 0).int()
            return draw_nearest(boxes, points[2], camera.height, camera.width)
        first, last = first[:, usable].long(), last[:, usable].long()
        return _rasterize(first, last, points[2][usable], camera.width, camera.height)


def _rasterize(first: Tensor, last: Tensor, z: Tensor, width: int, height: int) -> Tensor:
    """Draw boxes of depth z (N,) and return the nearest depth of every pixel, (H, W).

    ``first`` and ``last`` (2, N) are the first column and row of each box, and one past the last.
    """
    extent = last - first
    area = extent[0] * extent[1]
    ends = area.cumsum(0)
    cuts = torch.tensor(range(_CHUNK, int(area.sum()), _CHUNK), device=z.device)
    starts = [0, *torch.searchsorted(ends, cuts).tolist(), len(z)]
    nearest = torch.full((height * width,), torch.inf, device=z.device)
    for low, high in itertools.pairwise(starts):
        box = torch.arange(low, high, device=z.device).repeat_interleave(area[low:high])
        begins = ends[low:high] - area[low:high]
        order = torch.arange(len(box), device=z.device) - (begins - begins[:1])[box - low]
        columns = extent[0, box]
        down = order // columns
        pixel = (first[1, box] + down) * width + first[0, box] + order - down * columns
        nearest.scatter_reduce_(0, pixel, z[box], "amin")
    return torch.where(nearest.isinf(), 0.0, nearest).view(height, width)
