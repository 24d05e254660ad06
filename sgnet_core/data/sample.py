"""One labeled RGB-D frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgnet_core.geometry.intrinsics import Intrinsics


@dataclass(frozen=True)
class Sample:
    """A labeled RGB-D frame, depth registered to color, in numpy arrays.

    Attributes:
        rgb: (H, W, 3) uint8, RGB.
        depth: (H, W) float32, meters along the optical axis, 0 where the sensor saw nothing.
        labels: (H, W) uint8 class ids, 255 = ignore.
        intrinsics: of the image, pixels.
        depth_exact: (H, W) float32 meters without sensor effects, where it is known.
        up: (3,) float32 unit vector against gravity in the camera frame (x right, y down,
            z forward), where it is known.
        camera_height: meters above the floor, where it is known.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    intrinsics: Intrinsics
    depth_exact: NDArray[np.float32] | None = None
    up: NDArray[np.float32] | None = None
    camera_height: float | None = None
