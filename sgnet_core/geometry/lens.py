"""Cameras with lens distortion: pixels to rays and back.

Models and coefficients are those of ``sensor_msgs/CameraInfo`` (REP 104), which are OpenCV's:

- ``plumb_bob`` (k1 k2 p1 p2 k3) and ``rational_polynomial`` (k1 k2 p1 p2 k3 k4 k5 k6): Brown,
  "Close-Range Camera Calibration", Photogrammetric Engineering, 1971; the second divides the radial
  polynomial by another one;
- ``equidistant`` (k1 k2 k3 k4): Kannala and Brandt, "A Generic Camera Model and Calibration Method
  for Conventional, Wide-Angle, and Fish-Eye Lenses", TPAMI 2006.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sgnet_core.geometry.intrinsics import Intrinsics

COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}
"""Number of coefficients of each model."""

_WIDEST = math.radians(89)  # limit of the angle between a ray and the optical axis
_ROUNDS = 3  # rounds of Newton's method; its start ignores only the tangential distortion


@dataclass(frozen=True)
class Lens:
    """Distortion model of a lens; without coefficients, or if all are 0, there is no distortion.

    Raises:
        ValueError: an unknown model, more coefficients than the model has, or one that is not
            finite.
    """

    model: str = "plumb_bob"
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.coefficients):
            return
        if self.model not in COEFFICIENTS:
            known = ", ".join(COEFFICIENTS)
            raise ValueError(
                f"distortion model '{self.model}' is not one of {known}: use rectified images"
            )
        if any(self.coefficients[COEFFICIENTS[self.model] :]):
            raise ValueError(
                f"distortion model {self.model} has {COEFFICIENTS[self.model]} coefficients, got "
                f"{len(self.coefficients)}: use rectified images"
            )
        if not all(math.isfinite(c) for c in self.coefficients):
            raise ValueError(f"distortion coefficients must be finite, got {self.coefficients}")

    @property
    def distorts(self) -> bool:
        """True if any coefficient differs from 0."""
        return any(self.coefficients)

    def distort(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Project rays (x, y, 1) to the image plane at distance 1.

        Rays beyond the range in which the distorted radius grows with the radius give NaN, because
        the polynomials would map them back into the image.
        """
        if not self.distorts:
            return x, y
        squared = x * x + y * y
        squared = torch.where(squared <= self._widest_squared, squared, torch.nan)
        radial = self._radial(squared)
        p1, p2 = (0.0, 0.0) if self.model == "equidistant" else self._padded[2:4]
        return (
            x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
            y * radial + 2 * p2 * x * y + p1 * (squared + 2 * y * y),
        )

    def undistort(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Invert `distort` in float64 by Newton's method; NaN where no ray leads to the point."""
        if not self.distorts:
            return x, y
        x, y = x.double(), y.double()
        radius = (x * x + y * y).sqrt()
        scale = self._inverse_radius(radius) / radius.clamp(min=1e-12)
        scale = torch.where(radius < 1e-9, 1.0, scale)
        a, b = x * scale, y * scale
        step = 1e-6
        for _ in range(_ROUNDS):
            at = self.distort(a, b)
            du = [(q - p) / step for p, q in zip(at, self.distort(a + step, b), strict=True)]
            dv = [(q - p) / step for p, q in zip(at, self.distort(a, b + step), strict=True)]
            ex, ey = x - at[0], y - at[1]
            determinant = du[0] * dv[1] - du[1] * dv[0]
            a = a + (ex * dv[1] - ey * dv[0]) / determinant
            b = b + (ey * du[0] - ex * du[1]) / determinant
        found = self.distort(a, b)
        right = (found[0] - x).hypot(found[1] - y) < 1e-6
        return torch.where(right, a, torch.nan), torch.where(right, b, torch.nan)

    @property
    def _padded(self) -> tuple[float, ...]:
        return (*self.coefficients, *(0.0,) * 8)[:8]

    def _radial(self, squared: Tensor) -> Tensor:
        """Return the ratio of distorted radius to radius, from the squared radius."""
        if self.model == "equidistant":
            k1, k2, k3, k4 = self._padded[:4]
            radius = squared.sqrt()
            angle = radius.atan()
            t = angle * angle
            bent = angle * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
            return torch.where(radius > 1e-9, bent / radius.clamp(min=1e-9), 1.0)
        k1, k2, _, _, k3, k4, k5, k6 = self._padded
        divisor = 1 + squared * (k4 + squared * (k5 + squared * k6))
        return (1 + squared * (k1 + squared * (k2 + squared * k3))) / divisor

    @functools.cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Radii and distorted radii, up to where the latter stop growing."""
        radius = torch.linspace(0, _WIDEST, 8192, dtype=torch.float64).tan()
        bent = radius * self._radial(radius * radius)
        falls = (bent.diff() <= 0).nonzero()
        count = int(falls[0]) + 1 if len(falls) else len(radius)
        return radius[:count], bent[:count]

    @functools.cached_property
    def _widest_squared(self) -> float:
        return float(self._table[0][-1]) ** 2

    def _inverse_radius(self, bent: Tensor) -> Tensor:
        """Invert the radial part of the distortion, clamped to the widest radius."""
        radii, table = self._table
        after = torch.searchsorted(table, bent.contiguous()).clamp(1, len(table) - 1)
        low, high = table[after - 1], table[after]
        part = ((bent - low) / (high - low)).clamp(0, 1)
        return radii[after - 1] + part * (radii[after] - radii[after - 1])


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with a lens."""

    pinhole: Intrinsics
    lens: Lens = field(default_factory=Lens)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project (3, ...) points of the optical frame to columns and rows, (...) each.

        NaN behind the camera and outside the field of its lens.
        """
        z = torch.where(points[2] > 0, points[2], torch.nan)
        x, y = self.lens.distort(points[0] / z, points[1] / z)
        return x * self.pinhole.fx + self.pinhole.cx, y * self.pinhole.fy + self.pinhole.cy

    def rays(self) -> Tensor:
        """Return x and y of the ray (x, y, 1) of each pixel, (2, H, W) float64, NaN without one."""
        return self._rays(0.0, self.pinhole.width, self.pinhole.height)

    def corner_rays(self) -> Tensor:
        """Return x and y of the rays of the pixel corners, (2, H + 1, W + 1) float64."""
        return self._rays(-0.5, self.pinhole.width + 1, self.pinhole.height + 1)

    def bend_px(self) -> float:
        """Return the largest shift in pixels that the lens causes, on a grid of 64x48 points.

        It is infinite if a pixel has no ray.
        """
        if not self.lens.distorts:
            return 0.0
        grid = self.pinhole.resized(min(self.pinhole.width, 64), min(self.pinhole.height, 48))
        moved = Camera(grid, self.lens).rays() - Camera(grid).rays()
        by = (moved[0] * self.pinhole.fx).hypot(moved[1] * self.pinhole.fy)
        return float(by.nan_to_num(nan=math.inf).max())

    def _rays(self, first: float, columns: int, rows: int) -> Tensor:
        u = torch.arange(columns, dtype=torch.float64) + first
        v = torch.arange(rows, dtype=torch.float64)[:, None] + first
        x = ((u - self.pinhole.cx) / self.pinhole.fx).expand(rows, columns)
        y = ((v - self.pinhole.cy) / self.pinhole.fy).expand(rows, columns)
        return torch.stack(self.lens.undistort(x, y))
