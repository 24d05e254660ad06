"""Materials of surfaces: procedural patterns with colors, gloss, and effect on depth sensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Patterns, which `textures.py` draws.
NOISE, WOOD, STRIPES, TILES, SPECKLE, MARBLE, PRINT, PAINTING, OUTSIDE = range(9)

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """Appearance of a surface. Colors are linear RGB in [0, 1].

    Attributes:
        pattern: one of the patterns above.
        colors: three colors that the pattern mixes.
        freq: pattern cycles per meter along and across the long side of the primitive.
        params: three parameters of the pattern, see `textures.py`.
        specular: strength of highlights, 0..1.
        gloss: exponent of highlights.
        emission: brightness of surfaces that emit light (1 = white); 0 for all others.
        dropout: share of the surface that a depth sensor misses, 0..1.
    """

    pattern: int
    colors: tuple[Color, Color, Color]
    freq: tuple[float, float] = (1.0, 1.0)
    params: tuple[float, float, float] = (0.0, 0.0, 0.0)
    specular: float = 0.0
    gloss: float = 20.0
    emission: float = 0.0
    dropout: float = 0.0

    def row(self) -> tuple[float, ...]:
        """Return all numbers in one row, in the order that `textures.py` reads."""
        a, b, c = self.colors
        look = (self.specular, self.gloss, self.emission, self.dropout)
        return (self.pattern, *a, *b, *c, *self.freq, *self.params, *look)


def _hsv(h: float, s: float, v: float) -> Color:
    """Convert HSV to linear RGB, with a gamma of 2."""
    rgb = [v - v * s * max(0.0, min(k, 4 - k, 1.0)) for k in ((n + h * 6) % 6 for n in (5, 3, 1))]
    return (rgb[0] ** 2, rgb[1] ** 2, rgb[2] ** 2)


def scale(color: Color, factor: float) -> Color:
    """Brighten or darken a color, clipped to 1."""
    return tuple(min(1.0, c * factor) for c in color)  # type: ignore[return-value]


class Palette:
    """Draws random materials; in some scenes, colors are unusual for the class."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.wild = rng.random() < 0.12

    def uniform(self, low: float, high: float) -> float:
        """Return a random float."""
        return float(self.rng.uniform(low, high))

    def chance(self, p: float) -> bool:
        """Return True with probability p."""
        return bool(self.rng.random() < p)

    def neutral(self, low: float = 0.55, high: float = 0.98) -> Color:
        """Return white, beige or gray."""
        if self.wild and self.chance(0.6):
            return self.vivid()
        warm = self.chance(0.7)
        hue = self.uniform(0.05, 0.16) if warm else self.uniform(0.5, 0.68)
        return _hsv(hue, self.uniform(0.0, 0.22 if warm else 0.1), self.uniform(low, high))

    def vivid(self) -> Color:
        """Return a saturated color."""
        return _hsv(self.uniform(0, 1), self.uniform(0.4, 0.95), self.uniform(0.3, 0.95))

    def pastel(self) -> Color:
        """Return a pale color."""
        return _hsv(self.uniform(0, 1), self.uniform(0.1, 0.4), self.uniform(0.55, 0.95))

    def dark(self) -> Color:
        """Return a dark color."""
        return _hsv(self.uniform(0, 1), self.uniform(0.0, 0.5), self.uniform(0.06, 0.35))

    def any(self) -> Color:
        """Return a color of an indoor object."""
        pick = self.rng.random()
        if pick < 0.35:
            return self.neutral(0.4)
        if pick < 0.6:
            return self.vivid()
        return self.pastel() if pick < 0.78 else self.dark()

    def wood_color(self) -> Color:
        """Return a color of wood, from pale birch to dark walnut."""
        if self.wild and self.chance(0.5):
            return self.vivid()
        return _hsv(self.uniform(0.04, 0.115), self.uniform(0.28, 0.72), self.uniform(0.22, 0.9))

    def paint(self, color: Color, spec: float = 0.05) -> Material:
        """Return matt or satin paint, slightly uneven."""
        shade = scale(color, self.uniform(0.8, 0.97))
        freq = self.uniform(0.4, 3.0)
        return Material(
            NOISE, (color, shade, shade), (freq, freq), (0.7, 0, 0), self.uniform(0, spec * 2), 12
        )

    def lacquer(self, color: Color) -> Material:
        """Return glossy paint or plastic."""
        shade = scale(color, 0.92)
        spec, gloss = self.uniform(0.1, 0.5), self.uniform(20, 120)
        return Material(NOISE, (color, shade, shade), (1, 1), (0.4, 0, 0), spec, gloss)

    def wood(self, color: Color | None = None, planks: float = 0.0) -> Material:
        """Return wood with grain along the long side; ``planks`` is their width in meters, or 0."""
        base = color or self.wood_color()
        dark = scale(base, self.uniform(0.4, 0.8))
        tint = tuple(b * f for b, f in zip(base, (1.0, 0.92, 0.8), strict=True))
        gloss = self.uniform(10, 60)
        across = self.uniform(6, 30)
        return Material(
            WOOD,
            (base, dark, tint),  # type: ignore[arg-type]
            (self.uniform(0.4, 1.5), across),
            (self.uniform(0.2, 1.0), planks * across, self.uniform(0.3, 1.0)),
            self.uniform(0.0, 0.35),
            gloss,
        )

    def fabric(self, color: Color | None = None) -> Material:
        """Return cloth with noise, stripes or checks."""
        base = color or self.any()
        pick = self.rng.random()
        other = self.any() if pick > 0.8 else scale(base, self.uniform(0.55, 0.9))
        if pick < 0.6:
            freq = self.uniform(2, 40)
            return Material(NOISE, (base, other, other), (freq, freq), (0.9, 0, 0))
        if pick < 0.9:
            bars, duty = self.uniform(3, 25), self.uniform(0.2, 0.7)
            return Material(STRIPES, (base, other, base), (bars, 1.0), (duty, 0, 0))
        checks = self.uniform(3, 15)
        return Material(TILES, (base, base, other), (checks, checks), (0.0, 1.0, 0.0))

    def leather(self) -> Material:
        """Return leather."""
        base = self.any() if self.chance(0.3) else _hsv(0.06, 0.5, self.uniform(0.1, 0.6))
        shade = scale(base, 0.75)
        return Material(
            NOISE, (base, shade, shade), (9, 9), (0.8, 0, 0), self.uniform(0.1, 0.4), 18
        )

    def metal(self) -> Material:
        """Return brushed metal."""
        base = _hsv(0.6, 0.04, self.uniform(0.35, 0.85))
        shade = scale(base, 0.7)
        return Material(NOISE, (base, shade, shade), (2, 60), (0.7, 0, 0), 0.7, 40, 0.0, 0.3)

    def carpet(self) -> Material:
        """Return carpet with fine noise or streaks."""
        base = self.any() if self.chance(0.2) else self.neutral(0.25, 0.75)
        other = scale(base, self.uniform(0.4, 0.85)) if self.chance(0.9) else self.any()
        if self.chance(0.45):
            freq = (self.uniform(0.3, 2.5), self.uniform(12, 45))
            return Material(NOISE, (base, other, other), freq, (1.4, 0.25, 0.0))
        freq1 = self.uniform(8, 45)
        return Material(NOISE, (base, other, other), (freq1, freq1), (1.0, 0.2, 0.0))

    def tiles(self, low: float = 0.08, high: float = 0.6, bricks: bool = False) -> Material:
        """Return tiles of ``low`` to ``high`` meters with grout; bricks shift every second row."""
        base = self.any() if self.chance(0.4) else self.neutral(0.4)
        grout = scale(base, self.uniform(0.4, 0.8)) if self.chance(0.6) else self.neutral(0.5)
        other = self.any() if self.chance(0.2) else scale(base, self.uniform(0.7, 1.0))
        side = self.uniform(low, high)
        ratio = self.uniform(1.5, 3.0) if bricks else self.rng.choice([1.0, 1.0, 2.0])
        line = self.uniform(0.003, 0.012) / side
        spec = self.uniform(0.0, 0.5)
        return Material(
            TILES,
            (base, grout, other),
            (1 / (side * float(ratio)), 1 / side),
            (line, 1.0, 1.0 if bricks else 0.0),
            spec,
            60,
        )

    def stone(self) -> Material:
        """Return polished granite or marble."""
        spec, gloss = self.uniform(0.1, 0.8), self.uniform(40, 200)
        dropout = 0.5 * spec
        if self.chance(0.6):
            base = self.dark() if self.chance(0.45) else self.neutral(0.3)
            colors = (base, scale(base, 0.45), scale(base, 1.9))
            freq = self.uniform(5, 30)
            return Material(SPECKLE, colors, (freq, freq), (0.5, 0, 0), spec, gloss, 0.0, dropout)
        base = self.neutral(0.5) if self.chance(0.7) else self.dark()
        vein = scale(base, 0.5) if base[0] > 0.2 else scale(base, 4.0)
        freq = self.uniform(0.5, 2.0)
        return Material(
            MARBLE, (base, vein, base), (freq, freq), (0.08, 0, 0), spec, gloss, 0.0, dropout
        )

    def printed(self, freq: float = 9.0) -> Material:
        """Return a printed cover with color blocks and lines of text."""
        colors = (self.any(), self.vivid() if self.chance(0.6) else self.any(), self.neutral())
        f = freq * self.uniform(0.6, 1.6)
        params = (self.uniform(0.2, 0.9), 0.0, 0.0)
        return Material(PRINT, colors, (f, f), params, self.uniform(0, 0.3), 40)

    def painting(self) -> Material:
        """Return the content of a picture."""
        colors = (self.any(), self.any(), self.any())
        freq = self.uniform(0.5, 3.0)
        return Material(
            PAINTING, colors, (freq, freq), (self.uniform(0, 1), 0, 0), 0.1, 80, 0.0, 0.05
        )

    def outside(self) -> Material:
        """Return the view through a window: sky over ground, overexposed, or at night."""
        sky = _hsv(self.uniform(0.5, 0.62), self.uniform(0, 0.35), self.uniform(0.8, 1.0))
        land = _hsv(self.uniform(0.1, 0.4), self.uniform(0.1, 0.5), self.uniform(0.3, 0.9))
        level = 0.05 if self.chance(0.12) else self.uniform(0.6, 2.5)
        params = (self.uniform(-0.6, 0.6), self.uniform(0, 1), 0.0)
        return Material(OUTSIDE, (sky, land, land), (1.5, 1.5), params, 0.4, 80, level, 0.9)

    def screen(self) -> Material:
        """Return the screen of a television, mostly switched off."""
        if self.chance(0.25):
            return replace(self.painting(), emission=self.uniform(0.4, 1.0), dropout=0.6)
        black = _hsv(0.6, 0.2, self.uniform(0.04, 0.16))
        return Material(NOISE, (black, black, black), (1, 1), (0, 0, 0), 0.5, 90, 0.0, 0.6)

    def glow(self) -> Material:
        """Return a lit lamp shade."""
        color = _hsv(self.uniform(0.07, 0.15), self.uniform(0.0, 0.35), 1.0)
        return Material(
            NOISE,
            (color, color, color),
            (1, 1),
            (0, 0, 0),
            emission=self.uniform(0.7, 1.5),
            dropout=0.3,
        )

    def wall(self) -> Material:
        """Return paint, wallpaper, bricks or panels."""
        pick = self.rng.random()
        color = self.neutral(0.55) if pick < 0.72 or pick > 0.9 else self.pastel()
        if self.wild:
            color = self.any()
        if pick > 0.96:
            return self.tiles(0.06, 0.1, bricks=True)
        if pick > 0.93:
            return self.wood(planks=self.uniform(0.08, 0.2))
        if pick > 0.90:
            other = scale(color, self.uniform(0.6, 0.95))
            return Material(STRIPES, (color, other, color), (self.uniform(2, 15), 1), (0.5, 0, 0))
        if pick > 0.82:
            freq = self.uniform(3, 20)
            other = scale(color, self.uniform(0.7, 0.95))
            return Material(NOISE, (color, other, other), (freq, freq), (1.2, 0.05, 0.0))
        return self.paint(color, 0.04)

    def floor(self) -> Material:
        """Return planks, carpet, tiles or stone."""
        pick = self.rng.random()
        if pick < 0.4:
            return self.wood(planks=self.uniform(0.06, 0.22))
        if pick < 0.72:
            return self.carpet()
        if pick < 0.92:
            return self.tiles(0.15, 0.7)
        return self.stone()

    def furniture(self) -> Material:
        """Return wood, lacquer or paint for the body of furniture."""
        pick = self.rng.random()
        if pick < 0.5:
            return self.wood()
        return self.lacquer(self.any()) if pick < 0.75 else self.paint(self.any())
