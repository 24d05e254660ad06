"""Compose whole rooms."""

from __future__ import annotations

import numpy as np

from sgnet_core.data.rooms.clutter import add_clutter, ceiling_lamp
from sgnet_core.data.rooms.furnishing import kind_of_room, loose_item
from sgnet_core.data.rooms.materials import Palette
from sgnet_core.data.rooms.scene import Builder, Scene
from sgnet_core.data.rooms.walls import decoration, openings, structure


def compose(rng: np.random.Generator) -> Scene:
    """Return a random furnished room."""
    furnish = kind_of_room(rng)
    size = (
        float(rng.uniform(2.8, 6.0)),
        float(rng.uniform(2.8, 6.5)),
        float(rng.uniform(2.3, 3.0)),
    )
    b = Builder(rng, size, Palette(rng))
    p = b.palette
    structure(b)
    furnish(b)
    openings(b)
    for _ in range(int(rng.integers(0, 4))):
        loose_item(b)
    decoration(b)
    add_clutter(b)
    for _ in range(int(rng.integers(1, 3))):
        x, y = p.uniform(0.25, 0.75) * size[0], p.uniform(0.25, 0.75) * size[1]
        ceiling_lamp(b, x, y)
    # The brightest lights come first, because only the first ones cast shadows.
    b.lights.sort(key=lambda light: -light[4])
    walls = b.material(p.wall())
    accent = b.material(p.wall()) if p.chance(0.3) else walls
    sides = [walls] * 4
    sides[int(rng.integers(4))] = accent
    floor = b.material(p.floor())
    top = b.material(p.paint(p.neutral(0.75), 0.02))
    return b.scene((sides[0], sides[1], sides[2], sides[3], floor, top))
