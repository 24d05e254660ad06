"""Point clouds: the points are those of the pinhole camera, the file is what its header says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.ply import write_ply
from sgnet_core.geometry.intrinsics import Intrinsics

CAMERA = Intrinsics(50, 60, 3.5, 1.25, 6, 4)
RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (4, 6, 3), np.uint8)
LABELS = RNG.integers(0, 3, (4, 6)).astype(np.uint8)


def read_ply(path: Path) -> tuple[np.ndarray, list[str]]:
    """The vertices as the header describes them, and the comments."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [line.split()[1:] for line in lines if line.startswith("property")]
    [count] = [int(line.split()[2]) for line in lines if line.startswith("element vertex")]
    vertices = np.frombuffer(body, [(name, kinds[kind]) for kind, name in fields])
    assert len(vertices) == count
    return vertices, [line.partition(" ")[2] for line in lines if line.startswith("comment")]


def test_points_colors_and_labels_of_the_measured_pixels(tmp_path: Path) -> None:
    depth = RNG.uniform(0.5, 5, (4, 6)).astype(np.float32)
    depth[0, :4] = (0, np.nan, -1, np.inf)
    count = write_ply(tmp_path / "p.ply", depth, CAMERA, COLORS, LABELS, ("wall", "my\ntable"))
    vertices, comments = read_ply(tmp_path / "p.ply")
    assert count == len(vertices) == 20
    expected = []
    for v in range(4):
        for u in range(6):
            if v == 0 and u < 4:
                continue
            z = float(depth[v, u])
            point = ((u - 3.5) * z / 50, (v - 1.25) * z / 60, z)
            expected.append((*point, *COLORS[v, u].tolist(), int(LABELS[v, u])))
    names = ("x", "y", "z", "red", "green", "blue", "label")
    assert vertices.dtype.names == names
    for index, name in enumerate(names):
        np.testing.assert_allclose(vertices[name], [row[index] for row in expected], rtol=1e-6)
    assert "meters in the optical frame: x right, y down, z forward" in comments
    assert comments[1:] == ["label 0 is wall", "label 1 is my table"]


def test_a_frame_without_depth_gives_an_empty_cloud(tmp_path: Path) -> None:
    assert write_ply(tmp_path / "p.ply", np.zeros((4, 6)), CAMERA, COLORS, LABELS) == 0
    assert len(read_ply(tmp_path / "p.ply")[0]) == 0


def test_sizes_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"intrinsics \(4, 6\), depth \(4, 5\)"):
        write_ply(tmp_path / "p.ply", np.ones((4, 5)), CAMERA, COLORS, LABELS)
    assert not (tmp_path / "p.ply").exists()
