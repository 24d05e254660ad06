"""Free-standing furniture: tables, chairs, sofas, beds.

They stand at the origin of the current frame of the `Builder`, with their front toward +y. Sizes
are in meters.
"""

from __future__ import annotations

import math

from sgnet_core.data.rooms.classes import BED, CHAIR, PILLOW, SOFA, TABLE
from sgnet_core.data.rooms.clutter import pillow
from sgnet_core.data.rooms.scene import SIGNS, Builder


def table(b: Builder, width: float, depth: float, height: float, round_top: bool) -> None:
    """Add a dining, coffee or writing table."""
    p = b.palette
    pick = p.uniform(0, 1)
    top_material = (
        p.wood() if pick < 0.6 else p.lacquer(p.neutral()) if pick < 0.85 else p.lacquer(p.any())
    )
    if pick > 0.95:
        top_material = p.stone()
    top = b.material(top_material)
    leg = top if p.chance(0.6) else b.material(p.metal() if p.chance(0.5) else p.furniture())
    t = p.uniform(0.015, 0.06)
    under = height - t
    if round_top:
        b.cylinder((0, 0, height - t / 2), width, t, top, TABLE)
    else:
        b.box((0, 0, height - t / 2), (width, depth, t), top, TABLE)
    if round_top or p.chance(0.12):
        b.cylinder((0, 0, under / 2), p.uniform(0.06, 0.16), under, leg, TABLE)
        if p.chance(0.5):
            b.cylinder((0, 0, 0.02), depth * 0.55, 0.04, leg, TABLE, taper=0.8)
        else:
            for i in range(4):
                b.box((0, 0, 0.04), (depth * 0.7, 0.06, 0.08), leg, TABLE, yaw=i * math.pi / 4)
    elif p.chance(0.15):
        for x in (-width / 2 + 0.02, width / 2 - 0.02):
            b.box((x, 0, under / 2), (0.03, depth * 0.95, under), leg, TABLE)
    else:
        _table_legs(b, width, depth, under, leg)
    side = 0.68 if round_top else 1.0
    b.surface((0, 0, height), width * side, depth * side, 0.6, 1.3)
    b.target(0, 0, height)


def _table_legs(b: Builder, width: float, depth: float, under: float, leg: int) -> None:
    """Add four legs of height ``under``, and at times an apron."""
    p = b.palette
    s, inset = p.uniform(0.025, 0.1), p.uniform(0.0, 0.08)
    rounded = p.chance(0.25)
    for x, y in SIGNS:
        at = (x * (width / 2 - inset - s / 2), y * (depth / 2 - inset - s / 2), under / 2)
        if rounded:
            b.cylinder(at, s, under, leg, TABLE, taper=p.uniform(0.9, 1.4))
        else:
            b.box(at, (s, s, under), leg, TABLE)
    if p.chance(0.6):
        h, x, y = p.uniform(0.05, 0.12), width - 2 * inset - s, depth - 2 * inset - s
        for sign in (-1, 1):
            b.box((0, sign * y / 2, under - h / 2), (x, 0.02, h), leg, TABLE)
            b.box((sign * x / 2, 0, under - h / 2), (0.02, y, h), leg, TABLE)


def chair(b: Builder, style: int, wood: int, seat: int) -> None:
    """Add a chair.

    Args:
        b: the builder.
        style: 0, 1, 2 are dining chairs with a back of slats, bars or a panel; 3 is an office
            chair, 4 a stool.
        wood, seat: materials of the frame and of the seat.
    """
    if style == 3:
        _office_chair(b, wood, seat)
        return
    p = b.palette
    w, d, h = p.uniform(0.38, 0.48), p.uniform(0.38, 0.46), p.uniform(0.42, 0.48)
    if style == 4:
        h = p.uniform(0.42, 0.75)
        w = d = p.uniform(0.3, 0.4)
    s = p.uniform(0.025, 0.05)
    back = h + p.uniform(0.35, 0.6)
    for x in (-1, 1):
        b.box((x * (w - s) / 2, (d - s) / 2, h / 2), (s, s, h), wood, CHAIR)
        tall = h if style == 4 else back
        b.box((x * (w - s) / 2, -(d - s) / 2, tall / 2), (s, s, tall), wood, CHAIR)
    if style == 4 and p.chance(0.5):
        b.cylinder((0, 0, h), w * 1.05, 0.04, seat, CHAIR)
    else:
        b.box((0, 0, h), (w, d, p.uniform(0.025, 0.07)), seat, CHAIR)
    if p.chance(0.5):
        for x in (-1, 1):
            b.box((x * (w - s) / 2, 0, h * 0.4), (0.02, d - s, 0.025), wood, CHAIR)
        b.box((0, (d - s) / 2, h - 0.05), (w - s, 0.018, 0.06), wood, CHAIR)
    _chair_back(b, style, w, -(d - s) / 2, h, back, s, wood, seat)
    b.target(0, 0, h + 0.1)


