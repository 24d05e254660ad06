"""Furniture for each kind of room, and its placement."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sgnet_core.data.rooms import furniture, storage
from sgnet_core.data.rooms.classes import BOX, PROP
from sgnet_core.data.rooms.clutter import ball, bottle, carton, floor_lamp, plant
from sgnet_core.data.rooms.placement import against_wall, fits, on_floor, wall_frame, wall_length
from sgnet_core.data.rooms.scene import Builder


def loose_item(b: Builder) -> None:
    """Put a box, lamp, basket, plant, ball or bottle on the floor, if there is space."""
    if not (place := on_floor(b, 0.4, 0.4, 0.4)):
        return
    p = b.palette
    with b.frame(*place):
        pick = p.uniform(0, 1)
        if pick < 0.55:
            card = b.material(p.paint((0.42, 0.27, 0.14)) if p.chance(0.6) else p.printed(5))
            w, d, h = p.uniform(0.22, 0.6), p.uniform(0.2, 0.5), p.uniform(0.15, 0.5)
            b.box((0, 0, h / 2), (w, d, h), card, BOX)
            if p.chance(0.4):
                carton(b, 0, 0, h, 0.4)
            b.target(0, 0, h)
        elif pick < 0.68:
            floor_lamp(b)
        elif pick < 0.82:
            basket = b.material(p.lacquer(p.any()))
            h = p.uniform(0.25, 0.5)
            b.cylinder((0, 0, h / 2), h * 0.7, h, basket, PROP, taper=p.uniform(1.0, 1.3))
        elif pick < 0.92:
            plant(b, 0, 0, 0, 1.0)
        else:
            (ball if p.chance(0.5) else bottle)(b, 0, 0, 0, 0.4)


# Groups of furniture


def _dining_set(b: Builder) -> None:
    p = b.palette
    round_top = p.chance(0.25)
    width = p.uniform(0.8, 1.3) if round_top else p.uniform(0.9, 2.0)
    depth = width if round_top else p.uniform(0.65, 1.0)
    height = p.uniform(0.7, 0.78)
    yaw = float(b.rng.choice([0.0, math.pi / 2]))
    yaw += b.rng.normal(0, 0.12) if p.chance(0.6) else p.uniform(0, 1.5)
    if not (place := on_floor(b, width, depth, height, yaw)):
        return
    with b.frame(*place):
        furniture.table(b, width, depth, height, round_top)
        _chairs_around(b, width, depth, round_top)


def _chairs_around(b: Builder, width: float, depth: float, round_top: bool) -> None:
    """Put chairs around the table at the origin, which is the last obstacle."""
    p = b.palette
    style = int(b.rng.choice(5, p=(0.3, 0.2, 0.25, 0.15, 0.1)))
    wood = b.material(p.metal() if style == 3 or p.chance(0.15) else p.furniture())
    seat = wood if p.chance(0.4) else b.material(p.leather() if p.chance(0.5) else p.fabric())
    others = [r for r, _ in b.obstacles[:-1]]  # all but the table itself
    for x, y, turn in _seats(b, width, depth, round_top):
        if p.chance(0.25):
            continue
        out = p.uniform(-0.05, 0.35)
        x, y = x + math.sin(turn) * out, y - math.cos(turn) * out
        wx, wy, _ = b.world(x, y, 0)
        rect = (wx - 0.24, wy - 0.24, wx + 0.24, wy + 0.24)
        if fits(b, rect, others, 0.0):
            others.append(rect)
            with b.frame(x, y, 0, turn + b.rng.normal(0, 0.25)):
                furniture.chair(b, style, wood, seat)
            b.obstacles.append((rect, 0.9))


def _seats(
    b: Builder, width: float, depth: float, round_top: bool
) -> list[tuple[float, float, float]]:
    """Return x, y, yaw of the chairs at a table."""
    p = b.palette
    if round_top:
        n = int(b.rng.integers(2, 6))
        off = p.uniform(0, math.tau)
        around = (off + i * math.tau / n for i in range(n))
        r = width / 2
        return [(math.cos(a) * r, math.sin(a) * r, a + math.pi / 2) for a in around]
    n = max(1, int(width / 0.62))
    places: list[tuple[float, float, float]] = []
    for i in range(n):
        x = (i + 0.5) * width / n - width / 2
        places += [(x, -depth / 2, 0.0), (x, depth / 2, math.pi)]
    if p.chance(0.4):
        places += [(width / 2, 0, math.pi / 2), (-width / 2, 0, -math.pi / 2)]
    return places


def _kitchenette(b: Builder) -> None:
    """Put one or two rows of kitchen cabinets along the walls."""
    p = b.palette
    kit = storage.kitchen_style(b)
    height, depth = p.uniform(0.84, 0.95), p.uniform(0.55, 0.65)
    splash = p.uniform(0.1, 0.6) if p.chance(0.75) else 0.0
    upper = p.chance(0.55)

    def run(wall: int, along: float, width: float, upper: bool) -> None:
        if place := against_wall(b, width, depth, 2.2 if upper else height, 0.0, wall, along):
            with wall_frame(b, *place):
                storage.kitchen_run(b, kit, width, depth, height, upper, splash)

    wall = int(b.rng.integers(4))
    first = min(wall_length(b, wall) - 0.05, p.uniform(1.6, 4.5))
    run(wall, wall_length(b, wall) - first - 0.02, first, upper)
    if p.chance(0.65):  # the second row starts in the corner where the first ends
        after = (wall + 1) % 4
        second = min(wall_length(b, after) - depth - 0.1, p.uniform(1.0, 3.0))
        run(after, depth + 0.035, second, upper and p.chance(0.5))


def _sofa_group(b: Builder) -> None:
    """Put a sofa against a wall, mostly with a coffee table in front of it."""
    p = b.palette
    width, depth = p.uniform(1.4, 2.4), p.uniform(0.8, 1.0)
    if not (place := against_wall(b, width, depth + 0.03, 0.9, 0.6)):
        return
    with wall_frame(b, *place):
        with b.frame(width / 2, depth / 2 + 0.02):
            furniture.sofa(b, width, depth)
        if not p.chance(0.8):
            return
        w, d, h = p.uniform(0.7, 1.3), p.uniform(0.45, 0.7), p.uniform(0.32, 0.5)
        y = depth + 0.35 + d / 2
        wx, wy, _ = b.world(width / 2, y, 0)
        sx, sy = (w, d) if place[0] in (0, 2) else (d, w)
        rect = (wx - sx / 2, wy - sy / 2, wx + sx / 2, wy + sy / 2)
        if fits(b, rect, (r for r, _ in b.obstacles)):
            b.obstacles.append((rect, h))
            with b.frame(width / 2, y):
                furniture.table(b, w, d, h, False)


def _armchair(b: Builder) -> None:
    width = b.palette.uniform(0.75, 1.0)
    if place := on_floor(b, width, 0.85, 0.9):
        with b.frame(*place):
            furniture.sofa(b, width, 0.85)


def _tv_stand(b: Builder) -> None:
    p = b.palette
    width, depth, height = p.uniform(1.0, 2.0), p.uniform(0.35, 0.5), p.uniform(0.35, 0.7)
    screen = p.uniform(0.6, min(1.4, width))
    if place := against_wall(b, width, depth, height + screen * 0.6 + 0.15):
        with wall_frame(b, *place):
            storage.cabinet(b, width, depth, height)
            top = b.surfaces.pop()
            with b.frame(width / 2, 0):
                storage.television(b, screen, top.z, stand=True)


def _bed_group(b: Builder) -> None:
    """Put a bed with its head against a wall, and bedside cabinets."""
    p = b.palette
    width, length = p.uniform(0.9, 1.9), p.uniform(1.9, 2.1)
    if not (place := against_wall(b, width + 0.08, length + 0.12, 1.0, 0.2)):
        return
    wall, along = place
    with wall_frame(b, wall, along), b.frame(width / 2 + 0.04, length / 2 + 0.08):
        furniture.bed(b, width, length)
    for side in (-1, 1):
        w, h = p.uniform(0.35, 0.5), p.uniform(0.4, 0.65)
        a = along + (width + 0.12 if side > 0 else -w - 0.05)
        wanted = p.chance(0.7) and a > 0 and a + w < wall_length(b, wall) - 0.02
        if wanted and (beside := against_wall(b, w, 0.4, h, 0.0, wall, a)):
            with wall_frame(b, *beside):
                storage.cabinet(b, w, 0.4, h)


def _desk(b: Builder) -> None:
    p = b.palette
    width, depth, height = p.uniform(1.0, 1.7), p.uniform(0.55, 0.8), p.uniform(0.7, 0.78)
    if not (place := against_wall(b, width, depth, height, 0.75)):
        return
    with wall_frame(b, *place):
        with b.frame(width / 2, depth / 2):
            furniture.table(b, width, depth, height, False)
        style = 3 if p.chance(0.7) else int(b.rng.integers(0, 3))
        frame = b.material(p.metal() if style == 3 else p.furniture())
        seat = b.material(p.fabric() if p.chance(0.6) else p.leather())
        x, y = width * p.uniform(0.35, 0.65), depth + p.uniform(0.05, 0.3)
        with b.frame(x, y, 0, math.pi + b.rng.normal(0, 0.5)):
            furniture.chair(b, style, frame, seat)


def _cabinet(b: Builder, low: float = 0.6, high: float = 2.1) -> None:
    p = b.palette
    size = p.uniform(0.5, 1.8), p.uniform(0.35, 0.6), p.uniform(low, high)
    if place := against_wall(b, *size):
        with wall_frame(b, *place):
            storage.cabinet(b, *size)


def _shelf(b: Builder) -> None:
    p = b.palette
    size = p.uniform(0.5, 1.8), p.uniform(0.24, 0.38), p.uniform(0.8, 2.2)
    if place := against_wall(b, *size):
        with wall_frame(b, *place):
            storage.bookshelf(b, *size)


def _lamp(b: Builder) -> None:
    if place := on_floor(b, 0.4, 0.4, 1.8):
        with b.frame(*place):
            floor_lamp(b)


# Kinds of rooms


def _maybe(b: Builder, odds: float, make: Callable[[Builder], None]) -> None:
    if b.palette.chance(odds):
        make(b)


def _wardrobe(b: Builder) -> None:
    _cabinet(b, 1.7, 2.2)


def _kitchen(b: Builder) -> None:
    _kitchenette(b)
    _maybe(b, 0.4, _wardrobe)
    _maybe(b, 0.8, _dining_set)
    _maybe(b, 0.3, _shelf)


def _living(b: Builder) -> None:
    _sofa_group(b)
    _tv_stand(b)
    _maybe(b, 0.5, _armchair)
    _maybe(b, 0.7, _shelf)
    _maybe(b, 0.5, _cabinet)
    _maybe(b, 0.3, _dining_set)
    _lamp(b)


def _bedroom(b: Builder) -> None:
    _bed_group(b)
    _wardrobe(b)
    _maybe(b, 0.6, _cabinet)
    _maybe(b, 0.4, _desk)
    _maybe(b, 0.4, _shelf)
    _maybe(b, 0.3, _tv_stand)


def _office(b: Builder) -> None:
    for _ in range(int(b.rng.integers(1, 4))):
        _desk(b)
    for _ in range(int(b.rng.integers(1, 3))):
        _shelf(b)
    _maybe(b, 0.7, _cabinet)
    _maybe(b, 0.3, _dining_set)


def _dining(b: Builder) -> None:
    _dining_set(b)
    for _ in range(int(b.rng.integers(1, 3))):
        _cabinet(b)
    _maybe(b, 0.6, _shelf)
    _maybe(b, 0.4, _tv_stand)


def _mixed(b: Builder) -> None:
    makers = (_kitchen, _living, _bedroom, _office, _dining)
    for i in b.rng.choice(len(makers), 2, replace=False):
        makers[int(i)](b)


_ROOMS = {_kitchen: 0.24, _living: 0.22, _bedroom: 0.18, _office: 0.12, _dining: 0.14, _mixed: 0.10}


def kind_of_room(rng: np.random.Generator) -> Callable[[Builder], None]:
    """Return the function that furnishes a random kind of room."""
    return list(_ROOMS)[int(rng.choice(len(_ROOMS), p=list(_ROOMS.values())))]
