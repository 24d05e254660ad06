"""Composes whole rooms: which furniture, where, and what hangs on the walls."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from sgnet_core.data.rooms import furniture, storage
from sgnet_core.data.rooms.classes import BOX, PROP, WALL
from sgnet_core.data.rooms.clutter import (
    ball,
    bottle,
    carton,
    ceiling_lamp,
    floor_lamp,
    plant,
    spread,
)
from sgnet_core.data.rooms.materials import Palette
from sgnet_core.data.rooms.scene import Builder, Rect, Scene

_KINDS = ("kitchen", "living", "bedroom", "office", "dining", "mixed")
_KIND_ODDS = (0.24, 0.22, 0.18, 0.12, 0.14, 0.10)


def compose(rng: np.random.Generator) -> Scene:
    """A furnished room."""
    kind = str(rng.choice(_KINDS, p=_KIND_ODDS))
    size = (
        float(rng.uniform(2.8, 6.0)),
        float(rng.uniform(2.8, 6.5)),
        float(rng.uniform(2.3, 3.0)),
    )
    b = Builder(rng, size, Palette(rng))
    p = b.palette
    _structure(b)
    _FURNISH[kind](b)
    _openings(b)
    for _ in range(int(rng.integers(0, 4))):
        _free(b, _stray, 0.4, 0.4, 0.4)
    _decorate_walls(b)
    spread(b)
    for _ in range(int(rng.integers(1, 3))):
        x, y = p.uniform(0.25, 0.75) * size[0], p.uniform(0.25, 0.75) * size[1]
        ceiling_lamp(b, x, y)
    # Shadow-casting lights first: the brightest ones.
    b.lights.sort(key=lambda light: -light[4])
    walls = b.material(p.wall())
    accent = b.material(p.wall()) if p.chance(0.3) else walls
    sides = [walls] * 4
    sides[int(rng.integers(4))] = accent
    floor = b.material(p.floor())
    top = b.material(p.paint(p.neutral(0.75), 0.02))
    return b.scene((sides[0], sides[1], sides[2], sides[3], floor, top))


# Placement -----------------------------------------------------------------------------------


def _overlaps(a: Rect, b: Rect, margin: float = 0.02) -> bool:
    return (
        a[0] < b[2] + margin
        and b[0] < a[2] + margin
        and a[1] < b[3] + margin
        and b[1] < a[3] + margin
    )


def _wall_length(b: Builder, wall: int) -> float:
    return b.size[0] if wall in (0, 2) else b.size[1]


def _wall_frame(b: Builder, wall: int, along: float) -> AbstractContextManager[None]:
    """Frame with x along wall 0..3 (y=0, x=W, y=L, x=0) from `along`, y into the room."""
    w, length, _ = b.size
    at = ((along, 0.0), (w, along), (w - along, length), (0.0, length - along))[wall]
    return b.frame(at[0], at[1], 0.0, wall * math.pi / 2)


def _wall_rect(b: Builder, wall: int, along: float, width: float, depth: float) -> Rect:
    with _wall_frame(b, wall, along):
        x0, y0, _ = b.world(0, 0, 0)
        x1, y1, _ = b.world(width, depth, 0)
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _wall_free(b: Builder, wall: int, a0: float, a1: float, z0: float, z1: float) -> bool:
    return not any(
        wall == w and a0 < e and s < a1 and z0 < t and q < z1 for w, s, e, q, t in b.wall_spans
    )


def _against_wall(
    b: Builder,
    make: Callable[[Builder], None],
    width: float,
    depth: float,
    height: float,
    clearance: float = 0.3,
    wall: int | None = None,
    along: float | None = None,
) -> tuple[int, float] | None:
    """Try to put a thing against a wall; returns (wall, along) or None where nothing is free."""
    for _ in range(8):
        w = int(b.rng.integers(4)) if wall is None else wall
        free = _wall_length(b, w) - width - 0.02
        if free < 0:
            continue
        a = 0.01 + (b.palette.uniform(0, free) if along is None else along)
        if along is None and b.palette.chance(0.25):
            a = 0.01 if b.palette.chance(0.5) else free
        rect = _wall_rect(b, w, a, width, depth)
        reach = _wall_rect(b, w, a, width, depth + clearance)
        if any(_overlaps(reach, r) for r, _ in b.obstacles):
            continue
        if not _wall_free(b, w, a, a + width, 0, height):
            continue
        b.obstacles.append((rect, height))
        b.wall_spans.append((w, a, a + width, 0, height))
        with _wall_frame(b, w, a):
            make(b)
        return w, a
    return None


def _free(
    b: Builder,
    make: Callable[[Builder], None],
    width: float,
    depth: float,
    height: float,
    yaw: float | None = None,
) -> tuple[float, float, float] | None:
    """Try to put a thing anywhere on the floor; returns (x, y, yaw) or None."""
    p = b.palette
    for _ in range(10):
        turn = yaw if yaw is not None else p.uniform(0, math.tau)
        c, s = abs(math.cos(turn)), abs(math.sin(turn))
        hx, hy = (c * width + s * depth) / 2, (s * width + c * depth) / 2
        if 2 * hx + 0.1 > b.size[0] or 2 * hy + 0.1 > b.size[1]:
            continue
        x, y = (
            p.uniform(hx + 0.04, b.size[0] - hx - 0.04),
            p.uniform(hy + 0.04, b.size[1] - hy - 0.04),
        )
        rect = (x - hx, y - hy, x + hx, y + hy)
        if any(_overlaps(rect, r) for r, _ in b.obstacles):
            continue
        b.obstacles.append((rect, height))
        with b.frame(x, y, 0, turn):
            make(b)
        return x, y, turn
    return None


# Structure -----------------------------------------------------------------------------------


def _structure(b: Builder) -> None:
    """A partition or pillar at times, skirting boards."""
    p = b.palette
    w, length, top = b.size
    if p.chance(0.3):
        material = b.material(p.wall())
        sx, sy = p.uniform(0.25, 0.35 * w), p.uniform(0.25, 0.35 * length)
        if p.chance(0.4):
            sx, sy = (0.12, sy) if p.chance(0.5) else (sx, 0.12)
        x = sx / 2 if p.chance(0.5) else w - sx / 2
        y = sy / 2 if p.chance(0.5) else length - sy / 2
        b.box((x, y, top / 2), (sx, sy, top), material, WALL)
        b.obstacles.append(((x - sx / 2, y - sy / 2, x + sx / 2, y + sy / 2), top))
        # Whatever hangs on the covered stretch of wall would be inside the pillar.
        for wall in range(4):
            n = _wall_length(b, wall)
            corner = _wall_rect(b, wall, 0.0, 0.05, 0.05), _wall_rect(b, wall, n - 0.05, 0.05, 0.05)
            wide = sx if wall in (0, 2) else sy
            for at_end, rect in enumerate(corner):
                if _overlaps(rect, b.obstacles[-1][0], 0.0):
                    span = (n - wide - 0.05, n) if at_end else (0.0, wide + 0.05)
                    b.wall_spans.append((wall, span[0], span[1], 0.0, top))
    if p.chance(0.6):
        skirt = b.material(p.paint(p.neutral(0.6), 0.2) if p.chance(0.6) else p.wood())
        h = p.uniform(0.05, 0.14)
        for wall in range(4):
            n = _wall_length(b, wall)
            with _wall_frame(b, wall, 0):
                b.box((n / 2, 0.003, h / 2), (n, 0.006, h), skirt, WALL)


def _openings(b: Builder) -> None:
    """Doors and windows."""
    p = b.palette
    for _ in range(int(b.rng.choice([1, 2], p=[0.6, 0.4]))):
        width, height = p.uniform(0.7, 0.95), p.uniform(1.95, 2.12)
        _against_wall(
            b, lambda b, w=width, h=height: storage.door(b, w, h), width, 0.08, height, 0.5
        )
    for _ in range(int(b.rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))):
        width, sill = p.uniform(0.6, 2.2), p.uniform(0.5, 1.2)
        height = min(p.uniform(0.8, 1.6), b.size[2] - sill - 0.12)
        place = _hang(b, width + 0.1, sill - 0.05, sill + height)
        if place is None:
            continue
        with _wall_frame(b, place[0], place[1] + 0.05):
            storage.window(b, width, height, sill)
            level = p.uniform(0.5, 3.0)
            x, y, z = b.world(width / 2, 0.25, sill + height * 0.7)
            b.lights.append((x, y, z, level * 0.9, level, level * p.uniform(1.0, 1.25)))


def _hang(b: Builder, width: float, z0: float, z1: float) -> tuple[int, float] | None:
    """Reserve a free stretch of wall."""
    for _ in range(8):
        wall = int(b.rng.integers(4))
        free = _wall_length(b, wall) - width - 0.1
        if free <= 0:
            continue
        a = 0.05 + b.palette.uniform(0, free)
        if _wall_free(b, wall, a, a + width, z0, z1):
            b.wall_spans.append((wall, a, a + width, z0, z1))
            return wall, a
    return None


def _decorate_walls(b: Builder) -> None:
    p = b.palette
    for _ in range(int(b.rng.integers(1, 6))):
        width, height = p.uniform(0.2, 1.1), p.uniform(0.2, 0.9)
        z = p.uniform(1.25, 1.75)
        place = _hang(b, width, z - height / 2, z + height / 2)
        if place is not None:
            with _wall_frame(b, place[0], place[1] + width / 2):
                storage.picture(b, width, height, z)
    if p.chance(0.12):
        width = p.uniform(0.8, 1.4)
        place = _hang(b, width, 1.0, 1.9)
        if place is not None:
            with _wall_frame(b, place[0], place[1] + width / 2):
                storage.television(b, width, 1.45, stand=False)


def _stray(b: Builder) -> None:
    """Something standing on the floor."""
    p = b.palette
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
        bin_ = b.material(p.lacquer(p.any()))
        h = p.uniform(0.25, 0.5)
        b.cylinder((0, 0, h / 2), h * 0.7, h, bin_, PROP, taper=p.uniform(1.0, 1.3))
    elif pick < 0.92:
        plant(b, 0, 0, 0, 1.0)
    else:
        (ball if p.chance(0.5) else bottle)(b, 0, 0, 0, 0.4)


# Rooms ---------------------------------------------------------------------------------------


def _chairs_around(
    b: Builder, at: tuple[float, float, float], width: float, depth: float, round_top: bool
) -> None:
    p = b.palette
    style = int(b.rng.choice(5, p=(0.3, 0.2, 0.25, 0.15, 0.1)))
    wood = b.material(p.metal() if style == 3 or p.chance(0.15) else p.furniture())
    seat = wood if p.chance(0.4) else b.material(p.leather() if p.chance(0.5) else p.fabric())
    places: list[tuple[float, float, float]] = []
    if round_top:
        n = int(b.rng.integers(2, 6))
        off = p.uniform(0, math.tau)
        places = [
            (math.cos(a) * width / 2, math.sin(a) * width / 2, a + math.pi / 2)
            for a in (off + i * math.tau / n for i in range(n))
        ]
    else:
        n = max(1, int(width / 0.62))
        for i in range(n):
            x = (i + 0.5) * width / n - width / 2
            places += [(x, -depth / 2, 0.0), (x, depth / 2, math.pi)]
        if p.chance(0.4):
            places += [(width / 2, 0, math.pi / 2), (-width / 2, 0, -math.pi / 2)]
    others = [r for r, _ in b.obstacles[:-1]]  # all but the table itself
    for x, y, turn in places:
        if p.chance(0.25):
            continue
        out = p.uniform(-0.05, 0.35)
        dx, dy = math.sin(turn) * out, -math.cos(turn) * out
        with b.frame(*at[:2], 0, at[2]):
            wx, wy, _ = b.world(x + dx, y + dy, 0)
            rect = (wx - 0.24, wy - 0.24, wx + 0.24, wy + 0.24)
            if rect[0] < 0 or rect[1] < 0 or rect[2] > b.size[0] or rect[3] > b.size[1]:
                continue
            if any(_overlaps(rect, r, 0.0) for r in others):
                continue
            others.append(rect)
            with b.frame(x + dx, y + dy, 0, turn + b.rng.normal(0, 0.25)):
                furniture.chair(b, style, wood, seat)
        b.obstacles.append((rect, 0.9))


def _dining_set(b: Builder) -> None:
    p = b.palette
    round_top = p.chance(0.25)
    width = p.uniform(0.8, 1.3) if round_top else p.uniform(0.9, 2.0)
    depth = width if round_top else p.uniform(0.65, 1.0)
    height = p.uniform(0.7, 0.78)
    yaw = b.rng.choice([0.0, math.pi / 2]) + (
        b.rng.normal(0, 0.12) if p.chance(0.6) else p.uniform(0, 1.5)
    )
    at = _free(
        b,
        lambda b: furniture.table(b, width, depth, height, round_top),
        width,
        depth,
        height,
        float(yaw),
    )
    if at is not None:
        _chairs_around(b, at, width, depth, round_top)


def _kitchen(b: Builder) -> None:
    p = b.palette
    kit = storage.kitchen_style(b)
    height, depth = p.uniform(0.84, 0.95), p.uniform(0.55, 0.65)
    splash = p.uniform(0.1, 0.6) if p.chance(0.75) else 0.0
    upper = p.chance(0.55)
    wall = int(b.rng.integers(4))
    # Two runs meet in a corner: the second starts where the first ends.
    first = min(_wall_length(b, wall) - 0.05, p.uniform(1.6, 4.5))
    start = _wall_length(b, wall) - first - 0.02
    _against_wall(
        b,
        lambda b: storage.kitchen_run(b, kit, first, depth, height, upper, splash),
        first,
        depth,
        height if not upper else 2.2,
        0.0,
        wall,
        start,
    )
    if p.chance(0.65):
        after = (wall + 1) % 4
        second = min(_wall_length(b, after) - depth - 0.1, p.uniform(1.0, 3.0))
        top = upper and p.chance(0.5)
        _against_wall(
            b,
            lambda b: storage.kitchen_run(b, kit, second, depth, height, top, splash),
            second,
            depth,
            height if not top else 2.2,
            0.0,
            after,
            depth + 0.035,
        )
    if p.chance(0.4):
        _cabinet(b, 1.7, 2.2)
    if p.chance(0.8):
        _dining_set(b)
    if p.chance(0.3):
        _shelf(b)


def _living(b: Builder) -> None:
    p = b.palette
    width = p.uniform(1.4, 2.4)
    depth = p.uniform(0.8, 1.0)

    def seat(b: Builder) -> None:
        with b.frame(width / 2, depth / 2 + 0.02, 0, 0):
            furniture.sofa(b, width, depth)

    place = _against_wall(b, seat, width, depth + 0.03, 0.9, 0.6)
    if place is not None and p.chance(0.8):
        w, d, h = p.uniform(0.7, 1.3), p.uniform(0.45, 0.7), p.uniform(0.32, 0.5)
        with _wall_frame(b, *place):
            x, y, _ = b.world(width / 2, depth + 0.35 + d / 2, 0)
        yaw = place[0] * math.pi / 2
        sx, sy = (w, d) if place[0] in (0, 2) else (d, w)
        rect = (x - sx / 2, y - sy / 2, x + sx / 2, y + sy / 2)
        inside = rect[0] > 0 and rect[1] > 0 and rect[2] < b.size[0] and rect[3] < b.size[1]
        if inside and not any(_overlaps(rect, r) for r, _ in b.obstacles):
            b.obstacles.append((rect, h))
            with b.frame(x, y, 0, yaw):
                furniture.table(b, w, d, h, False)
    _tv_stand(b)
    if p.chance(0.5):
        w = p.uniform(0.75, 1.0)
        _free(b, lambda b: furniture.sofa(b, w, 0.85), w, 0.85, 0.9)
    if p.chance(0.7):
        _shelf(b)
    if p.chance(0.5):
        _cabinet(b)
    if p.chance(0.3):
        _dining_set(b)
    _free(b, floor_lamp, 0.4, 0.4, 1.8)


def _tv_stand(b: Builder) -> None:
    p = b.palette
    width, depth, height = p.uniform(1.0, 2.0), p.uniform(0.35, 0.5), p.uniform(0.35, 0.7)
    screen = p.uniform(0.6, min(1.4, width))

    def make(b: Builder) -> None:
        storage.cabinet(b, width, depth, height)
        surface = b.surfaces[-1]
        b.surfaces.pop()
        with b.frame(width / 2, 0, 0, 0):
            storage.television(b, screen, surface.z, stand=True)

    _against_wall(b, make, width, depth, height + screen * 0.6 + 0.15)


def _bedroom(b: Builder) -> None:
    p = b.palette
    width, length = p.uniform(0.9, 1.9), p.uniform(1.9, 2.1)

    def make(b: Builder) -> None:
        with b.frame(width / 2 + 0.04, length / 2 + 0.08, 0, 0):
            furniture.bed(b, width, length)

    place = _against_wall(b, make, width + 0.08, length + 0.12, 1.0, 0.2)
    if place is not None:
        for side in (-1, 1):
            w, h = p.uniform(0.35, 0.5), p.uniform(0.4, 0.65)
            a = place[1] + (width + 0.12 if side > 0 else -w - 0.05)
            if p.chance(0.7) and a > 0 and a + w < _wall_length(b, place[0]) - 0.02:
                _against_wall(
                    b,
                    lambda b, w=w, h=h: storage.cabinet(b, w, 0.4, h),
                    w,
                    0.4,
                    h,
                    0.0,
                    place[0],
                    a,
                )
    _cabinet(b, 1.7, 2.2)
    if p.chance(0.6):
        _cabinet(b)
    if p.chance(0.4):
        _desk(b)
    if p.chance(0.4):
        _shelf(b)
    if p.chance(0.3):
        _tv_stand(b)


def _office(b: Builder) -> None:
    p = b.palette
    for _ in range(int(b.rng.integers(1, 4))):
        _desk(b)
    for _ in range(int(b.rng.integers(1, 3))):
        _shelf(b)
    if p.chance(0.7):
        _cabinet(b)
    if p.chance(0.3):
        _dining_set(b)


def _dining(b: Builder) -> None:
    p = b.palette
    _dining_set(b)
    for _ in range(int(b.rng.integers(1, 3))):
        _cabinet(b)
    if p.chance(0.6):
        _shelf(b)
    if p.chance(0.4):
        _tv_stand(b)


def _mixed(b: Builder) -> None:
    makers = (_kitchen, _living, _bedroom, _office, _dining)
    for i in b.rng.choice(len(makers), 2, replace=False):
        makers[int(i)](b)


def _desk(b: Builder) -> None:
    p = b.palette
    width, depth, height = p.uniform(1.0, 1.7), p.uniform(0.55, 0.8), p.uniform(0.7, 0.78)

    def make(b: Builder) -> None:
        with b.frame(width / 2, depth / 2, 0, 0):
            furniture.table(b, width, depth, height, False)
        style = 3 if p.chance(0.7) else int(b.rng.integers(0, 3))
        frame = b.material(p.metal() if style == 3 else p.furniture())
        seat = b.material(p.fabric() if p.chance(0.6) else p.leather())
        x, y = width * p.uniform(0.35, 0.65), depth + p.uniform(0.05, 0.3)
        with b.frame(x, y, 0, math.pi + b.rng.normal(0, 0.5)):
            furniture.chair(b, style, frame, seat)

    _against_wall(b, make, width, depth, height, 0.75)


def _cabinet(b: Builder, low: float = 0.6, high: float = 2.1) -> None:
    p = b.palette
    width, depth, height = p.uniform(0.5, 1.8), p.uniform(0.35, 0.6), p.uniform(low, high)
    _against_wall(b, lambda b: storage.cabinet(b, width, depth, height), width, depth, height)


def _shelf(b: Builder) -> None:
    p = b.palette
    width, depth, height = p.uniform(0.5, 1.8), p.uniform(0.24, 0.38), p.uniform(0.8, 2.2)
    _against_wall(b, lambda b: storage.bookshelf(b, width, depth, height), width, depth, height)


_FURNISH: dict[str, Callable[[Builder], None]] = {
    "kitchen": _kitchen,
    "living": _living,
    "bedroom": _bedroom,
    "office": _office,
    "dining": _dining,
    "mixed": _mixed,
}
