"""SUN RGB-D is a tree of scenes with MATLAB files of both kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.sunrgbd import read_rotated_depth
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import SUN37
from sgnet_core.prepare import main
from write_files import save

h5py = pytest.importorskip("h5py", reason="the official files are read by h5py and SciPy")
savemat = pytest.importorskip("scipy.io").savemat

SIZE = (1, 1)  # of rooms; means nothing to frames in files
H, W = 6, 8

SCENES = {
    "train": ["kv1/b3dodata/img_0063", "realsense/lg/2014_10_21-18_15_48-1311000073"],
    "test": ["xtion/sun3ddata/mit_76_459/76-459b/0000103-000003416667"],
}


def sun_frame(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    millimeters = rng.integers(400, 8000, (H, W)).astype(np.uint16)
    millimeters[0, 0] = 0
    ids = rng.integers(0, 38, (H, W)).astype(np.uint8)
    return rng.integers(0, 256, (H, W, 3), np.uint8), millimeters, ids


@pytest.fixture
def sun(tmp_path: Path) -> Path:
    root = tmp_path / "official"
    toolbox = root / "SUNRGBDtoolbox"
    (toolbox / "Metadata").mkdir(parents=True)
    (toolbox / "traintestSUNRGBD").mkdir()
    scenes = [*SCENES["train"], *SCENES["test"]]
    for seed, scene in enumerate(scenes):
        rgb, millimeters, _ = sun_frame(seed)
        folder = root / "SUNRGBD" / scene
        save(folder / "image" / f"{seed:07d}.jpg", rgb)
        rotated = (millimeters << 3 | millimeters >> 13).astype(np.uint16)
        save(folder / "depth_bfx" / f"{seed:07d}.png", rotated)
        save(folder / "depth" / f"{seed:07d}.png", np.where(rotated % 3, rotated, 0))
        lines = f"7{seed}.5 0 3.25 \n0 7{seed}.75 2.5 \n0 0 1 \n"
        (folder / "intrinsics.txt").write_text(lines if seed else lines.replace("\n", ""))
        names = np.array(["floor_mat", "my_robot", "fridge"], dtype=object)[None]
        segments = np.arange(H * W).reshape(H, W) % 4
        savemat(folder / "seg.mat", {"seglabel": segments.astype(np.uint8), "names": names})
    # As in the official files, where those of some sensors end in a slash: then, in the other
    # file, two slashes follow each other.
    away = "/n/fs/sun3d/data/SUNRGBD/"
    named = {scene: away + scene + "/" * (not scene.startswith("kv1")) for scene in scenes}
    cells = {
        f"all{split}": np.array([named[s] for s in paths], dtype=object)[None]
        for split, paths in SCENES.items()
    }
    savemat(toolbox / "traintestSUNRGBD" / "allsplit.mat", cells)
    order = scenes[::-1]
    meta = np.array(
        [[(f"{named[s]}/image/x.jpg", "x.jpg") for s in order]],
        dtype=[("rgbpath", object), ("rgbname", object)],
    )
    savemat(toolbox / "Metadata" / "SUNRGBDMeta.mat", {"SUNRGBDMeta": meta})
    with h5py.File(toolbox / "Metadata" / "SUNRGBD2Dseg.mat", "w", userblock_size=512) as file:
        seg = file.create_group("SUNRGBD2Dseg")
        refs = seg.create_dataset("seglabel", (len(order), 1), dtype=h5py.ref_dtype)
        for row, scene in enumerate(order):
            ids = sun_frame(scenes.index(scene))[2]
            data = file.create_dataset(f"#refs#/{row}", data=ids.T.astype(np.float64))
            refs[row, 0] = data.ref
    return root


def assert_sun(sample: Sample, seed: int) -> None:
    _, millimeters, ids = sun_frame(seed)
    np.testing.assert_allclose(sample.depth, millimeters / 1000, rtol=1e-6)
    np.testing.assert_array_equal(sample.labels, np.where(ids == 0, 255, ids - 1))
    assert sample.intrinsics == Intrinsics(70.5 + seed, 70.75 + seed, 2.25, 1.5, W, H)


def test_sun_rgbd_is_read_from_its_tree_and_prepared(sun: Path, tmp_path: Path) -> None:
    out = tmp_path / "sun"
    assert main(["sunrgbd", str(sun), "--out", str(out)]) == 0
    for source in (sun, out):
        train, classes = open_dataset(f"{source}:train", SIZE)
        test, _ = open_dataset(f"{source}:test", SIZE)
        assert classes is SUN37 and (len(train), len(test)) == (2, 1)
        for sample, seed in ((train[0], 0), (train[1], 1), (test[0], 2)):
            assert_sun(sample, seed)
    assert len(open_dataset(str(sun), SIZE)[0]) == 3
    copy = out / "rgb" / "kv1-b3dodata-img_0063.jpg"
    original = sun / "SUNRGBD" / SCENES["train"][0] / "image" / "0000000.jpg"
    assert copy.read_bytes() == original.read_bytes()
    # Two kinds of camera: the first is the folder's, the others have files of their own.
    assert json.loads((out / "camera.json").read_text())["fx"] == 70.5
    assert len(list((out / "cameras").iterdir())) == 2
    assert main(["check", str(out)]) == 0


def test_sun_rgbd_raw_depth_has_its_holes(sun: Path, tmp_path: Path) -> None:
    out = tmp_path / "sun"
    assert main(["sunrgbd", str(sun), "--raw-depth", "--out", str(out)]) == 0
    depth = open_dataset(f"{out}:train", SIZE)[0][0].depth
    millimeters = sun_frame(0)[1].astype(int)
    expected = np.where(millimeters * 8 % 3, millimeters / 1000, 0)
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_sun_rgbd_labels_from_seg_mat_by_name(sun: Path) -> None:
    (sun / "SUNRGBDtoolbox" / "Metadata" / "SUNRGBD2Dseg.mat").unlink()
    sample = open_dataset(f"{sun}:train", SIZE)[0][0]
    mat, fridge = SUN37.names.index("floor mat"), SUN37.names.index("refrigerator")
    expected = np.array([255, mat, 255, fridge])[np.arange(H * W).reshape(H, W) % 4]
    np.testing.assert_array_equal(sample.labels, expected)


def test_rotated_depth_ends_at_eight_meters(tmp_path: Path) -> None:
    save(tmp_path / "d.png", np.array([[8 * 1500, 1, 8 * 8100]], np.uint16))
    # The lowest bit is the 8.192 m that rotation moved there.
    np.testing.assert_allclose(read_rotated_depth(tmp_path / "d.png"), [[1.5, 8, 8]])


def test_sun_rgbd_in_disorder_is_named(sun: Path) -> None:
    scene = sun / "SUNRGBD" / SCENES["train"][0]
    good = (scene / "intrinsics.txt").read_text()
    (scene / "intrinsics.txt").write_text("1 2 3")
    with pytest.raises(DatasetError, match=r"img_0063/intrinsics.txt: 3 numbers"):
        open_dataset(f"{sun}:train", SIZE)[0][0]
    (scene / "intrinsics.txt").write_text(good)
    (scene / "depth_bfx" / "0000000.png").unlink()
    with pytest.raises(DatasetError, match=r"img_0063/depth_bfx must contain one image"):
        open_dataset(f"{sun}:train", SIZE)
    with pytest.raises(DatasetError, match="no split 'val'; there is: train, test"):
        open_dataset(f"{sun}:val", SIZE)
    meta = sun / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat"
    savemat(meta, {"alltrain": np.empty((1, 0), dtype=object)})
    with pytest.raises(DatasetError, match=r"allsplit.mat names no scene"):
        open_dataset(f"{sun}:train", SIZE)
