"""Albedo of every pixel from the pattern of its material and its position on the surface.

The functions of the patterns take positions x, y (N,) in cycles, three colors a, b, c (3, N), the
parameters p (3, N) of the material, the contrast ``fade`` (N,), and face coordinates (2, N).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sgnet_core.data.rooms.materials import (
    MARBLE,
    NOISE,
    OUTSIDE,
    PAINTING,
    PRINT,
    SPECKLE,
    STRIPES,
    TILES,
    WOOD,
)

_NOISE_SIZE = 512
_PERIOD = 16.0  # period of the noise map, in cycles


@lru_cache(maxsize=4)
def _noise_map(device: torch.device) -> Tensor:
    """Return (512 * 512,) tileable fractal noise, uniform in [0, 1] and equal on all devices."""
    rng = np.random.default_rng(20200404)
    f = np.fft.fftfreq(_NOISE_SIZE) * _NOISE_SIZE
    radius = np.hypot(f[:, None], f[None, :])
    # The spectrum is flat up to one cycle and falls above it.
    spectrum = 1.0 / np.maximum(radius, _PERIOD) ** 1.3
    spectrum[radius < 3] = 0
    white = np.fft.fft2(rng.standard_normal((_NOISE_SIZE, _NOISE_SIZE)))
    field = np.fft.ifft2(white * spectrum).real
    rank = np.empty(field.size, dtype=np.float32)
    rank[np.argsort(field, axis=None)] = np.linspace(0, 1, field.size, dtype=np.float32)
    return torch.from_numpy(rank).to(device)


def noise(x: Tensor, y: Tensor) -> Tensor:
    """Return fractal noise in [0, 1] at positions (x, y) in cycles, interpolated bilinearly."""
    table = _noise_map(x.device)
    scale = _NOISE_SIZE / _PERIOD
    x, y = x * scale, y * scale
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    mask = _NOISE_SIZE - 1
    i, j = x0.long() & mask, y0.long() & mask
    i1, j1 = (i + 1) & mask, ((j + 1) & mask) << 9
    j = j << 9
    a, b, c, d = (table.index_select(0, k) for k in (j + i, j + i1, j1 + i, j1 + i1))
    top = torch.lerp(a, b, fx)
    bottom = torch.lerp(c, d, fx)
    return torch.lerp(top, bottom, fy)


def cell_hash(x: Tensor, y: Tensor, salt: int = 0) -> Tensor:
    """Return a number in [0, 1) per integer cell, from a hash that is equal on all devices."""
    h = (x.long() * 374761393 + y.long() * 668265263 + salt * 974634777) & 0x7FFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
    h = h ^ (h >> 16)
    return (h & 0xFFFF).float() / 65536.0


def albedo(
    table: Tensor, pattern: Tensor, u: Tensor, v: Tensor, unit: Tensor, footprint: Tensor
) -> Tensor:
    """Return linear RGB albedo, (3, N).

    Args:
        table: (17, N) material rows of the pixels, `Material.row` without the last two.
        pattern: (N,) int64 pattern of each pixel.
        u, v: (N,) meters along and across the surface.
        unit: (2, N) face coordinates in [-1, 1].
        footprint: (N,) meters that a pixel covers; finer patterns fade to their mean.
    """
    out = torch.empty_like(table[1:4])
    for which, draw in _DRAW.items():
        at = torch.nonzero(pattern == which)[:, 0]
        if len(at) == 0:
            continue
        row, face = table.index_select(1, at), unit.index_select(1, at)
        fu, fv = row[10], row[11]
        cycles = footprint.index_select(0, at) * torch.maximum(fu, fv)
        fade = (1.6 - 2.2 * cycles).clamp(0, 1)
        x, y = u.index_select(0, at) * fu, v.index_select(0, at) * fv
        out[:, at] = draw(x, y, (row[1:4], row[4:7], row[7:10]), row[12:15], fade, face)
    return out.clamp(0, 1)


Colors = tuple[Tensor, Tensor, Tensor]


def _noise(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Mix a and b by noise of strength p0, sharpened by p1."""
    n = noise(x, y) - 0.5
    sharp = torch.where(p[1] > 0, n / p[1].clamp(min=0.05), n).clamp(-0.5, 0.5)
    return torch.lerp(
        colors[0], colors[1], (0.5 + sharp * p[0] * fade).clamp(0, 1) * p[0].clamp(max=1)
    )


