"""Small objects (cups, bottles, bowls, books, boxes, lamps), and their placement on surfaces.

An object stands at (x, y, z) of the current frame of the `Builder`, on a horizontal surface with
``headroom`` meters above it. Sizes are in meters.
"""

from __future__ import annotations

import math

from sgnet_core.data.rooms.classes import BOOKS, BOX, LAMP, PICTURE, PILLOW, PROP, TELEVISION
from sgnet_core.data.rooms.scene import Builder


def cup(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a mug with a handle, or a glass."""
    p = b.palette
    body = b.material(p.lacquer(p.any()))
    d, h = p.uniform(0.06, 0.1), p.uniform(0.07, 0.12)
    taper = p.uniform(0.95, 1.25)
    b.cylinder((x, y, z + h / 2), d, h, body, PROP, taper=taper)
    inside = b.material(p.paint(p.dark()))
    b.cylinder((x, y, z + h - 0.003), d * taper * 0.86, 0.008, inside, PROP)
    if p.chance(0.7):
        a = p.uniform(0, math.tau)
        r = d / 2 + 0.014
        at = (x + r * math.cos(a), y + r * math.sin(a), z + h * 0.5)
        b.box(at, (0.03, 0.012, h * 0.6), body, PROP, yaw=a)


def bottle(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a bottle with shoulder, neck and sometimes a label."""
    p = b.palette
    body = b.material(p.lacquer(p.vivid() if p.chance(0.5) else p.any()))
    d, h = p.uniform(0.05, 0.1), min(p.uniform(0.15, 0.32), headroom)
    b.cylinder((x, y, z + h * 0.32), d, h * 0.64, body, PROP)
    b.cylinder((x, y, z + h * 0.71), d, h * 0.14, body, PROP, taper=0.4)
    b.cylinder((x, y, z + h * 0.89), d * 0.4, h * 0.22, body, PROP)
    if p.chance(0.6):
        label = b.material(p.printed(18))
        b.cylinder((x, y, z + h * 0.33), d * 1.02, h * 0.3, label, PROP)


def bowl(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a bowl or plate, sometimes with fruit."""
    p = b.palette
    body = b.material(p.lacquer(p.any()))
    d, h = p.uniform(0.14, 0.3), p.uniform(0.015, 0.1)
    b.cylinder((x, y, z + h / 2), d * 0.55, h, body, PROP, taper=1.8)
    if p.chance(0.5):
        fruit = b.material(p.lacquer(p.vivid()))
        for i in range(int(b.rng.integers(1, 5))):
            a, s = i * 1.7, p.uniform(0.05, 0.09)
            r = d * 0.22
            at = (x + r * math.cos(a), y + r * math.sin(a), z + h + s * 0.3)
            b.ellipsoid(at, (s, s, s), fruit, PROP)


def ball(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a ball or a fruit."""
    p = b.palette
    s = p.uniform(0.06, min(0.24, headroom))
    skin = p.lacquer(p.vivid()) if p.chance(0.6) else p.printed(6)
    b.ellipsoid((x, y, z + s / 2), (s, s, s), b.material(skin), PROP)


def carton(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a printed package or a plain cardboard box."""
    p = b.palette
    w, d, h = p.uniform(0.08, 0.3), p.uniform(0.05, 0.2), min(p.uniform(0.06, 0.32), headroom)
    skin = p.printed() if p.chance(0.7) else p.paint((0.45, 0.28, 0.14))
    b.box((x, y, z + h / 2), (w, d, h), b.material(skin), BOX, yaw=p.uniform(0, math.tau))


def book_pile(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a pile of books and magazines."""
    p = b.palette
    pages = b.material(p.paint((0.8, 0.77, 0.68)))
    yaw = p.uniform(0, math.tau)
    for _ in range(int(b.rng.integers(1, 6))):
        w, d, t = p.uniform(0.15, 0.3), p.uniform(0.12, 0.22), p.uniform(0.006, 0.045)
        if t > headroom:
            break
        headroom -= t
        cover = b.material(p.printed() if p.chance(0.7) else p.paint(p.any()))
        turn = yaw + b.rng.normal(0, 0.15)
        b.box((x, y, z + t / 2), (w, d, t), cover, BOOKS, yaw=turn)
        if t > 0.015:
            b.box((x, y, z + t / 2), (w + 0.002, d + 0.002, t * 0.75), pages, BOOKS, yaw=turn)
        z += t


def sheet(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add flat magazines or open pages."""
    p = b.palette
    for _ in range(int(b.rng.integers(1, 4))):
        skin = b.material(p.printed(12))
        dx, dy = b.rng.normal(0, 0.08, 2)
        t = p.uniform(0.003, 0.012)
        b.box((x + dx, y + dy, z + t / 2), (0.21, 0.29, t), skin, BOOKS, yaw=p.uniform(0, math.tau))
        z += t


def laptop(b: Builder, x: float, y: float, z: float) -> None:
    """Add an open laptop."""
    p = b.palette
    shell, screen = b.material(p.metal()), b.material(p.screen())
    yaw = p.uniform(0, math.tau)
    with b.frame(x, y, z, yaw):
        b.box((0, 0, 0.01), (0.33, 0.23, 0.02), shell, PROP)
        b.box((0, 0.15, 0.115), (0.33, 0.012, 0.22), shell, PROP, pitch=-0.3)
        b.box((0, 0.142, 0.115), (0.3, 0.012, 0.19), screen, PROP, pitch=-0.3)


def monitor(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a computer monitor, if there is enough headroom."""
    p = b.palette
    shell, screen = b.material(p.lacquer(p.dark())), b.material(p.screen())
    w, h = p.uniform(0.4, 0.65), p.uniform(0.28, 0.38)
    if h + 0.12 > headroom:
        return
    with b.frame(x, y, z, b.rng.normal(0, 0.3)):
        b.cylinder((0, 0, 0.01), 0.2, 0.02, shell, TELEVISION)
        b.box((0, -0.02, 0.12), (0.05, 0.03, 0.22), shell, TELEVISION)
        b.box((0, 0, 0.12 + h / 2), (w, 0.035, h), shell, TELEVISION)
        b.box((0, 0.016, 0.12 + h / 2), (w - 0.03, 0.008, h - 0.03), screen, TELEVISION)


def table_lamp(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a table lamp."""
    p = b.palette
    h = min(p.uniform(0.3, 0.6), headroom)
    _lamp(b, x, y, z, h, p.uniform(0.18, 0.32), 0.14)


def floor_lamp(b: Builder) -> None:
    """Add a floor lamp at the origin of the frame."""
    p = b.palette
    h = p.uniform(1.2, 1.8)
    _lamp(b, 0, 0, 0, h, p.uniform(0.25, 0.5), 0.28)
    b.target(0, 0, h * 0.7)


def _lamp(b: Builder, x: float, y: float, z: float, h: float, wide: float, foot: float) -> None:
    """Add a lamp ``h`` high with a shade and a foot of these diameters, and at times its light."""
    p = b.palette
    metal = b.material(p.metal() if p.chance(0.6) else p.lacquer(p.any()))
    lit = p.chance(0.6)
    shade = b.material(p.glow() if lit else p.fabric(p.neutral()))
    sh = min(wide * p.uniform(0.6, 1.0), h * 0.6)
    b.cylinder((x, y, z + 0.012), foot, 0.024, metal, LAMP)
    if h < 0.7 and p.chance(0.5):
        b.ellipsoid((x, y, z + (h - sh) / 2), (0.14, 0.14, h - sh), metal, LAMP)
    b.cylinder((x, y, z + (h - sh) / 2), 0.025, h - sh, metal, LAMP)
    b.cylinder((x, y, z + h - sh / 2), wide, sh, shade, LAMP, taper=p.uniform(0.45, 1.0))
    if lit:
        wx, wy, wz = b.world(x, y, z + h + 0.05)
        level = p.uniform(0.2, 1.0)
        b.lights.append((wx, wy, wz, level, level * 0.8, level * 0.55))


def ceiling_lamp(b: Builder, x: float, y: float) -> None:
    """Add a pendant, dome or panel lamp and its light."""
    p = b.palette
    top = b.size[2]
    glow = b.material(p.glow())
    style = b.rng.integers(0, 3)
    z = top - 0.15
    if style == 0:
        drop, wide = p.uniform(0.4, 0.9), p.uniform(0.2, 0.5)
        metal = b.material(p.lacquer(p.any()))
        b.cylinder((x, y, top - drop / 2), 0.015, drop, metal, LAMP)
        shade = glow if p.chance(0.5) else metal
        b.cylinder((x, y, top - drop - 0.1), wide, 0.2, shade, LAMP, taper=0.5)
        z = top - drop - 0.25
    elif style == 1:
        wide = p.uniform(0.25, 0.5)
        b.ellipsoid((x, y, top), (wide, wide, 0.2), glow, LAMP)
    else:
        size = (0.6, p.uniform(0.3, 1.2), 0.04)
        b.box((x, y, top - 0.02), size, glow, LAMP)
    level, warm = p.uniform(1.5, 4.0), p.uniform(-0.15, 0.5)
    color = (level * (1 + 0.15 * warm), level, level * (1 - 0.5 * warm))
    b.lights.append((*b.world(x, y, 0)[:2], z, *color))


def plant(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a potted plant."""
    p = b.palette
    s = min(p.uniform(0.18, 0.5), headroom)
    pot = b.material(p.lacquer(p.any()))
    b.cylinder((x, y, z + s * 0.17), s * 0.35, s * 0.34, pot, PROP, taper=1.3)
    leaf = b.material(p.fabric((0.05, p.uniform(0.1, 0.4), 0.04)))
    for i in range(9):
        a = i * 2.4 + p.uniform(0, 1)
        r, h = s * p.uniform(0.05, 0.25), s * p.uniform(0.4, 0.85)
        size = (s * 0.35, s * 0.12, s * 0.05)
        at = (x + r * math.cos(a), y + r * math.sin(a), z + h)
        b.ellipsoid(at, size, leaf, PROP, yaw=a, pitch=p.uniform(-0.9, 0.9))


def photo(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a small standing picture frame."""
    p = b.palette
    w, h = p.uniform(0.1, 0.22), min(p.uniform(0.12, 0.26), headroom)
    frame, image = b.material(p.furniture()), b.material(p.painting())
    with b.frame(x, y, z, b.rng.normal(0, 0.5)):
        b.box((0, 0, h / 2), (w, 0.02, h), frame, PICTURE, pitch=0.15)
        b.box((0, 0.006, h / 2), (w * 0.8, 0.02, h * 0.8), image, PICTURE, pitch=0.15)


def small_item(b: Builder, x: float, y: float, z: float, headroom: float) -> None:
    """Add a random small object."""
    pick = b.rng.choice(len(_SMALL), p=_SMALL_ODDS)
    _SMALL[pick](b, x, y, z, headroom)


_SMALL = (cup, bottle, bowl, ball, carton, book_pile, sheet, plant, photo)
_SMALL_ODDS = (0.19, 0.16, 0.12, 0.06, 0.14, 0.14, 0.07, 0.06, 0.06)


def books_in_row(
    b: Builder, x0: float, z0: float, width: float, depth: float, height: float
) -> None:
    """Add upright books from x0 along x, with their spines toward +y."""
    p = b.palette
    looks = [p.paint(p.any(), 0.2) if p.chance(0.6) else p.printed(14) for _ in range(4)]
    covers = [b.material(look) for look in looks]
    x, end = x0, x0 + width * p.uniform(0.5, 1.0)
    tall = height * p.uniform(0.6, 0.95)
    deep = min(depth * 0.85, 0.24)
    while x < end:
        t = p.uniform(0.015, 0.06)
        if x + t > x0 + width:
            break
        h, d = tall * p.uniform(0.8, 1.0), deep * p.uniform(0.85, 1.0)
        y = depth * 0.92 - d / 2
        b.box((x + t / 2, y, z0 + h / 2), (t - 0.002, d, h), covers[int(b.rng.integers(4))], BOOKS)
        x += t


def pillow(
    b: Builder, x: float, y: float, z: float, size: float, material: int, pitch: float
) -> None:
    """Add a pillow whose lower edge is centered at (x, y, z), tilted by ``pitch`` radians."""
    h = size / 2
    at = (x, y + h * math.sin(pitch), z + h * math.cos(pitch))
    b.ellipsoid(at, (size * 1.1, 0.17, size * 1.1), material, PILLOW, pitch=-pitch)
    b.box(at, (size * 0.82, 0.1, size * 0.82), material, PILLOW, pitch=-pitch)


def add_clutter(b: Builder) -> None:
    """Put small objects on all surfaces, at a distance from each other."""
    p = b.palette
    amount = p.uniform(0.3, 2.2)
    for s in b.surfaces:
        count = int(b.rng.poisson(amount * s.fill * (1.0 + 4.5 * s.width * s.depth)))
        taken: list[tuple[float, float]] = []
        with b.frame(s.x, s.y, s.z, s.yaw):
            for _ in range(min(count, 12)):
                x = p.uniform(-0.5, 0.5) * max(0.0, s.width - 0.26)
                y = p.uniform(-0.5, 0.5) * max(0.0, s.depth - 0.26)
                if any(math.hypot(x - i, y - j) < 0.24 for i, j in taken):
                    continue
                taken.append((x, y))
                big = s.depth > 0.45 and s.clearance > 0.4
                pick = p.uniform(0, 1)
                if big and pick < 0.07:
                    table_lamp(b, x, y, 0, s.clearance)
                elif big and pick < 0.13:
                    laptop(b, x, y, 0)
                elif big and pick < 0.17:
                    monitor(b, x, y, 0, s.clearance)
                else:
                    small_item(b, x, y, 0, s.clearance)
