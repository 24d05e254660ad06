"""Pillars, skirting boards, doors, windows and pictures."""

from __future__ import annotations

from sgnet_core.data.rooms import storage
from sgnet_core.data.rooms.classes import WALL
from sgnet_core.data.rooms.placement import (
    against_wall,
    on_wall,
    overlaps,
    wall_frame,
    wall_length,
    wall_rect,
)
from sgnet_core.data.rooms.scene import Builder


def structure(b: Builder) -> None:
    """Add skirting boards, and at times a pillar or partition."""
    p = b.palette
    if p.chance(0.3):
        _pillar(b)
    if p.chance(0.6):
        skirt = b.material(p.paint(p.neutral(0.6), 0.2) if p.chance(0.6) else p.wood())
        h = p.uniform(0.05, 0.14)
        for wall in range(4):
            n = wall_length(b, wall)
            with wall_frame(b, wall, 0):
                b.box((n / 2, 0.003, h / 2), (n, 0.006, h), skirt, WALL)


def _pillar(b: Builder) -> None:
    """Add a block in a corner, or a partition at the end of a wall."""
    p = b.palette
    w, length, top = b.size
    material = b.material(p.wall())
    sx, sy = p.uniform(0.25, 0.35 * w), p.uniform(0.25, 0.35 * length)
    if p.chance(0.4):
        sx, sy = (0.12, sy) if p.chance(0.5) else (sx, 0.12)
    x = sx / 2 if p.chance(0.5) else w - sx / 2
    y = sy / 2 if p.chance(0.5) else length - sy / 2
    b.box((x, y, top / 2), (sx, sy, top), material, WALL)
    block = (x - sx / 2, y - sy / 2, x + sx / 2, y + sy / 2)
    b.obstacles.append((block, top))
    # Reserve the covered parts of the walls, so that nothing hangs inside the block.
    for wall in range(4):
        n, wide = wall_length(b, wall), sx if wall in (0, 2) else sy
        if overlaps(wall_rect(b, wall, 0.0, 0.05, 0.05), block, 0.0):
            b.wall_spans.append((wall, 0.0, wide + 0.05, 0.0, top))
        if overlaps(wall_rect(b, wall, n - 0.05, 0.05, 0.05), block, 0.0):
            b.wall_spans.append((wall, n - wide - 0.05, n, 0.0, top))


def openings(b: Builder) -> None:
    """Add doors and windows, and the light of the windows."""
    p = b.palette
    for _ in range(int(b.rng.choice([1, 2], p=[0.6, 0.4]))):
        width, height = p.uniform(0.7, 0.95), p.uniform(1.95, 2.12)
        if place := against_wall(b, width, 0.08, height, 0.5):
            with wall_frame(b, *place):
                storage.door(b, width, height)
    for _ in range(int(b.rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))):
        width, sill = p.uniform(0.6, 2.2), p.uniform(0.5, 1.2)
        height = min(p.uniform(0.8, 1.6), b.size[2] - sill - 0.12)
        if place := on_wall(b, width + 0.1, sill - 0.05, sill + height):
            with wall_frame(b, place[0], place[1] + 0.05):
                storage.window(b, width, height, sill)
                level = p.uniform(0.5, 3.0)
                x, y, z = b.world(width / 2, 0.25, sill + height * 0.7)
                b.lights.append((x, y, z, level * 0.9, level, level * p.uniform(1.0, 1.25)))


def decoration(b: Builder) -> None:
    """Add pictures, and at times a television."""
    p = b.palette
    for _ in range(int(b.rng.integers(1, 6))):
        width, height = p.uniform(0.2, 1.1), p.uniform(0.2, 0.9)
        z = p.uniform(1.25, 1.75)
        if place := on_wall(b, width, z - height / 2, z + height / 2):
            with wall_frame(b, place[0], place[1] + width / 2):
                storage.picture(b, width, height, z)
    if p.chance(0.12):
        width = p.uniform(0.8, 1.4)
        if place := on_wall(b, width, 1.0, 1.9):
            with wall_frame(b, place[0], place[1] + width / 2):
                storage.television(b, width, 1.45, stand=False)
