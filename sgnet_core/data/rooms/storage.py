"""Furniture that stands against a wall: cabinets, kitchens, shelves, doors, windows, pictures.

In the current frame of the `Builder`, x runs along the wall from 0 to the width, y from the wall
into the room, and z up. Sizes are in meters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgnet_core.data.rooms.classes import (
    BOOKSHELF,
    CABINET,
    COUNTER,
    DOOR,
    PICTURE,
    PROP,
    TELEVISION,
    WALL,
    WINDOW,
)
from sgnet_core.data.rooms.clutter import books_in_row, small_item
from sgnet_core.data.rooms.scene import Builder


@dataclass(frozen=True)
class Fronts:
    """Style of doors and drawers: materials, panels and handles."""

    face: int
    handle: int
    framed: bool
    grip: str  # "knob", "bar", "flat" or "none"


@dataclass(frozen=True)
class Kitchen:
    """Materials and sizes that all rows of a kitchen share."""

    fronts: Fronts
    body: int
    plinth: int
    counter: int
    splash: int
    toe: float
    top: float


def front_style(b: Builder, face: int) -> Fronts:
    """Draw a random style for doors of the material ``face``."""
    p = b.palette
    handle = b.material(p.metal() if p.chance(0.65) else p.lacquer(p.dark()))
    grip = ("knob", "bar", "flat", "none")[int(b.rng.choice(4, p=(0.25, 0.3, 0.3, 0.15)))]
    return Fronts(face, handle, p.chance(0.35), grip)


def kitchen_style(b: Builder) -> Kitchen:
    """Draw random materials and sizes of a kitchen."""
    p = b.palette
    pick = p.uniform(0, 1)
    color = p.neutral() if pick < 0.45 else p.vivid() if pick < 0.65 else p.any()
    face = b.material(p.wood() if p.chance(0.3) else p.lacquer(color))
    body = face if p.chance(0.6) else b.material(p.paint(p.neutral()))
    plinth = b.material(p.paint(p.dark()) if p.chance(0.5) else p.paint(p.neutral(0.4)))
    top = p.stone() if p.chance(0.55) else p.wood() if p.chance(0.5) else p.lacquer(p.any())
    counter = b.material(top)
    splash = b.material(p.tiles(0.04, 0.2, bricks=p.chance(0.3)))
    style = front_style(b, face)
    toe, thick = p.uniform(0.07, 0.16), p.uniform(0.025, 0.05)
    return Kitchen(style, body, plinth, counter, splash, toe, thick)


def fronts(
    b: Builder,
    style: Fronts,
    x0: float,
    z0: float,
    width: float,
    height: float,
    y: float,
    drawers: bool,
) -> None:
    """Add doors or drawers with handles in the plane at y."""
    p = b.palette
    gap = 0.004
    if drawers:
        n = max(1, round(height / p.uniform(0.18, 0.3)))
        panels = [(x0, z0 + i * height / n, width, height / n) for i in range(n)]
    else:
        n = max(1, round(width / p.uniform(0.4, 0.6)))
        panels = [(x0 + i * width / n, z0, width / n, height) for i in range(n)]
    for i, (x, z, w, h) in enumerate(panels):
        panel = (w - 2 * gap, 0.018, h - 2 * gap)
        b.box((x + w / 2, y + 0.009, z + h / 2), panel, style.face, CABINET)
        if style.framed and h > 0.2 and w > 0.2:
            inner = (w - 0.14, 0.006, h - 0.14)
            b.box((x + w / 2, y + 0.02, z + h / 2), inner, style.face, CABINET)
        side = w / 2 if drawers else (w - 0.05 if i % 2 == 0 else 0.05)
        rise = h / 2 if drawers else h * (0.86 if z < 1.0 else 0.14)
        if style.grip == "knob":
            b.ellipsoid((x + side, y + 0.035, z + rise), (0.03, 0.03, 0.03), style.handle, CABINET)
        elif style.grip == "flat" or (style.grip == "bar" and drawers):
            size = (min(0.16, w * 0.5), 0.014, 0.014)
            b.box((x + w / 2, y + 0.035, z + rise), size, style.handle, CABINET)
        elif style.grip == "bar":
            size = (0.014, 0.014, min(0.16, h * 0.4))
            b.box((x + side, y + 0.035, z + rise), size, style.handle, CABINET)


def cabinet(b: Builder, width: float, depth: float, height: float) -> None:
    """Add a wardrobe, sideboard, dresser or filing cabinet."""
    p = b.palette
    body = b.material(p.furniture())
    style = front_style(b, body if p.chance(0.75) else b.material(p.furniture()))
    foot = p.uniform(0.0, 0.14)
    if foot > 0.05:
        for x in (0.05, width - 0.05):
            for y in (0.05, depth - 0.07):
                b.box((x, y, foot / 2), (0.04, 0.04, foot), body, CABINET)
    else:
        plinth = (width - 0.04, depth - 0.04, foot)
        b.box((width / 2, depth / 2 - 0.02, foot / 2), plinth, body, CABINET)
    b.box((width / 2, depth / 2, (height + foot) / 2), (width, depth, height - foot), body, CABINET)
    columns = max(1, round(width / p.uniform(0.7, 1.1)))
    for i in range(columns):
        w = (width - 0.03) / columns
        drawers = height < 1.4 and p.chance(0.45)
        fronts(b, style, 0.015 + i * w, foot + 0.015, w, height - foot - 0.03, depth, drawers)
    if height < 1.5:
        top = height
        if p.chance(0.4):
            board = (width + 0.03, depth + 0.03, 0.025)
            b.box((width / 2, depth / 2 + 0.01, height + 0.01), board, body, CABINET)
            top = height + 0.0225
        b.surface((width / 2, depth / 2, top), width, depth, 0.6, 0.6)
    b.target(width / 2, depth, height * 0.5)


def kitchen_run(
    b: Builder, kit: Kitchen, width: float, depth: float, height: float, upper: bool, splash: float
) -> None:
    """Add cabinets, a counter, a backsplash ``splash`` high, and wall cabinets if ``upper``."""
    p = b.palette
    toe, top = kit.toe, kit.top
    b.box((width / 2, depth / 2 - 0.04, toe / 2), (width, depth - 0.08, toe), kit.plinth, CABINET)
    body = (width, depth - 0.02, height - top - toe)
    b.box((width / 2, depth / 2 - 0.01, (height - top + toe) / 2), body, kit.body, CABINET)
    slab = (width, depth + 0.03, top)
    b.box((width / 2, depth / 2 + 0.01, height - top / 2), slab, kit.counter, COUNTER)
    units = max(1, round(width / p.uniform(0.45, 0.65)))
    for i in range(units):
        w = width / units
        tall = height - top - toe - 0.01
        fronts(b, kit.fronts, i * w, toe + 0.005, w, tall, depth - 0.02, p.chance(0.25))
    if splash > 0:
        b.box((width / 2, 0.006, height + splash / 2), (width, 0.012, splash), kit.splash, WALL)
    if upper:
        z0, h, d = height + p.uniform(0.45, 0.6), p.uniform(0.5, 0.9), p.uniform(0.3, 0.38)
        h = min(h, b.size[2] - z0 - 0.02)
        b.box((width / 2, d / 2, z0 + h / 2), (width, d, h), kit.body, CABINET)
        for i in range(units):
            fronts(b, kit.fronts, i * width / units, z0 + 0.004, width / units, h - 0.008, d, False)
    if p.chance(0.5) and width > 1.2:
        sink = b.material(p.metal())
        x = p.uniform(0.4, width - 0.4)
        b.box((x, depth / 2, height + 0.002), (0.5, 0.4, 0.006), sink, PROP)
        b.cylinder((x, 0.12, height + 0.15), 0.03, 0.3, sink, PROP)
        b.cylinder((x, 0.2, height + 0.29), 0.022, 0.18, sink, PROP, pitch=math.pi / 2)
    b.surface((width / 2, depth / 2, height), width, depth, 0.42, 1.1)
    b.target(width / 2, depth * 0.8, height)


def bookshelf(b: Builder, width: float, depth: float, height: float) -> None:
    """Add open shelves with books and small objects."""
    p = b.palette
    wood = b.material(p.furniture())
    t = p.uniform(0.015, 0.035)
    columns = max(1, round(width / p.uniform(0.6, 1.0)))
    rows = max(2, round(height / p.uniform(0.28, 0.42)))
    if p.chance(0.75):
        b.box((width / 2, 0.008, height / 2), (width, 0.016, height), wood, BOOKSHELF)
    for i in range(columns + 1):
        x = t / 2 + i * (width - t) / columns
        b.box((x, depth / 2, height / 2), (t, depth, height), wood, BOOKSHELF)
    for j in range(rows + 1):
        z = t / 2 + j * (height - t) / rows
        b.box((width / 2, depth / 2, z), (width, depth, t), wood, BOOKSHELF)
    full = p.uniform(0.4, 1.0)
    for i in range(columns):
        for j in range(rows):
            x0 = t + i * (width - t) / columns
            w, h = (width - t) / columns - t, (height - t) / rows - t
            z0 = t + j * (height - t) / rows
            if p.chance(full * 0.75):
                books_in_row(b, x0, z0, w, depth, h)
            elif p.chance(0.5):
                small_item(b, x0 + w / 2, depth * 0.55, z0, h * 0.9)
    b.target(width / 2, depth, height * 0.5)


def door(b: Builder, width: float, height: float) -> None:
    """Add a closed door with frame and handle."""
    p = b.palette
    pick = p.paint(p.neutral(), 0.2) if p.chance(0.5) else None
    leaf = b.material(pick or (p.wood() if p.chance(0.7) else p.lacquer(p.any())))
    frame = leaf if p.chance(0.4) else b.material(p.paint(p.neutral(), 0.2))
    f = p.uniform(0.05, 0.11)
    out = p.uniform(0.015, 0.05)
    for x in (-f / 2, width + f / 2):
        b.box((x, out / 2, height / 2), (f, out, height), frame, DOOR)
    b.box((width / 2, out / 2, height + f / 2), (width + 2 * f, out, f), frame, DOOR)
    b.box((width / 2, 0.006, height / 2), (width, 0.012, height), leaf, DOOR)
    style = b.rng.integers(0, 4)
    if style == 1:
        for z0, z1 in ((0.1, 0.46), (0.52, 0.92)):
            panel = (width * 0.66, 0.012, height * (z1 - z0))
            b.box((width / 2, 0.014, height * (z0 + z1) / 2), panel, leaf, DOOR)
    elif style == 2:
        panel = (width * 0.32, 0.012, height * 0.24)
        for z in (0.18, 0.5, 0.8):
            for x in (0.29, 0.71):
                b.box((width * x, 0.014, height * z), panel, leaf, DOOR)
    elif style == 3 and p.chance(0.5):
        pane = b.material(p.outside())
        b.box((width / 2, 0.012, height * 0.68), (width * 0.5, 0.006, height * 0.45), pane, DOOR)
    metal = b.material(p.metal())
    x = width - 0.07 if p.chance(0.5) else 0.07
    b.box((x, 0.016, 1.02), (0.04, 0.012, 0.2), metal, DOOR)
    if p.chance(0.6):
        b.box((x + (0.05 if x < 0.1 else -0.05), 0.06, 1.05), (0.13, 0.018, 0.02), metal, DOOR)
        b.box((x, 0.035, 1.05), (0.02, 0.05, 0.02), metal, DOOR)
    else:
        b.ellipsoid((x, 0.055, 1.0), (0.06, 0.06, 0.06), metal, DOOR)
    b.target(width / 2, 0, height * 0.5)


def window(b: Builder, width: float, height: float, sill: float) -> None:
    """Add a window with frame and panes, and at times blinds."""
    p = b.palette
    frame = b.material(p.paint(p.neutral(0.7), 0.2) if p.chance(0.7) else p.wood())
    glass = b.material(p.outside())
    f = p.uniform(0.04, 0.09)
    z = sill + height / 2
    b.box((width / 2, 0.005, z), (width, 0.01, height), glass, WINDOW)
    for x in (f / 2, width - f / 2):
        b.box((x, 0.03, z), (f, 0.06, height), frame, WINDOW)
    for dz in (sill + f / 2, sill + height - f / 2):
        b.box((width / 2, 0.03, dz), (width, 0.06, f), frame, WINDOW)
    panes = max(1, round(width / p.uniform(0.5, 1.2)))
    for i in range(1, panes):
        b.box((i * width / panes, 0.025, z), (f * 0.8, 0.05, height), frame, WINDOW)
    if p.chance(0.35):
        at = (width / 2, 0.02, sill + height * p.uniform(0.4, 0.7))
        b.box(at, (width, 0.04, f * 0.5), frame, WINDOW)
    if p.chance(0.7):
        b.box((width / 2, 0.08, sill - 0.015), (width + 0.1, 0.16, 0.03), frame, WINDOW)
        b.surface((width / 2, 0.08, sill), width, 0.14, 0.4, 0.25)
    if p.chance(0.25):
        slat = b.material(p.paint(p.neutral(0.7)))
        drop = height * p.uniform(0.3, 1.0)
        n = max(4, int(drop / 0.06))
        for i in range(n):
            at = (width / 2, 0.085, sill + height - (i + 0.5) * drop / n)
            b.box(at, (width, 0.03, 0.004), slat, WINDOW, pitch=0.7)


def picture(b: Builder, width: float, height: float, z: float) -> None:
    """Add a framed picture or a poster, centered at x = 0 and height z."""
    p = b.palette
    canvas = b.material(p.painting() if p.chance(0.7) else p.printed(4.0))
    out = p.uniform(0.012, 0.035)
    if p.chance(0.8):
        plain = p.wood() if p.chance(0.5) else None
        frame = b.material(plain or p.lacquer(p.dark() if p.chance(0.6) else p.neutral()))
        f = p.uniform(0.015, 0.06)
        b.box((0, out / 2, z), (width, out, height), frame, PICTURE)
        inner = (width - 2 * f, out * 0.9 + 0.002, height - 2 * f)
        b.box((0, out * 0.9 / 2 + 0.003, z), inner, canvas, PICTURE)
    else:
        b.box((0, 0.004, z), (width, 0.008, height), canvas, PICTURE)


def television(b: Builder, width: float, z: float, stand: bool) -> None:
    """Add a television centered at x = 0, with its stand, or on a wall its middle, at height z."""
    p = b.palette
    height = width * 0.58
    shell = b.material(p.lacquer(p.dark()))
    screen = b.material(p.screen())
    y = 0.2 if stand else 0.05
    middle = z + height / 2 + 0.08 if stand else z
    b.box((0, y, middle), (width, 0.05, height), shell, TELEVISION)
    b.box((0, y + 0.024, middle), (width - 0.04, 0.006, height - 0.04), screen, TELEVISION)
    if stand:
        b.box((0, y, z + 0.01), (width * 0.4, 0.2, 0.02), shell, TELEVISION)
        b.box((0, y, z + 0.05), (0.08, 0.03, 0.1), shell, TELEVISION)
    b.target(0, y, middle)
