"""Label sets: names and colors of the classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORE_ID = 255
"""Id of unlabeled pixels, everywhere in the project: data sets, losses, metrics, masks."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """Classes 0..C-1 with their names and RGB colors (0..255).

    Attributes:
        name: name of the set, e.g. "nyu40".
        names: one name per class.
        colors: one RGB color per class.

    Raises:
        ValueError: names and colors differ in number, a color is out of range, there is no class,
            or there are more than 255 (255 is `IGNORE_ID`, and masks are uint8).
    """

    name: str
    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= IGNORE_ID:
            raise ValueError(f"label set {self.name!r}: 1 to 255 classes, got {len(self.names)}")
        if len(self.names) != len(self.colors):
            raise ValueError(
                f"label set {self.name!r}: {len(self.names)} names, {len(self.colors)} colors"
            )
        for name, color in zip(self.names, self.colors, strict=True):
            if len(color) != 3 or not all(0 <= c <= 255 for c in color):
                raise ValueError(f"label set {self.name!r}: {name} has no RGB color: {color}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ids(self) -> range:
        """The class ids 0..C-1."""
        return range(len(self.names))

    @functools.cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """(256, 3) uint8 RGB lookup table; `IGNORE_ID` and other ids without a class are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colors
        table.setflags(write=False)
        return table

    def colorize(self, labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Return the exact palette colors of (H, W) ids, (H, W, 3) uint8 RGB."""
        colors: npt.NDArray[np.uint8] = self.palette.take(labels, axis=0)
        return colors

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, which `from_dict` reads back."""
        return {
            "name": self.name,
            "names": list(self.names),
            "colors": [list(c) for c in self.colors],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelSet:
        """Read the result of `to_dict`, or that of earlier versions, which have an ``ignore_id``.

        Raises:
            ValueError: a field is missing or has a wrong type or value.
        """
        try:
            colors = tuple((int(r), int(g), int(b)) for r, g, b in data["colors"])
            names = tuple(str(n) for n in data["names"])
            return cls(str(data["name"]), names, colors)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a label set: {error!r}") from error


def class_difference(first: LabelSet, second: LabelSet, names: tuple[str, str]) -> str | None:
    """Describe how the class names of two sets differ; None if they are equal and in order.

    Args:
        first, second: the sets.
        names: words for the two sets in the description, e.g. "the model" and "the data".
    """
    if first.names == second.names:
        return None
    problems = []
    for index, (one, other) in enumerate(zip(first.names, second.names, strict=False)):
        if one != other:
            problems.append(f"class {index} is {one!r} in {names[0]}, {other!r} in {names[1]}")
            break
    for owner, mine, others in ((names[0], first, second), (names[1], second, first)):
        if only := [name for name in mine.names if name not in others.names]:
            more = f" and {len(only) - 5} more" if len(only) > 5 else ""
            problems.append(f"only {owner} has {', '.join(only[:5])}{more}")
    if not problems:  # one set names a class twice
        problems.append(f"{names[0]} has {len(first)} classes, {names[1]} {len(second)}")
    return "; ".join(problems)


def bit_palette(count: int) -> tuple[Color, ...]:
    """Return colors 1 to ``count`` of the PASCAL VOC palette, usual for NYUDv2; 0 is black.

    Bits 0, 1, 2 of the index are the highest bits of R, G, B, bits 3, 4, 5 the next lower ones, and
    so on.
    """
    colors = []
    for index in range(1, count + 1):
        rgb = [0, 0, 0]
        for shift in range(8):
            for channel in range(3):
                rgb[channel] |= (index >> (3 * shift + channel) & 1) << (7 - shift)
        colors.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colors)


def _label_set(name: str, names: str) -> LabelSet:
    split = tuple(n.strip() for n in names.split(","))
    return LabelSet(name, split, bit_palette(len(split)))


NYU40 = _label_set(
    "nyu40",
    "wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter,"
    "blinds, desk, shelves, curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books,"
    "refrigerator, television, paper, towel, shower curtain, box, whiteboard, person, night stand,"
    "toilet, sink, lamp, bathtub, bag, otherstructure, otherfurniture, otherprop",
)
"""NYUDv2, 40 classes (Gupta et al., CVPR 2013), counted from 0."""

NYU13 = _label_set(
    "nyu13",
    "bed, books, ceiling, chair, floor, furniture, objects, picture, sofa, table, tv, wall, window",
)
"""NYUDv2, 13 classes (Couprie et al., ICLR 2013), counted from 0."""

SUN37 = LabelSet("sun37", NYU40.names[:37], NYU40.colors[:37])
"""SUN RGB-D (Song et al., CVPR 2015): the first 37 of NYU's 40 classes."""

CITYSCAPES19 = LabelSet(
    "cityscapes19",
    (
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light"),
        *("traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car"),
        *("truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    (
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153)),
        *((153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152)),
        *((70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70)),
        *((0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ),
)
"""Cityscapes (Cordts et al., CVPR 2016), the 19 evaluated classes as training ids."""

LABEL_SETS = {s.name: s for s in (NYU40, NYU13, SUN37, CITYSCAPES19)}
"""The built-in sets by name."""


def generic_label_set(num_classes: int) -> LabelSet:
    """Return a label set with the names class_0, class_1, …"""
    names = tuple(f"class_{i}" for i in range(num_classes))
    return LabelSet(f"generic{num_classes}", names, bit_palette(num_classes))
