"""Find free places in a room: against a wall, on the floor, or on a wall."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager

from sgnet_core.data.rooms.scene import Builder, Rect

WallPlace = tuple[int, float]
"""Wall 0..3, and position along it where an object begins, in meters."""


def wall_length(b: Builder, wall: int) -> float:
    """Return the length of a wall in meters."""
    return b.size[0] if wall in (0, 2) else b.size[1]


def wall_frame(b: Builder, wall: int, along: float) -> AbstractContextManager[None]:
    """Set a frame with x along wall 0..3 (y=0, x=W, y=L, x=0) from ``along``, y into the room."""
    w, length, _ = b.size
    at = ((along, 0.0), (w, along), (w - along, length), (0.0, length - along))[wall]
    return b.frame(at[0], at[1], 0.0, wall * math.pi / 2)


def wall_rect(b: Builder, wall: int, along: float, width: float, depth: float) -> Rect:
    """Return the floor area of an object that stands against a wall."""
    with wall_frame(b, wall, along):
        x0, y0, _ = b.world(0, 0, 0)
        x1, y1, _ = b.world(width, depth, 0)
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def overlaps(a: Rect, b: Rect, margin: float = 0.02) -> bool:
    """Return True if two rectangles overlap or are closer than ``margin`` meters."""
    return (
        a[0] < b[2] + margin
        and b[0] < a[2] + margin
        and a[1] < b[3] + margin
        and b[1] < a[3] + margin
    )


def fits(b: Builder, rect: Rect, others: Iterable[Rect], margin: float = 0.02) -> bool:
    """Return True if a rectangle lies in the room and does not overlap others."""
    inside = rect[0] > 0 and rect[1] > 0 and rect[2] < b.size[0] and rect[3] < b.size[1]
    return inside and not any(overlaps(rect, other, margin) for other in others)


def against_wall(
    b: Builder,
    width: float,
    depth: float,
    height: float,
    clearance: float = 0.3,
    wall: int | None = None,
    along: float | None = None,
) -> WallPlace | None:
    """Reserve floor and wall for an object with ``clearance`` in front of it; None if impossible.

    ``wall`` and ``along`` give a place instead of a random one.
    """
    for _ in range(8):
        w = int(b.rng.integers(4)) if wall is None else wall
        free = wall_length(b, w) - width - 0.02
        if free < 0:
            continue
        a = 0.01 + (b.palette.uniform(0, free) if along is None else along)
        if along is None and b.palette.chance(0.25):
            a = 0.01 if b.palette.chance(0.5) else free
        reach = wall_rect(b, w, a, width, depth + clearance)
        if any(overlaps(reach, r) for r, _ in b.obstacles):
            continue
        if not _wall_free(b, w, a, a + width, 0, height):
            continue
        b.obstacles.append((wall_rect(b, w, a, width, depth), height))
        b.wall_spans.append((w, a, a + width, 0, height))
        return w, a
    return None


def on_floor(
    b: Builder, width: float, depth: float, height: float, yaw: float | None = None
) -> tuple[float, float, float, float] | None:
    """Reserve floor at a random place; return (x, y, 0, yaw), or None if impossible."""
    p = b.palette
    for _ in range(10):
        turn = yaw if yaw is not None else p.uniform(0, math.tau)
        c, s = abs(math.cos(turn)), abs(math.sin(turn))
        hx, hy = (c * width + s * depth) / 2, (s * width + c * depth) / 2
        if 2 * hx + 0.1 > b.size[0] or 2 * hy + 0.1 > b.size[1]:
            continue
        x = p.uniform(hx + 0.04, b.size[0] - hx - 0.04)
        y = p.uniform(hy + 0.04, b.size[1] - hy - 0.04)
        rect = (x - hx, y - hy, x + hx, y + hy)
        if fits(b, rect, (r for r, _ in b.obstacles)):
            b.obstacles.append((rect, height))
            return x, y, 0.0, turn
    return None


def on_wall(b: Builder, width: float, z0: float, z1: float) -> WallPlace | None:
    """Reserve a part of a wall between the heights z0 and z1; None if impossible."""
    for _ in range(8):
        wall = int(b.rng.integers(4))
        free = wall_length(b, wall) - width - 0.1
        if free <= 0:
            continue
        a = 0.05 + b.palette.uniform(0, free)
        if _wall_free(b, wall, a, a + width, z0, z1):
            b.wall_spans.append((wall, a, a + width, z0, z1))
            return wall, a
    return None


def _wall_free(b: Builder, wall: int, a0: float, a1: float, z0: float, z1: float) -> bool:
    return not any(
        wall == w and a0 < e and s < a1 and z0 < t and q < z1 for w, s, e, q, t in b.wall_spans
    )
