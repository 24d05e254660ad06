"""Labeled point clouds as PLY files (Turk, "The PLY Polygon File Format", 1994)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from sgnet_core.data.images import PathLike
from sgnet_core.files import atomic_write
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.points import point_map

VERTEX = np.dtype(
    [
        *((axis, "<f4") for axis in ("x", "y", "z")),
        *((name, "u1") for name in ("red", "green", "blue", "label")),
    ]
)
"""One point in the file: 16 bytes."""

_TYPES = {"<f4": "float", "|u1": "uchar"}


def write_ply(
    path: PathLike,
    depth: npt.NDArray[np.floating],
    intrinsics: Intrinsics,
    colors: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    names: Sequence[str] = (),
) -> int:
    """Write the measured pixels of a frame as a binary little-endian PLY; return their number.

    Every point has x, y, z in meters in the optical frame of the camera (REP 103: x right, y down,
    z forward), red, green, blue and label (uchar).

    Args:
        path: file to write; an existing file is replaced only by a complete new one.
        depth: (H, W) meters; pixels without a measurement give no point.
        intrinsics: camera of the depth image.
        colors: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 class ids.
        names: names of the classes, for comments in the header.

    Raises:
        ValueError: the arrays or the intrinsics differ in size.
        OSError: the file cannot be written.
    """
    size = (intrinsics.height, intrinsics.width)
    if not size == depth.shape == labels.shape == colors.shape[:2]:
        raise ValueError(
            f"sizes of the point cloud differ: intrinsics {size}, depth {depth.shape}, "
            f"colors {colors.shape[:2]}, labels {labels.shape}"
        )
    meters = torch.from_numpy(np.ascontiguousarray(depth, np.float32))[None, None]
    points = point_map(meters, intrinsics.parameters())[0].permute(1, 2, 0).numpy()
    measured = points[..., 2] > 0
    vertices = np.empty(int(measured.sum()), VERTEX)
    for index, axis in enumerate("xyz"):
        vertices[axis] = points[measured, index]
    for index, name in enumerate(("red", "green", "blue")):
        vertices[name] = colors[measured, index]
    vertices["label"] = labels[measured]
    with atomic_write(path) as file:
        file.write(_header(len(vertices), names).encode("ascii", "replace"))
        file.write(vertices.tobytes())
    return len(vertices)


def _header(count: int, names: Sequence[str]) -> str:
    lines = ["ply", "format binary_little_endian 1.0"]
    lines.append("comment meters in the optical frame: x right, y down, z forward")
    lines += [f"comment label {i} is {' '.join(name.split())}" for i, name in enumerate(names)]
    lines.append(f"element vertex {count}")
    for name in VERTEX.names or ():
        lines.append(f"property {_TYPES[VERTEX[name].str]} {name}")
    return "\n".join([*lines, "end_header\n"])
