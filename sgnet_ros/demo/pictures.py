"""Pictures of the demo: depth in colors, a contact sheet with a legend, and a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sgnet_core.data.images import overlay
from sgnet_core.files import atomic_write
from sgnet_core.models.labels import LabelSet

Rgb = npt.NDArray[np.uint8]

# Red (near) through green to dark blue (far).
_RAMP = np.array(
    [(230, 60, 40), (250, 170, 50), (220, 230, 70), (90, 200, 120), (60, 140, 210), (60, 50, 130)]
)
_TRUTH_ALPHA = 0.6
_TILE_WIDTH = 320
_GAP = 6
_TEXT = 14
_FILM_QUALITY = 70
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True)
class Picture:
    """One frame of a run, all arrays of one size.

    Attributes:
        stamp_ns: stamp of the frame in nanoseconds.
        rgb: (H, W, 3) uint8.
        depth: (H, W) uint16 millimeters, 0 = invalid.
        labels: (H, W) uint8 labels of the node.
        overlay: (H, W, 3) uint8 overlay of the node.
        truth: (H, W) uint8 ground truth, or None.
    """

    stamp_ns: int
    rgb: Rgb
    depth: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8]
    overlay: Rgb
    truth: npt.NDArray[np.uint8] | None


def colorize_depth(depth: npt.NDArray[np.uint16], near: int, far: int) -> Rgb:
    """Return (H, W) millimeters as (H, W, 3) colors, ``near`` red to ``far`` blue; 0 is black."""
    scaled = np.clip((depth.astype(np.float64) - near) / max(far - near, 1), 0, 1)
    steps = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(scaled, steps, _RAMP[:, c]) for c in range(3)]
    colored = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    colored[depth == 0] = 0
    return colored


def contact_sheet(pictures: Sequence[Picture], label_set: LabelSet) -> Rgb:
    """Draw color, depth, overlay and ground truth in rows, and a legend of the classes in them.

    Args:
        pictures: at least one, all of one size; the column of ground truth needs it in all.
        label_set: names and colors of the ids in ``labels`` and ``truth``.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    titles, rows = _rows(pictures)
    if all(p.truth is not None for p in pictures):
        titles.append("ground truth")
        for row, p in zip(rows, pictures, strict=True):
            if p.truth is not None:
                row.append(overlay(p.rgb, p.truth, label_set, _TRUTH_ALPHA))

    tiles = _tiles(titles, rows)
    legend = _legend(pictures, label_set, tiles.width - _GAP)
    sheet = Image.new("RGB", (tiles.width, tiles.height + legend.height), _PAPER)
    sheet.paste(tiles, (0, 0))
    sheet.paste(legend, (0, tiles.height))
    return np.asarray(sheet)


def write_film(path: Path, pictures: Sequence[Picture]) -> None:
    """Write color, depth and overlay as an animation, with the time between the stamps.

    Args:
        path: path of the animated WebP image, which loops.
        pictures: at least one, all of one size, in the order of their stamps.
    """
    titles, rows = _rows(pictures)
    first, *rest = (_tiles(titles, [row]) for row in rows)
    stamps_ms = [p.stamp_ns / 1e6 for p in pictures]
    shown_ms = [max(1, round(b - a)) for a, b in pairwise(stamps_ms)]
    shown_ms.append(shown_ms[-1] if shown_ms else 1000)
    with atomic_write(path) as file:
        first.save(
            file,
            "WEBP",
            save_all=True,
            append_images=rest,
            duration=shown_ms,
            loop=0,
            quality=_FILM_QUALITY,
        )


def _rows(pictures: Sequence[Picture]) -> tuple[list[str], list[list[Rgb]]]:
    """Return titles and rows of color, depth and overlay; all depths have one range of colors."""
    measured = [p.depth[p.depth > 0] for p in pictures]
    together = np.concatenate(measured) if any(m.size for m in measured) else np.array([1])
    near, far = (int(d) for d in np.percentile(together, (1, 99)))
    titles = ["color", f"depth {near / 1000:.1f} to {far / 1000:.1f} m", "the node's overlay"]
    return titles, [[p.rgb, colorize_depth(p.depth, near, far), p.overlay] for p in pictures]


def _tiles(titles: Sequence[str], rows: Sequence[Sequence[Rgb]]) -> Image.Image:
    """Draw the images of each row side by side, with the titles above."""
    height, width = rows[0][0].shape[:2]
    tile = (_TILE_WIDTH, max(1, round(_TILE_WIDTH * height / width)))
    top = _TEXT + 2 * _GAP
    size = (len(titles) * (tile[0] + _GAP) + _GAP, top + len(rows) * (tile[1] + _GAP))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for x, title in enumerate(titles):
        draw.text((_GAP + x * (tile[0] + _GAP), _GAP // 2), title, _INK, _font())
        for y, row in enumerate(rows):
            shown = Image.fromarray(row[x]).resize(tile, Image.Resampling.LANCZOS)
            sheet.paste(shown, (_GAP + x * (tile[0] + _GAP), top + y * (tile[1] + _GAP)))
    return sheet


def _legend(pictures: Sequence[Picture], label_set: LabelSet, width: int) -> Image.Image:
    """Draw colors and names of the classes that occur, the most frequent first."""
    masks = [m for p in pictures for m in (p.labels, p.truth) if m is not None]
    counts = np.sum([np.bincount(m.ravel(), minlength=256) for m in masks], axis=0)
    present = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    names = [(i, label_set.names[i]) for i in present if i < len(label_set)]

    line = _TEXT + _GAP
    places, x, y = [], _GAP, _GAP
    for _, name in names:
        needed = _TEXT + _GAP + int(_font().getlength(name)) + 2 * _GAP
        if x + needed > width and x > _GAP:
            x, y = _GAP, y + line
        places.append((x, y))
        x += needed
    legend = Image.new("RGB", (width, y + line + _GAP), _PAPER)
    draw = ImageDraw.Draw(legend)
    for (index, name), (x, y) in zip(names, places, strict=True):
        draw.rectangle((x, y, x + _TEXT, y + _TEXT), label_set.colors[index], _INK)
        draw.text((x + _TEXT + _GAP, y), name, _INK, _font())
    return legend


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(_TEXT)
    except TypeError:  # Pillow before 10.1 has only one size
        return ImageFont.load_default()
