"""The official archives, written here in their true formats, become plain folders."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.cityscapes import Cityscapes
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.nyuv2 import CAMERA, NyuFile
from sgnet_core.data.datasets.sunrgbd import read_rotated_depth
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import CITYSCAPES19, NYU13, NYU40, SUN37, LabelSet
from sgnet_core.prepare import main
from write_files import add_macos_files, save

h5py = pytest.importorskip("h5py", reason="the official files are read by h5py and SciPy")
savemat = pytest.importorskip("scipy.io").savemat

SIZE = (1, 1)  # of rooms; means nothing to frames in files
H, W = 6, 8


def error_of(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert main([str(a) for a in args]) == 2
    return capsys.readouterr().err


# NYUDv2: HDF5 of MATLAB 7.3 with a 512-byte user block, axes reversed.

MAP40 = np.random.default_rng(40).integers(1, 41, 894).astype(np.uint8)
MAP13 = np.random.default_rng(13).integers(1, 14, 40).astype(np.uint8)


def nyu_arrays(count: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    depths = rng.uniform(0.7, 9.9, (count, H, W)).astype(np.float32)
    raw = np.where(rng.random(depths.shape) < 0.3, 0, depths).astype(np.float32)
    labels = rng.integers(0, 895, (count, H, W)).astype(np.uint16)
    labels[:, 0, 0], labels[:, 0, 1] = 0, 894
    images = rng.integers(0, 256, (count, H, W, 3), np.uint8)
    return {"images": images, "depths": depths, "rawDepths": raw, "labels": labels}


@pytest.fixture
def nyu(tmp_path: Path) -> Path:
    folder = tmp_path / "official"
    folder.mkdir()
    path = folder / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in nyu_arrays().items():
            file[name] = array.transpose(0, *range(array.ndim - 1, 0, -1))
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    train, test = np.array([[3], [5], [1]], np.uint16), np.array([[2], [4]], np.uint16)
    savemat(folder / "splits.mat", {"trainNdxs": train, "testNdxs": test})
    names = np.array(NYU40.names, dtype=object)[None]
    savemat(folder / "classMapping40.mat", {"mapClass": MAP40[None], "className": names})
    struct = {"labels13": MAP13[None], "classNames": np.array(NYU13.names, dtype=object)[None]}
    savemat(folder / "class13Mapping.mat", {"classMapping13": struct})
    return folder


def nyu_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    result = np.full(labels.shape, 255, np.uint8)
    for index in np.argwhere(labels > 0):
        forty = MAP40[labels[tuple(index)] - 1]
        result[tuple(index)] = (forty if classes == 40 else MAP13[forty - 1]) - 1
    return result


@pytest.mark.parametrize(
    ("options", "classes", "depth"),
    [([], NYU40, "depths"), (["--raw-depth"], NYU40, "rawDepths"), (["13"], NYU13, "depths")],
    ids=["40", "raw", "13"],
)
def test_nyuv2_becomes_a_plain_folder(
    nyu: Path, tmp_path: Path, options: list[str], classes: LabelSet, depth: str
) -> None:
    out = tmp_path / "nyuv2"
    if options == ["13"]:
        options = ["--mapping13", str(nyu / "class13Mapping.mat")]
    assert main(["nyuv2", str(nyu), *options, "--out", str(out)]) == 0
    arrays = nyu_arrays()
    for split, numbers in (("train", (3, 5, 1)), ("test", (2, 4))):
        samples, found = open_dataset(f"{out}:{split}", SIZE)
        assert len(samples) == len(numbers) and found is classes
        for index, number in enumerate(numbers):
            sample, i = samples[index], number - 1
            np.testing.assert_array_equal(sample.rgb, arrays["images"][i])
            # Written in whole millimeters.
            np.testing.assert_allclose(sample.depth, arrays[depth][i], atol=0.00051)
            np.testing.assert_array_equal(sample.depth > 0, arrays[depth][i] > 0)
            expected = nyu_classes(arrays["labels"][i], len(classes))
            np.testing.assert_array_equal(sample.labels, expected)
            assert sample.intrinsics == CAMERA.resized(W, H)
    assert (out / "splits" / "train.txt").read_text() == "0003\n0005\n0001\n"
    assert main(["check", str(out)]) == 0


def test_nyuv2_in_full_size_has_the_cameras_own_numbers(tmp_path: Path) -> None:
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((1, 3, 640, 480), np.uint8)
        file["depths"] = np.ones((1, 640, 480), np.float32)
        file["labels"] = np.zeros((1, 640, 480), np.uint16)
    sample = NyuFile(path, np.array([1]), np.zeros(895, np.uint8))[0]
    # MATLAB counts pixels from 1.
    expected = Intrinsics(518.857901, 519.469611, 324.582449, 252.736166, 640, 480)
    assert sample.intrinsics == expected and sample.rgb.shape == (480, 640, 3)


def test_nyuv2_files_that_are_not_in_order_are_named(
    nyu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    mat = nyu / "nyu_depth_v2_labeled.mat"
    savemat(nyu / "other.mat", {"trainNdxs": np.array([[6]]), "testNdxs": np.array([[1]])})
    message = error_of(capsys, "nyuv2", mat, "--splits", nyu / "other.mat", "--out", out)
    assert str(mat) in message and "holds 5 frames" in message and "number 6" in message
    message = error_of(capsys, "nyuv2", mat, "--mapping", nyu / "splits.mat", "--out", out)
    assert "splits.mat holds no mapClass" in message
    savemat(nyu / "large.mat", {"mapClass": MAP40[None] + 1})
    message = error_of(capsys, "nyuv2", mat, "--mapping", nyu / "large.mat", "--out", out)
    assert "large.mat: classes must be numbers 1..40" in message
    message = error_of(capsys, "nyuv2", mat, "--splits", nyu / "none.mat", "--out", out)
    assert "none.mat does not exist" in message
    message = error_of(capsys, "nyuv2", tmp_path, "--out", out)
    assert f"{tmp_path}/nyu_depth_v2_labeled.mat does not exist" in message
    (nyu / "splits.mat").write_bytes(b"MATLAB 5.0 nothing more")
    assert "cannot read the MATLAB file" in error_of(capsys, "nyuv2", mat, "--out", out)
    assert not out.exists()


def test_splits_in_the_format_of_matlab_7_3_are_read(nyu: Path, tmp_path: Path) -> None:
    (nyu / "splits.mat").unlink()
    with h5py.File(nyu / "splits.mat", "w", userblock_size=512) as file:
        file["trainNdxs"], file["testNdxs"] = np.array([[3.0, 5, 1]]), np.array([[2.0, 4]])
    out = tmp_path / "out"
    assert main(["nyuv2", str(nyu), "--out", str(out)]) == 0
    assert (out / "splits" / "train.txt").read_text() == "0003\n0005\n0001\n"
    assert (out / "splits" / "test.txt").read_text() == "0002\n0004\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n" * 200 + b"<!DOCTYPE html><html>sign in", "is no MATLAB file but a web page"),
        (b"PK\x03\x04zip", "is no MATLAB file but a compressed archive: unpack"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat"])
def test_what_was_saved_in_place_of_a_matlab_file_is_named(
    nyu: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, words: str
) -> None:
    (nyu / name).write_bytes(content)
    message = error_of(capsys, "nyuv2", nyu, "--out", nyu / "out")
    assert name in message and words in message


@pytest.mark.parametrize("chunks", [(2, W, H), (5, W, H)])
def test_a_chunk_of_nyuv2_that_unpacks_to_too_much(nyu: Path, chunks: tuple[int, ...]) -> None:
    path, table = nyu / "nyu_depth_v2_labeled.mat", np.arange(895).astype(np.uint8) % 40
    with h5py.File(path, "r+") as file:
        depth = file["depths"][:]
        del file["depths"]
        packed = file.create_dataset("depths", data=depth, chunks=chunks, compression="gzip")
        bomb = zlib.compress(bytes(np.prod(chunks) * 4 + 10_000))
        packed.id.write_direct_chunk((4 // chunks[0] * chunks[0], 0, 0), bomb)
    frames = NyuFile(path, np.array([1, 5]), table)
    if chunks[0] == 2:
        np.testing.assert_array_equal(frames[0].depth, depth[0].T)
    with pytest.raises(DatasetError, match=r"labeled\.mat: /depths: a chunk of \d+ bytes unpacks"):
        frames[1]


@pytest.mark.parametrize(
    ("shape", "kind", "chunks", "problem"),
    [
        ((5, W, H), "u2", None, r"depths is uint16 of shape .*this is not nyu_depth"),
        ((5, H, W), "f4", None, r"depths is float32 of shape .*this is not nyu_depth"),
        ((5, W, H), "f4", (1 << 12, 1 << 7, 1 << 6), "/depths has chunks of 134217728 bytes; at m"),
        (
            (5, W, H),
            "f4",
            (1 << 24, 1, 1),
            r"chunks of \(16777216, 1, 1\): 3221225472 bytes are un",
        ),
    ],
)
def test_arrays_that_are_not_those_of_nyuv2_are_not_read(
    nyu: Path, shape: tuple[int, ...], kind: str, chunks: tuple[int, ...] | None, problem: str
) -> None:
    path, table = nyu / "nyu_depth_v2_labeled.mat", np.arange(895).astype(np.uint8) % 40
    maximum = (None,) * 3 if chunks else None
    with h5py.File(path, "r+") as file:
        del file["depths"]
        file.create_dataset("depths", shape, kind, chunks=chunks, maxshape=maximum)
    with pytest.raises(DatasetError, match=problem):
        NyuFile(path, np.array([1]), table)


def test_a_truncated_or_foreign_nyuv2_file_is_named(nyu: Path) -> None:
    path, table = nyu / "nyu_depth_v2_labeled.mat", np.arange(895).astype(np.uint8) % 40
    with h5py.File(path, "r+") as file:
        del file["depths"]
        file["depths"] = np.zeros((5, W, H), np.uint8)
    with pytest.raises(DatasetError, match="depths is uint8 of shape"):
        NyuFile(path, np.array([1]), table)
    with h5py.File(path, "r+") as file:
        del file["depths"]
    with pytest.raises(DatasetError, match=r"nyu_depth_v2_labeled.mat.*depths"):
        NyuFile(path, np.array([1]), table)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DatasetError, match=r"nyu_depth_v2_labeled.mat.*download complete"):
        NyuFile(path, np.array([1]), table)


# SUN RGB-D: a tree of scenes, and MATLAB files of both kinds.

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
    with pytest.raises(DatasetError, match=r"img_0063/depth_bfx must hold one image"):
        open_dataset(f"{sun}:train", SIZE)
    with pytest.raises(DatasetError, match="no split 'val'; there is: train, test"):
        open_dataset(f"{sun}:val", SIZE)
    meta = sun / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat"
    savemat(meta, {"alltrain": np.empty((1, 0), dtype=object)})
    with pytest.raises(DatasetError, match=r"allsplit.mat names no scene"):
        open_dataset(f"{sun}:train", SIZE)


# Cityscapes: PNGs and camera files by split and city.

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
