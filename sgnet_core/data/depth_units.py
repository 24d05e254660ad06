"""Check whether depth is plausible, and guess the unit of its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NO_MEASUREMENT = 65535
"""Value besides 0 that means "no measurement" in integer depth images of some cameras."""

NEAREST_M, FARTHEST_M = 0.01, 100.0
"""Plausible range in meters for the median of a depth image of any camera."""

KNOWN_SCALES = (0.001, 0.0002, 0.0001, 0.01, 0.00025, 1.0)
"""Usual meters per unit: millimeters, 1/5 mm, 1/10 mm, centimeters, 1/4 mm, meters."""

_SAMPLES = 4000


def median_depth(depth: npt.NDArray[Any]) -> float | None:
    """Return the median of the measurements of a depth image in its own unit, or None without any.

    The median is that of about 4000 pixels on a regular grid, or of all pixels if none of these is
    a measurement.

    Args:
        depth: (H, W) integers, in which 0 and `NO_MEASUREMENT` mean "no measurement", or
            floating-point numbers, in which 0, negative, NaN and infinite do.
    """
    stride = max(1, int((depth.size / _SAMPLES) ** 0.5))
    for pixels in (depth[::stride, ::stride], depth):
        measured = pixels[pixels > 0]
        integers = measured.dtype.kind in "iu"
        measured = measured[measured != NO_MEASUREMENT if integers else np.isfinite(measured)]
        if measured.size:
            return float(np.median(measured))
    return None


def likely_scale(median: float) -> float | None:
    """Return the first of `KNOWN_SCALES` that puts a median at 0.4 to 10 m, or None."""
    return next((scale for scale in KNOWN_SCALES if 0.4 <= median * scale <= 10), None)


def unit_hint(median: float, integers: bool) -> str:
    """Return the likely unit of a file of depth and the remedy, as part of a sentence.

    Args:
        median: median of the numbers in the file.
        integers: False for floating-point numbers.
    """
    scale = likely_scale(median)
    if scale is None:
        return "no usual unit gives a plausible distance"
    remedy = "write it into the camera file" if integers else "store meters"
    return (
        f"with depth_scale {scale:g} it would be {median * scale:.3g} m: {remedy}, or give predict "
        f"--depth-scale {scale:g}"
    )


def depth_doubt(meters: npt.NDArray[np.floating[Any]]) -> str:
    """Return why a depth image in meters is implausible; empty if it is plausible."""
    return median_doubt(median_depth(meters))


def median_doubt(median: float | None) -> str:
    """Return why a depth image with that `median_depth`, in meters, is doubtful; empty if not."""
    if median is None:
        return "no pixel has a depth; each is 0, 65535, NaN or infinite"
    if median < NEAREST_M:
        return f"the median depth is {median:.3g} m: is the unit right?"
    return ""
