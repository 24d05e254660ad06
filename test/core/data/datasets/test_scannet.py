"""ScanNet's exported frames, whose color and labels are larger than depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import NYU40
from write_files import add_macos_files, save

SIZE = (1, 1)  # of rooms
H, W = 6, 8


def write_scene(folder: Path, intrinsics: str = "intrinsics_depth.txt") -> None:
    """Frames 0, 20 and 100: color and labels in blocks of 2x2 pixels, twice the depth's size."""
    for number in (0, 20, 100):
        rng = np.random.default_rng(number)
        rgb = rng.integers(0, 256, (H, W, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        ids = rng.integers(0, 41, (H, W)).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        save(folder / "color" / f"{number}.png", rgb)
        save(folder / "label" / f"{number}.png", ids)
        save(folder / "depth" / f"{number}.png", rng.integers(0, 5000, (H, W)).astype(np.uint16))
    (folder / "pose").mkdir()
    matrix = "577.5 0 3.5 0\n0 578.5 2.5 0\n0 0 1 0\n0 0 0 1\n"
    (folder / intrinsics).parent.mkdir(exist_ok=True)
    (folder / intrinsics).write_text(matrix)


def test_color_and_labels_are_brought_to_the_size_of_depth(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene0000_00", "intrinsic/intrinsic_depth.txt")
    samples, classes = open_dataset(str(tmp_path / "scene0000_00"), SIZE)
    assert classes is NYU40 and len(samples) == 3
    assert samples.names == ["0", "20", "100"]  # type: ignore[attr-defined]
    rng = np.random.default_rng(20)
    rgb = rng.integers(0, 256, (H, W, 3), np.uint8)
    ids = rng.integers(0, 41, (H, W))
    sample = samples[1]
    np.testing.assert_array_equal(sample.rgb, rgb)
    np.testing.assert_array_equal(sample.labels, np.where(ids == 0, 255, ids - 1))
    depth = rng.integers(0, 5000, (H, W)).astype(np.float32) / 1000
    np.testing.assert_allclose(sample.depth, depth, rtol=1e-6)
    assert sample.intrinsics == Intrinsics(577.5, 578.5, 3.5, 2.5, W, H)


def test_a_split_lists_scenes(tmp_path: Path) -> None:
    for name in ("scene0000_00", "scene0001_00"):
        write_scene(tmp_path / name)
    (tmp_path / "scannetv2_val.txt").write_text("scene0001_00\n")
    add_macos_files(tmp_path)
    samples, _ = open_dataset(f"{tmp_path}:val", SIZE)
    assert samples.names[0] == "scene0001_00-0" and len(samples) == 3  # type: ignore[attr-defined]
    assert len(open_dataset(str(tmp_path), SIZE)[0]) == 6
    (tmp_path / "train.txt").write_text("scene0009_00\n")
    with pytest.raises(DatasetError, match=r"train\.txt names scene0009_00"):
        open_dataset(f"{tmp_path}:train", SIZE)
    (tmp_path / "scene0000_00" / "intrinsics_depth.txt").unlink()
    with pytest.raises(DatasetError, match="scene0000_00 holds no intrinsics"):
        open_dataset(str(tmp_path), SIZE)