def _chair_back(
    b: Builder,
    style: int,
    w: float,
    y: float,
    h: float,
    back: float,
    s: float,
    wood: int,
    seat: int,
) -> None:
    """Add a back between posts of thickness ``s`` at y, from the seat height ``h`` to ``back``."""
    p = b.palette
    if style == 0:
        n = int(b.rng.integers(2, 6))
        for i in range(n):
            z = h + (back - h) * (0.35 + 0.6 * i / max(1, n - 1)) - 0.02
            b.box((0, y, z), (w - s, 0.018, (back - h) * 0.4 / n + 0.015), wood, CHAIR)
    elif style == 1:
        b.box((0, y, back - 0.03), (w, s * 0.8, 0.06), wood, CHAIR)
        n = int(b.rng.integers(3, 7))
        for i in range(n):
            x = (i + 1) / (n + 1) * w - w / 2
            b.box((x, y, (h + back) / 2), (0.018, 0.018, back - h), wood, CHAIR)
    elif style == 2:
        low = h + p.uniform(0.02, 0.2)
        b.box((0, y + 0.015, (low + back) / 2), (w, p.uniform(0.02, 0.06), back - low), seat, CHAIR)


def _office_chair(b: Builder, metal: int, seat: int) -> None:
    p = b.palette
    h = p.uniform(0.42, 0.55)
    for i in range(5):
        a = i * math.tau / 5
        x, y = math.cos(a), math.sin(a)
        b.box((0.15 * x, 0.15 * y, 0.09), (0.3, 0.04, 0.035), metal, CHAIR, yaw=a)
        b.ellipsoid((0.29 * x, 0.29 * y, 0.035), (0.06, 0.06, 0.07), metal, CHAIR)
    b.cylinder((0, 0, h / 2 + 0.03), 0.05, h - 0.1, metal, CHAIR)
    b.box((0, 0, h), (0.48, 0.47, 0.05), seat, CHAIR)
    b.ellipsoid((0, 0, h + 0.02), (0.5, 0.5, 0.1), seat, CHAIR)
    tall = p.uniform(0.4, 0.7)
    b.box((0, -0.24, h + 0.12), (0.06, 0.03, 0.3), metal, CHAIR)
    b.box((0, -0.23, h + 0.15 + tall / 2), (0.44, 0.06, tall), seat, CHAIR, pitch=0.1)
    if p.chance(0.6):
        for x in (-0.26, 0.26):
            b.box((x, 0, h + 0.2), (0.05, 0.26, 0.03), metal, CHAIR)
            b.box((x, -0.05, h + 0.1), (0.03, 0.04, 0.2), metal, CHAIR)
    b.target(0, 0, h)


def sofa(b: Builder, width: float, depth: float) -> None:
    """Add an armchair or sofa with cushions and loose pillows."""
    p = b.palette
    cloth = b.material(p.leather() if p.chance(0.3) else p.fabric())
    arm, back_d = p.uniform(0.1, 0.24), p.uniform(0.14, 0.26)
    seat, arm_h, back_h = p.uniform(0.38, 0.46), p.uniform(0.5, 0.66), p.uniform(0.7, 0.95)
    foot = p.uniform(0.0, 0.12)
    inner = width - 2 * arm
    base = (width - 0.02, depth - 0.02, seat - 0.12 - foot)
    b.box((0, 0, (seat - 0.12 + foot) / 2), base, cloth, SOFA)
    if foot > 0.03:
        leg = b.material(p.wood() if p.chance(0.6) else p.metal())
        for x, y in SIGNS:
            at = (x * (width / 2 - 0.07), y * (depth / 2 - 0.07), foot / 2)
            b.box(at, (0.05, 0.05, foot), leg, SOFA)
    rolled = p.chance(0.4)
    for x in (-1, 1):
        side = x * (width - arm) / 2
        b.box((side, 0, (arm_h + foot) / 2), (arm, depth, arm_h - foot), cloth, SOFA)
        if rolled:
            b.cylinder((side, 0, arm_h), arm * 1.1, depth, cloth, SOFA, pitch=math.pi / 2)
    at = (0, -(depth - back_d) / 2, (back_h + foot) / 2)
    b.box(at, (width - arm, back_d, back_h - foot), cloth, SOFA)
    _cushions(b, inner, depth, back_d, seat, cloth)
    b.target(0, 0, seat)


