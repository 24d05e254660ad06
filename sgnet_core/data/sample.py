"""One labeled RGB-D frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgnet_core.geometry.intrinsics import Intrinsics


@dataclass(frozen=True)
class Sample:
    """A labeled RGB-D frame in NumPy arrays, with depth registered to color.

    Attributes:
        rgb: (H, W, 3) uint8, RGB.
        depth: (H, W) float32, meters along the optical axis, 0 where there is no measurement.
        labels: (H, W) uint8 class ids, 255 = ignore.
        intrinsics: camera of all images.
        depth_exact: (H, W) float32 meters without sensor effects; None if unknown.
        up: (3,) float32 unit vector against gravity in the camera frame (x right, y down,
            z forward); None if unknown.
        camera_height: meters above the floor; None if unknown.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    intrinsics: Intrinsics
    depth_exact: NDArray[np.float32] | None = None
    up: NDArray[np.float32] | None = None
    camera_height: float | None = None
