"""Depths that count as measurements."""

from __future__ import annotations

DEPTH_RANGE = (1e-3, 1e3)
"""Meters that count as a measurement, both ends included: wider than any depth camera's range, so
that only 0, NaN, infinities, negative values and the huge numbers that stand for "nothing" fall
outside. A sensor's own, narrower limits are an argument of `valid_depth` and `depth_map`, and part
of a model (`sgnet_core.models.info.ModelInfo.depth_range`)."""
