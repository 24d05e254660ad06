"""Cityscapes is PNGs and camera files by split and city."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.cityscapes import Cityscapes
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import CITYSCAPES19
from sgnet_core.prepare import main
from write_files import add_macos_files, save

SIZE = (1, 1)  # of rooms; means nothing to frames in files
H, W = 6, 8

FOCAL, BASELINE = 2262.52, 0.209313


def cityscapes_frame(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    disparity = rng.integers(2000, 30000, (H, W)).astype(np.uint16)
    disparity[0, :4] = (0, 1, 2, 257)  # unknown, nought, 1/256 and 1 pixel
    ids = rng.integers(0, 34, (H, W)).astype(np.uint8)
    return rng.integers(0, 256, (H, W, 3), np.uint8), disparity, ids


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    root = tmp_path / "official"
    for seed, (split, city) in enumerate((("train", "aachen"), ("train", "bonn"), ("val", "ulm"))):
        rgb, disparity, ids = cityscapes_frame(seed)
        name = f"{split}/{city}/{city}_000000_00001{seed}"
        save(root / "leftImg8bit" / f"{name}_leftImg8bit.png", rgb)
        save(root / "disparity" / f"{name}_disparity.png", disparity)
        save(root / "gtFine" / f"{name}_gtFine_labelIds.png", ids)
        camera = root / "camera" / f"{name}_camera.json"
        camera.parent.mkdir(parents=True)
        optics = {"fx": FOCAL, "fy": 2265.3, "u0": 1096.98 + seed, "v0": 513.137}
        camera.write_text(
            json.dumps({"extrinsic": {"baseline": BASELINE, "pitch": 0.04}, "intrinsic": optics})
        )
    return root


@pytest.mark.parametrize("prepared", [False, True], ids=["tree", "prepared"])
def test_cityscapes(cityscapes: Path, tmp_path: Path, prepared: bool) -> None:
    source = cityscapes
    add_macos_files(source)
    if prepared:
        source = tmp_path / "plain"
        assert main(["cityscapes", str(cityscapes), "--out", str(source)]) == 0
        assert main(["check", str(source)]) == 0
    train, classes = open_dataset(f"{source}:train", SIZE)
    val, _ = open_dataset(f"{source}:val", SIZE)
    assert classes is CITYSCAPES19 and (len(train), len(val)) == (2, 1)
    for sample, seed in ((train[0], 0), (train[1], 1), (val[0], 2)):
        rgb, disparity, ids = cityscapes_frame(seed)
        np.testing.assert_array_equal(sample.rgb, rgb)
        pixels = (np.maximum(disparity.astype(float), 2) - 1) / 256
        expected = FOCAL * BASELINE / pixels
        expected[0, :4] = 0
        np.testing.assert_allclose(sample.depth, expected, atol=0.0026 if prepared else 1e-4)
        for name, label_id in (("road", 7), ("sky", 23), ("person", 24), ("bicycle", 33)):
            np.testing.assert_array_equal(
                sample.labels == CITYSCAPES19.names.index(name), ids == label_id
            )
        assert (sample.labels[np.isin(ids, (0, 6, 9, 14, 18, 29, 30))] == 255).all()
        assert (sample.labels != 255).sum() == np.isin(
            ids, (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
        ).sum()
        expected_camera = Intrinsics(FOCAL, 2265.3, 1096.98 + seed, 513.137, W, H)
        assert sample.intrinsics == expected_camera


def test_cityscapes_in_disorder_is_named(cityscapes: Path) -> None:
    camera = next((cityscapes / "camera" / "train" / "bonn").iterdir())
    camera.write_text('{"intrinsic": {"fx": 1}}')
    with pytest.raises(DatasetError, match=r"bonn_000000_000011_camera.json"):
        open_dataset(f"{cityscapes}:train", SIZE)[0][1]
    camera.unlink()
    with pytest.raises(DatasetError, match=r"bonn_000000_000011_camera.json does not exist"):
        open_dataset(f"{cityscapes}:train", SIZE)
    with pytest.raises(DatasetError, match="no split 'test'; there is: train, val"):
        open_dataset(f"{cityscapes}:test", SIZE)
    with pytest.raises(DatasetError, match="camera/leftImg8bit does not exist: unpack"):
        Cityscapes(cityscapes / "camera")
