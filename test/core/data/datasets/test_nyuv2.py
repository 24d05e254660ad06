"""NYUDv2 is HDF5 of MATLAB 7.3 with a 512-byte user block and reversed axes."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.nyuv2 import CAMERA, NyuFile
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import NYU13, NYU40, LabelSet
from sgnet_core.prepare import main

h5py = pytest.importorskip("h5py", reason="the official files are read by h5py and SciPy")
savemat = pytest.importorskip("scipy.io").savemat

SIZE = (1, 1)  # of rooms; means nothing to frames in files
H, W = 6, 8

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


def error_of(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert main([str(a) for a in args]) == 2
    return capsys.readouterr().err


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
    assert str(mat) in message and "has 5 frames" in message and "number 6" in message
    message = error_of(capsys, "nyuv2", mat, "--mapping", nyu / "splits.mat", "--out", out)
    assert "splits.mat has no variable mapClass" in message
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
        (b"\n" * 200 + b"<!DOCTYPE html><html>sign in", "is not a MATLAB file but a web page"),
        (b"PK\x03\x04zip", "is not a MATLAB file but a compressed archive: unpack"),
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
            r"chunks of \(16777216, 1, 1\): a frame needs 3221225472",
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
