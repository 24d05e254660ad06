"""Pinhole intrinsics that follow the image through every resize, crop and flip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera in pixels: u = fx·X/Z + cx, v = fy·Y/Z + cy (REP 103 optical frame).

    Pixel centers lie at integer coordinates: the center of the top-left pixel is (0, 0), as in
    ``sensor_msgs/CameraInfo``. ``width`` and ``height`` are the size of the image.

    Raises:
        ValueError: a focal length that is not a positive finite number, a principal point that is
            not finite, or an empty image.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if not all(math.isfinite(f) and f > 0 for f in (self.fx, self.fy)):
            raise ValueError(
                f"focal lengths must be positive and finite, got fx={self.fx}, fy={self.fy} "
                "(an uncalibrated camera has K[0] == 0: calibrate it, or give fx fy cx cy)"
            )
        if not (math.isfinite(self.cx) and math.isfinite(self.cy)):
            raise ValueError(f"the principal point must be finite, got ({self.cx}, {self.cy})")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"the image must not be empty, got {self.width}x{self.height}")

    @classmethod
    def from_fov(cls, width: int, height: int, fov_x_deg: float) -> Intrinsics:
        """Make a camera with square pixels and a centered principal point.

        Args:
            width, height: size of the image, pixels.
            fov_x_deg: horizontal field of view in degrees, above 0 and below 180.
        """
        focal = width / (2 * math.tan(math.radians(fov_x_deg) / 2))
        return cls(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)

    @classmethod
    def from_matrix(
        cls, matrix: Sequence[float] | npt.NDArray[np.floating], width: int, height: int
    ) -> Intrinsics:
        """Make a camera from a row-major K: 9 numbers (``CameraInfo.k``) or a (3, 3) array."""
        k = np.asarray(matrix, dtype=np.float64).reshape(3, 3)
        return cls(k[0, 0], k[1, 1], k[0, 2], k[1, 2], width, height)

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return K as a (3, 3) float64 array."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    def resized(self, width: int, height: int) -> Intrinsics:
        """Return the camera of the image resampled to ``width`` x ``height``.

        Image edges stay on image edges (the convention of OpenCV and of ``align_corners=False``),
        so a pixel center u moves to (u + 0.5)·s − 0.5.
        """
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            width=width,
            height=height,
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Intrinsics:
        """Return the camera of the window at (left, top), which may reach outside the image."""
        return replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def flipped(self) -> Intrinsics:
        """Return the camera of the image mirrored left to right; X of all points changes sign."""
        return replace(self, cx=self.width - 1 - self.cx)

    def parameters(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return (1, 4) float32 fx, fy, cx, cy, as `sgnet_core.geometry.spatial` takes them."""
        import torch  # not at the top, so that commands that only read cameras start without it

        return torch.tensor([[self.fx, self.fy, self.cx, self.cy]], device=device)
