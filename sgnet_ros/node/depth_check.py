"""Plausibility of depth images: wrong units and images without a measurement."""

from __future__ import annotations

from sgnet_core.data.depth_units import FARTHEST_M, NEAREST_M, median_depth
from sgnet_ros.messages.images import ImageArray


def depth_problem(depth: ImageArray) -> str:
    """Return why a depth image is implausible, with its median and likely unit; empty if plausible.

    Args:
        depth: (H, W) uint16 millimeters or float32 meters.
    """
    integer = depth.dtype.kind == "u"
    median = median_depth(depth)
    if median is None:
        found = "every pixel is 0 or 65535" if integer else "every pixel is 0, NaN or infinite"
        return f"{found}, which means no measurement: check the camera and its topic"
    if integer and median < NEAREST_M * 1000:
        return (
            f"the median is {median:.0f} mm: the unit is probably not millimeters, as 16UC1 "
            "requires (REP 118); make the driver publish millimeters"
        )
    if not integer and median > FARTHEST_M:
        return (
            f"the median is {median:.0f} m: the unit is probably millimeters, but 32FC1 requires "
            "meters (REP 118); make the driver publish 16UC1, or meters"
        )
    return ""