def _cushions(
    b: Builder, inner: float, depth: float, back_d: float, seat: float, cloth: int
) -> None:
    """Add seat and back cushions and loose pillows."""
    p = b.palette
    n = max(1, round(inner / 0.68))
    w, d, y = inner / n, depth - back_d, -depth / 2 + back_d
    for i in range(n):
        x = (i + 0.5) * inner / n - inner / 2
        b.box((x, back_d / 2, seat - 0.06), (w - 0.012, d - 0.01, 0.15), cloth, SOFA)
        b.ellipsoid((x, back_d / 2, seat), (w * 0.95, d * 0.95, 0.08), cloth, SOFA)
        b.box((x, y + 0.07, seat + 0.2), (w - 0.015, 0.15, 0.4), cloth, SOFA, pitch=0.14)
    soft = b.material(p.fabric())
    for _ in range(int(b.rng.integers(0, n + 2))):
        if p.chance(0.3):
            soft = b.material(p.fabric())
        x = p.uniform(-0.5, 0.5) * (inner - 0.4)
        size, tilt = p.uniform(0.32, 0.48), p.uniform(0.2, 0.5)
        pillow(b, x, y + 0.25, seat + 0.01, size, soft, -tilt)


def bed(b: Builder, width: float, length: float) -> None:
    """Add a bed with its head at -y."""
    p = b.palette
    frame = b.material(p.furniture())
    sheet = b.material(p.fabric(p.neutral() if p.chance(0.6) else p.pastel()))
    cover = b.material(p.fabric())
    low, mat = p.uniform(0.2, 0.36), p.uniform(0.16, 0.26)
    top = low + mat
    if p.chance(0.6):
        b.box((0, 0, low / 2 + 0.03), (width + 0.06, length + 0.06, low - 0.06), frame, BED)
    else:
        b.box((0, 0, low - 0.06), (width + 0.05, length + 0.05, 0.12), frame, BED)
        for x, y in SIGNS:
            b.box((x * width * 0.47, y * length * 0.47, low / 2), (0.07, 0.07, low), frame, BED)
    if p.chance(0.85):
        head = top + p.uniform(0.15, 0.6)
        b.box((0, -length / 2 - 0.04, head / 2), (width + 0.08, 0.06, head), frame, BED)
    if p.chance(0.3):
        b.box((0, length / 2 + 0.04, (top + 0.1) / 2), (width + 0.08, 0.05, top + 0.1), frame, BED)
    b.box((0, 0, low + mat / 2), (width, length, mat), sheet, BED)
    reach = length * p.uniform(0.55, 0.85)
    hang = p.uniform(0.05, mat + 0.1)
    at = (0, length / 2 - reach / 2, top + 0.03 - hang / 2)
    b.box(at, (width + 0.05, reach + 0.02, hang + 0.05), cover, BED)
    if p.chance(0.6):
        for _ in range(3):
            x, y = p.uniform(-0.3, 0.3) * width, length / 2 - reach * p.uniform(0.3, 0.8)
            size = (p.uniform(0.5, 0.9) * width, p.uniform(0.4, 0.8), 0.16)
            b.ellipsoid((x, y, top + 0.04), size, cover, BED, yaw=p.uniform(0, 3))
    n = 2 if width > 1.2 else 1
    case = b.material(p.fabric(p.neutral() if p.chance(0.5) else p.any()))
    for i in range(n):
        x, y = (i + 0.5) * width / n - width / 2, -length / 2 + 0.3
        w, tilt = min(0.7, width / n * 0.85), p.uniform(0.0, 0.5)
        b.ellipsoid((x, y, top + 0.08 + tilt * 0.1), (w, 0.48, 0.2), case, PILLOW, pitch=-tilt)
        b.box((x, y, top + 0.07 + tilt * 0.1), (w * 0.85, 0.38, 0.12), case, PILLOW, pitch=-tilt)
    b.target(0, 0, top)
