"""Stamps and frames of std_msgs/Header."""

from __future__ import annotations

from typing import Any

COLOR_FRAME = "camera_color_optical_frame"
"""Frame of color images that are published without a recorded one."""


def stamp_ns(header: Any) -> int:
    """Return a header's stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def frame_of(header: Any) -> str:
    """Return a header's frame without the leading slash that tf2 no longer has."""
    return str(header.frame_id).lstrip("/")