def _wood(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Draw streaks and rings along x, in planks of width p1 with tints of up to p2."""
    a, b, c = colors
    plank = torch.where(p[1] > 0, (y / p[1].clamp(min=1e-3)).floor(), 0.0)
    joint = torch.where(p[1] > 0, (y / p[1].clamp(min=1e-3)) - plank, 0.5)
    length = x * 0.5 + cell_hash(plank, plank * 0, 3) * 7
    board = torch.where(p[1] > 0, length.floor(), 0.0)
    shift = cell_hash(plank, board) * 31
    streak = noise(x * 0.6 + shift, y * 1.0 + shift)
    bend = noise(x * 0.25 + shift, y * 0.08 + shift)
    rings = 0.5 + 0.5 * torch.sin((y * 0.25 + bend * 6) * math.tau)
    mix = ((0.65 * streak + 0.35 * rings - 0.5) * fade + 0.5) * p[0]
    color = torch.lerp(a, b, mix.clamp(0, 1))
    tint = torch.where(p[1] > 0, cell_hash(plank, board, 7) * p[2], bend)
    color = torch.lerp(color, c, tint.clamp(0, 1) * 0.7) * (1 - 0.35 * tint * (p[1] > 0))
    gap = (p[1] > 0) & ((joint < 0.03) | ((length - length.floor()) < 0.006))
    return color * (1 - 0.5 * gap * fade)


def _stripes(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Draw stripes across x, a share p0 of them in a."""
    phase = x - x.floor()
    on = torch.lerp(1 - p[0], (phase > p[0]).float(), fade)
    return torch.lerp(colors[0], colors[1], on * 0.9) * (0.9 + 0.2 * noise(x, y))


def _tiles(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Draw tiles of a, tinted to c by up to p1, with grout b of half-width p0; p2 shifts rows."""
    a, b, c = colors
    row = y.floor()
    x = x + 0.5 * p[2] * (row - 2 * (row * 0.5).floor())
    column = x.floor()
    du, dv = (x - column - 0.5).abs(), (y - row - 0.5).abs()
    grout = (torch.maximum(du, dv) > 0.5 - p[0]).float() * fade
    tint = cell_hash(column, row) * p[1] * (0.6 + 0.4 * noise(x * 2, y * 2))
    return torch.lerp(torch.lerp(a, c, tint), b, grout)


def _speckle(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Draw grains of b and c in a."""
    n, m = noise(x, y), noise(y * 1.7 + 3.1, x * 1.7 + 8.2)
    color = torch.lerp(colors[0], colors[1], ((n - 0.6) * 8).clamp(0, 1) * fade)
    return torch.lerp(color, colors[2], ((m - 0.72) * 8).clamp(0, 1) * fade)


def _marble(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Draw thin veins of b in a."""
    n = noise(x * 0.5, y * 0.5)
    vein = (1 - (n - 0.5).abs() / p[0]).clamp(0, 1) * noise(x * 0.7 + 5, y * 0.7)
    return torch.lerp(colors[0], colors[1], vein * fade) * (0.85 + 0.3 * noise(x + 2, y + 7))


def _print(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Draw blocks of b and c on a, and lines of text in some blocks."""
    a, b, c = colors
    big, small = cell_hash((x * 0.6).floor(), (y * 0.4).floor()), cell_hash(x.floor(), y.floor(), 5)
    color = torch.where(big < p[0] * 0.6, b, a)
    color = torch.where((small > 0.82) & (big > 0.3), c, color)
    line = (y * 5 - (y * 5).floor()) > 0.55
    letter = cell_hash((x * 14).floor(), (y * 5).floor(), 9) > 0.35
    text = (line & letter & (small < 0.45)).float() * fade
    return torch.lerp(color, 1 - color.mean(0, keepdim=True).round().expand_as(color), text * 0.8)


def _painting(
    x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor
) -> Tensor:
    """Draw soft shapes over a vertical gradient, at times in a white mat."""
    a, b, c = colors
    horizon = (0.5 + 0.5 * unit[1] * (p[0] * 2 - 1)).clamp(0, 1)
    color = torch.lerp(a, b, horizon)
    shape = ((noise(x + p[0] * 9, y) - 0.55) * 6).clamp(0, 1)
    color = torch.lerp(color, c, shape)
    color = color * (0.55 + 0.9 * noise(x * 3 + p[0] * 5, y * 3))
    mat = (unit.abs().amax(0) > 0.7) & (p[0] > 0.6)
    return torch.where(mat, 0.85, color)


def _outside(x: Tensor, y: Tensor, colors: Colors, p: Tensor, fade: Tensor, unit: Tensor) -> Tensor:
    """Draw sky a over ground b with a rough horizon at height p0; p1 blends to white."""
    edge = unit[1] - p[0] + (noise(x, y) - 0.5) * 0.8
    color = torch.lerp(colors[1] * (0.4 + noise(x * 3, y * 3)), colors[0], (edge * 6).clamp(0, 1))
    return torch.lerp(color, torch.ones_like(color), p[1] * 0.8)


_DRAW = {
    NOISE: _noise,
    WOOD: _wood,
    STRIPES: _stripes,
    TILES: _tiles,
    SPECKLE: _speckle,
    MARBLE: _marble,
    PRINT: _print,
    PAINTING: _painting,
    OUTSIDE: _outside,
}
