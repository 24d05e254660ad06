"""The list-file layouts of other projects, read as they are."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.nyuv2 import CAMERA as NYU_CAMERA
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import CITYSCAPES19, NYU13, NYU40, SUN37, LabelSet
from write_files import add_macos_files, save, write_json

SIZE = (1, 1)  # of rooms; means nothing to frames in files
H, W = 6, 8


def random_frame(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Color, millimeters, ids 0..classes of which 0 is unlabeled."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (H, W, 3), np.uint8)
    millimeters = rng.integers(500, 9000, (H, W)).astype(np.uint16)
    ids = rng.integers(0, classes + 1, (H, W)).astype(np.uint8)
    ids[0, :2] = (0, classes)
    return rgb, millimeters, ids


def counted_from_zero(ids: np.ndarray) -> np.ndarray:
    return np.where(ids == 0, 255, ids - 1)


def assert_values(sample: Sample, seed: int, classes: int) -> None:
    """Depth and labels of `random_frame`; color is not compared, since JPEG changes it."""
    _, millimeters, ids = random_frame(seed, classes)
    np.testing.assert_allclose(sample.depth, millimeters / 1000, rtol=1e-6)
    np.testing.assert_array_equal(sample.labels, counted_from_zero(ids))
    assert sample.rgb.shape == (H, W, 3) and sample.rgb.dtype == np.uint8


def sgnet_release(root: Path) -> Path:
    """dataset/list/nyud/*.txt, whose paths start at the root."""
    lists = root / "dataset" / "list" / "nyud"
    lists.mkdir(parents=True)
    for split, folder, seeds in (("train", "train", (3, 4)), ("test", "val", (1,))):
        lines = []
        for seed in seeds:
            rgb, millimeters, ids = random_frame(seed, 40)
            base = root / "dataset" / "NYUDatasets"
            save(base / "images" / folder / f"{seed}.jpg", rgb)
            save(base / "labels" / folder / f"{seed}.png", ids)
            save(base / "depths" / folder / f"{seed}.png", millimeters)
            kinds = (("images", "jpg"), ("labels", "png"), ("depths", "png"), ("HHAs", "png"))
            lines.append(
                " ".join(f"./dataset/NYUDatasets/{k}/{folder}/{seed}.{e}" for k, e in kinds)
            )
        (lists / f"{split}_nyud.txt").write_text("\n".join(lines))
    return lists


def test_lists_of_the_release(tmp_path: Path) -> None:
    lists = sgnet_release(tmp_path)
    samples, classes = open_dataset(str(lists / "train_nyud.txt"), SIZE)
    assert len(samples) == 2 and classes is NYU40
    for index, seed in enumerate((3, 4)):
        assert_values(samples[index], seed, 40)
    assert samples[0].intrinsics == NYU_CAMERA.resized(W, H)
    test, _ = open_dataset(f"{lists}:test", SIZE)
    assert len(test) == 1
    assert_values(test[0], 1, 40)
    assert len(open_dataset(str(lists), SIZE)[0]) == 3


def test_lists_of_the_release_in_disorder(tmp_path: Path) -> None:
    lists = sgnet_release(tmp_path)
    (tmp_path / "dataset/NYUDatasets/depths/train/4.png").unlink()
    with pytest.raises(DatasetError, match=r"train_nyud.txt names ./dataset.*depths/train/4.png"):
        open_dataset(str(lists / "train_nyud.txt"), SIZE)
    (lists / "test_nyud.txt").write_text("one two\n")
    with pytest.raises(DatasetError, match="'one two' is not `image label depth"):
        open_dataset(str(lists / "test_nyud.txt"), SIZE)


def esanet_nyu(root: Path, classes: int = 40) -> Path:
    for split, seeds in (("train", (3, 4)), ("test", (1,))):
        for seed in seeds:
            rgb, millimeters, ids = random_frame(seed, classes)
            save(root / split / "rgb" / f"{seed:04d}.png", rgb)
            save(root / split / "depth" / f"{seed:04d}.png", millimeters)
            save(root / split / f"labels_{classes}" / f"{seed:04d}.png", ids)
        (root / f"{split}.txt").write_text("".join(f"{seed:04d}\n" for seed in seeds))
    return root


@pytest.mark.parametrize(("classes", "label_set"), [(40, NYU40), (13, NYU13)])
def test_esanets_nyuv2(tmp_path: Path, classes: int, label_set: LabelSet) -> None:
    folder = esanet_nyu(tmp_path, classes)
    samples, found = open_dataset(f"{folder}:train", SIZE)
    assert len(samples) == 2 and found is label_set
    np.testing.assert_array_equal(samples[1].rgb, random_frame(4, classes)[0])
    assert_values(samples[1], 4, classes)
    assert samples[1].intrinsics == NYU_CAMERA.resized(W, H)
    assert_values(open_dataset(f"{folder}:test", SIZE)[0][0], 1, classes)
    (folder / "test" / "depth" / "0001.png").unlink()
    with pytest.raises(DatasetError, match=r"test/depth/0001.png does not exist"):
        open_dataset(f"{folder}:test", SIZE)


def rotated(millimeters: np.ndarray) -> np.ndarray:
    """Return 16-bit depth rotated left by three bits, as SUN RGB-D stores it."""
    return ((millimeters << 3) | (millimeters >> 13)).astype(np.uint16)


def test_esanets_sun_rgbd(tmp_path: Path) -> None:
    scene = "SUNRGBD/kv1/b3dodata/img_0063"
    rgb, millimeters, ids = random_frame(5, 37)
    millimeters = np.minimum(millimeters, 8000).astype(np.uint16)
    save(tmp_path / scene / "image" / "img_0063.jpg", rgb)
    save(tmp_path / scene / "depth_bfx" / "img_0063_abs.png", rotated(millimeters))
    save(tmp_path / scene / "label" / "label.npy", ids)
    (tmp_path / scene / "intrinsics.txt").write_text("7.1 0 3.2 0 7.3 2.6 0 0 1 ")
    (tmp_path / "train_rgb.txt").write_text(f"{scene}/image/img_0063.jpg")
    (tmp_path / "train_depth.txt").write_text(f"{scene}/depth_bfx/img_0063_abs.png")
    (tmp_path / "train_label.txt").write_text(f"{scene}/label/label.npy")
    samples, classes = open_dataset(f"{tmp_path}:train", SIZE)
    assert len(samples) == 1 and classes is SUN37
    np.testing.assert_allclose(samples[0].depth, millimeters / 1000, rtol=1e-6)
    np.testing.assert_array_equal(samples[0].labels, counted_from_zero(ids))
    assert samples[0].intrinsics == Intrinsics(7.1, 7.3, 3.2 - 1, 2.6 - 1, W, H)
    (tmp_path / "train_label.txt").write_text("a\nb\n")
    with pytest.raises(DatasetError, match=r"train_label.txt differ in length"):
        open_dataset(f"{tmp_path}:train", SIZE)


def test_esanets_cityscapes(tmp_path: Path) -> None:
    rgb, _, ids = random_frame(6, 19)
    meters = np.random.default_rng(0).uniform(2, 80, (H, W)).astype(np.float16)
    meters[0, :2] = (400, np.inf)
    name = "bonn/bonn_000000_000019"
    save(tmp_path / "valid" / "rgb" / f"{name}_leftImg8bit.png", rgb)
    save(tmp_path / "valid" / "depth_raw" / f"{name}_depth.npy", meters)
    save(tmp_path / "valid" / "labels_19" / f"{name}_gtFine_labelIds.png", ids)
    (tmp_path / "valid_rgb.txt").write_text(f"{name}_leftImg8bit.png\n")
    (tmp_path / "valid_depth_raw.txt").write_text(f"{name}_depth.npy\n")
    (tmp_path / "valid_labels_19.txt").write_text(f"{name}_gtFine_labelIds.png\n")
    add_macos_files(tmp_path)
    samples, classes = open_dataset(str(tmp_path), SIZE)
    assert classes is CITYSCAPES19 and len(samples) == 1
    sample = samples[0]
    expected = meters.astype(np.float32)
    expected[0, :2] = 0
    np.testing.assert_array_equal(sample.depth, expected)
    np.testing.assert_array_equal(sample.rgb, rgb)
    np.testing.assert_array_equal(sample.labels, counted_from_zero(ids))
    assert sample.intrinsics.fx == pytest.approx(2262.52 * W / 2048)


def dformer(root: Path, labels: str, classes: int) -> Path:
    """8-bit depth, as matplotlib writes it: RGBA."""
    for seed in (3, 4):
        rgb, millimeters, ids = random_frame(seed, classes)
        gray = (millimeters // 40).astype(np.uint8)
        save(root / "RGB" / f"{seed}.jpg", rgb)
        rgba = np.stack([gray, gray, gray, np.full_like(gray, 255)], axis=-1)
        save(root / "Depth" / f"{seed}.png", rgba)
        save(root / labels / f"{seed}.png", ids)
    (root / "train.txt").write_text("RGB/3.jpg\n")
    (root / "test.txt").write_text("RGB/4.jpg\n")
    return root


@pytest.mark.parametrize(
    ("labels", "classes", "label_set"), [("Label", 40, NYU40), ("labels", 37, SUN37)]
)
def test_dformers_folder(tmp_path: Path, labels: str, classes: int, label_set: LabelSet) -> None:
    name = {NYU40: "NYUDepthv2", SUN37: "SUNRGBD"}[label_set]
    folder = dformer(tmp_path / name, labels, classes)
    with pytest.warns(UserWarning, match="8-bit depth without a unit"):
        samples, found = open_dataset(f"{folder}:test", SIZE)
    assert len(samples) == 1 and found is label_set
    _, millimeters, ids = random_frame(4, classes)
    np.testing.assert_allclose(samples[0].depth, millimeters // 40 * (10 / 255), rtol=1e-5)
    np.testing.assert_array_equal(samples[0].labels, counted_from_zero(ids))


def test_dformers_folder_with_16_bit_depth_is_in_millimeters(tmp_path: Path) -> None:
    folder = dformer(tmp_path / "nyu", "Label", 40)
    for seed in (3, 4):
        save(folder / "Depth" / f"{seed}.png", random_frame(seed, 40)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples, _ = open_dataset(f"{folder}:train", SIZE)
    assert_values(samples[0], 3, 40)


def test_dformers_folder_of_another_set_needs_its_classes(tmp_path: Path) -> None:
    folder = dformer(tmp_path / "MFNet", "Label", 3)
    with pytest.raises(DatasetError, match=r"classes are unknown: write .*MFNet/classes\.json"):
        open_dataset(str(folder), SIZE)
    classes = {"names": ["car", "person", "bike"], "ids": [1, 2, 3], "ignore": [0]}
    write_json(folder / "classes.json", classes)
    with pytest.warns(UserWarning, match="8-bit"):
        samples, found = open_dataset(f"{folder}:test", SIZE)
    assert found.names == ("car", "person", "bike")
    np.testing.assert_array_equal(samples[0].labels, counted_from_zero(random_frame(4, 3)[2]))
