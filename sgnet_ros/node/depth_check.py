"""Plausibility of depth images: wrong units and images without a measurement."""

from __future__ import annotations

import numpy as np

from sgnet_ros.messages.images import ImageArray

_SAMPLES = 4000
_FAR_M = 100.0
"""Median distance in meters beyond which no depth camera measures."""
_NEAR_MM = 10.0
"""Median distance in millimeters below which no depth camera measures."""
_NO_MEASUREMENT = 65535


def depth_problem(depth: ImageArray) -> str:
    """Return why a depth image cannot be right, with its median and likely unit; empty if it can.

    Looks at some 4000 pixels of a regular grid.

    Args:
        depth: (H, W) uint16 millimeters or float32 meters.
    """
    stride = max(1, int((depth.size / _SAMPLES) ** 0.5))
    some = depth[::stride, ::stride]
    integer = depth.dtype.kind == "u"
    measured = some[(some > 0) & (some != _NO_MEASUREMENT)] if integer else some[some > 0]
    measured = measured[np.isfinite(measured)]
    if not measured.size:
        found = "every pixel is 0 or 65535" if integer else "every pixel is 0, NaN or infinite"
        return f"{found}, which means no measurement: check the camera and its topic"
    median = float(np.median(measured))
    if integer and median < _NEAR_MM:
        return (
            f"the median is {median:.0f} mm: likely another unit than millimeters, which 16UC1 "
            "holds (REP 118); have the driver publish millimeters"
        )
    if not integer and median > _FAR_M:
        return (
            f"the median is {median:.0f} m: likely millimeters, where 32FC1 holds meters "
            "(REP 118); have the driver publish 16UC1, or meters"
        )
    return ""
