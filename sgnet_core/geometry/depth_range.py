"""Depths that count as measurements."""

from __future__ import annotations

DEPTH_RANGE = (1e-3, 1e3)
"""Meters that count as a measurement, both ends included.

The range is wider than that of any depth camera, so it excludes only 0, NaN, infinities, negative
values and huge numbers that mean "no measurement". `valid_depth`, `depth_map` and
`sgnet_core.models.info.ModelInfo.depth_range` take the narrower limits of a sensor.
"""
