"""A scene as flat arrays of primitives, and the builder that collects them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.rooms.classes import CEILING, FLOOR, WALL
from sgnet_core.data.rooms.materials import Material, Palette

BOX, ELLIPSOID, FRUSTUM = 0, 1, 2

Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 on the floor, meters."""

Point = tuple[float, float, float]
"""x, y, z, meters; also used for sizes."""

SIGNS = tuple(itertools.product((-1.0, 1.0), repeat=2))
"""Signs of the four corners of a square, for legs."""


@dataclass(frozen=True)
class Scene:
    """P primitives in world coordinates: meters, z up, the room is [0, size].

    ``rotation[i].T @ (x - center[i]) / half[i]`` maps a point x to the coordinates of the unit
    shape of primitive i. Unit shapes are the cube [-1, 1]^3, the unit sphere, and the frustum with
    radius 1 at z = -1 and ``taper`` at z = 1. ``shell`` gives the materials of the six faces of the
    room: x=0, x=W, y=0, y=L, floor, ceiling.
    """

    size: NDArray[np.float64]  # (3,)
    kind: NDArray[np.int64]  # (P,)
    center: NDArray[np.float64]  # (P, 3)
    rotation: NDArray[np.float64]  # (P, 3, 3) columns are the local axes
    half: NDArray[np.float64]  # (P, 3)
    taper: NDArray[np.float64]  # (P,)
    label: NDArray[np.int64]  # (P,)
    material: NDArray[np.int64]  # (P,)
    materials: list[Material]
    shell: tuple[int, int, int, int, int, int]
    lights: NDArray[np.float64]  # (L, 6) position, RGB intensity
    obstacles: list[tuple[Rect, float]]  # footprint, height
    targets: NDArray[np.float64]  # (T, 3) points at which cameras look

    @property
    def labels(self) -> NDArray[np.int64]:
        """(P + 6,) classes of the primitives and of the faces of the room."""
        return np.concatenate([self.label, [WALL] * 4 + [FLOOR, CEILING]])


@dataclass
class Surface:
    """A horizontal rectangle for small objects: center, size, yaw, free height, relative number."""

    x: float
    y: float
    z: float
    width: float
    depth: float
    yaw: float
    clearance: float
    fill: float


@dataclass
class Builder:
    """Collects the primitives of a room; positions are in the frame set by `frame`."""

    rng: np.random.Generator
    size: Point
    palette: Palette
    materials: list[Material] = field(default_factory=list)
    rows: list[tuple[float, ...]] = field(default_factory=list)
    obstacles: list[tuple[Rect, float]] = field(default_factory=list)
    wall_spans: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)
    targets: list[Point] = field(default_factory=list)
    lights: list[tuple[float, ...]] = field(default_factory=list)
    _frame: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def material(self, material: Material) -> int:
        """Add a material; return its index."""
        self.materials.append(material)
        return len(self.materials) - 1

    @contextmanager
    def frame(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Iterator[None]:
        """Within the block, use a frame at a position in the current one, turned by yaw radians."""
        saved = self._frame
        wx, wy, wz = self.world(x, y, z)
        self._frame = (wx, wy, wz, saved[3] + yaw)
        try:
            yield
        finally:
            self._frame = saved

    def world(self, x: float, y: float, z: float) -> Point:
        """Return the world coordinates of a point in the current frame."""
        fx, fy, fz, yaw = self._frame
        c, s = math.cos(yaw), math.sin(yaw)
        return fx + c * x - s * y, fy + s * x + c * y, fz + z

    def box(
        self, at: Point, size: Point, material: int, label: int, *, yaw: float = 0, pitch: float = 0
    ) -> None:
        """Add a box by center and size; its rotation is Rz(yaw) Rx(pitch)."""
        self._add(BOX, at, size, material, label, yaw, pitch)

    def ellipsoid(
        self, at: Point, size: Point, material: int, label: int, *, yaw: float = 0, pitch: float = 0
    ) -> None:
        """Add an ellipsoid by center and size; its rotation is Rz(yaw) Rx(pitch)."""
        self._add(ELLIPSOID, at, size, material, label, yaw, pitch)

    def cylinder(
        self,
        at: Point,
        diameter: float,
        height: float,
        material: int,
        label: int,
        *,
        taper: float = 1.0,
        pitch: float = 0.0,
    ) -> None:
        """Add a cylinder or frustum by center; ``taper`` is top diameter / bottom diameter."""
        if taper > 1:  # the unit frustum narrows upwards, so turn it over
            diameter, taper, pitch = diameter * taper, 1 / taper, pitch + math.pi
        self._add(FRUSTUM, at, (diameter, diameter, height), material, label, 0, pitch, taper)

    def _add(
        self,
        kind: int,
        at: Point,
        size: Point,
        material: int,
        label: int,
        yaw: float,
        pitch: float,
        taper: float = 1.0,
    ) -> None:
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        turn = (self._frame[3] + yaw, pitch)
        self.rows.append((kind, *self.world(*at), *half, *turn, taper, label, material))

    def surface(self, at: Point, width: float, depth: float, clearance: float, fill: float) -> None:
        """Add a surface for small objects, centered in the current frame."""
        x, y, z = self.world(*at)
        self.surfaces.append(Surface(x, y, z, width, depth, self._frame[3], clearance, fill))

    def target(self, x: float, y: float, z: float) -> None:
        """Add a point of the current frame at which cameras look."""
        self.targets.append(self.world(x, y, z))

    def scene(self, shell: tuple[int, int, int, int, int, int]) -> Scene:
        """Return the scene."""
        middle = (self.size[0] / 2, self.size[1] / 2, 0.5)
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 12)
        return Scene(
            size=np.array(self.size),
            kind=table[:, 0].astype(np.int64),
            center=table[:, 1:4],
            rotation=_rotations(table[:, 7], table[:, 8]),
            half=table[:, 4:7],
            taper=table[:, 9],
            label=table[:, 10].astype(np.int64),
            material=table[:, 11].astype(np.int64),
            materials=self.materials,
            shell=shell,
            lights=np.array(self.lights, dtype=np.float64).reshape(-1, 6),
            obstacles=self.obstacles,
            targets=np.array(self.targets or [middle], dtype=np.float64),
        )


def _rotations(yaw: NDArray[np.float64], pitch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (P, 3, 3) rotations Rz(yaw) Rx(pitch)."""
    cz, sz, cx, sx = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    rows = [[cz, -sz * cx, sz * sx], [sz, cz * cx, -cz * sx], [np.zeros_like(sx), sx, cx]]
    return np.stack([np.stack(row, -1) for row in rows], -2)
