"""Files that announce or hold too much are refused, with the limit, in bounded time and memory."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgnet_core.data import images
from sgnet_core.data.datasets import matlab_checks
from sgnet_core.data.datasets.folder import read_camera, read_classes
from sgnet_core.data.datasets.frame_files import DatasetError, read_lines
from sgnet_core.data.datasets.matlab import read_array, read_mat
from sgnet_core.data.datasets.sunrgbd import read_matrix
from sgnet_core.data.images import ImageFileError, read_depth, read_labels, read_rgb, write_png
from sgnet_core.data.jpeg import count_scans
from write_files import jpeg_of_scans, png_of


def empty_png(width: int, height: int, path: Path) -> Path:
    """A PNG that announces that size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(png_of([(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]))
    return path


def array_of(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """A .npy file that announces that shape and has no numbers."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60000, 60000), (9000, 9000)])
def test_an_image_that_announces_too_many_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    path = empty_png(*size, tmp_path / "large.png")
    for read in (read_rgb, read_labels):
        with pytest.raises(
            ImageFileError, match=r"large\.png.*(at most 67108864|limit of \d+) pixels"
        ):
            read(path)


def test_the_limit_of_pixels_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 5), np.uint8))
    monkeypatch.setattr(images, "MAX_PIXELS", 19)
    with pytest.raises(ImageFileError, match="5x4; at most 19 pixels"):
        read_labels(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 20)
    assert read_labels(tmp_path / "a.png").shape == (4, 5)


def test_a_jpeg_of_too_many_scans(tmp_path: Path) -> None:
    pixels = np.full((40, 30), 77, np.uint8)
    usual = count_scans(jpeg_of_scans(pixels, 0))
    assert 3 <= usual <= 20
    assert count_scans(jpeg_of_scans(pixels, 7)) == usual + 7
    (tmp_path / "most.jpg").write_bytes(jpeg_of_scans(pixels, 100 - usual))
    assert (read_rgb(tmp_path / "most.jpg") == 77).all()
    (tmp_path / "many.jpg").write_bytes(jpeg_of_scans(pixels, 101 - usual))
    with pytest.raises(ImageFileError, match=r"many\.jpg is a JPEG with more than 100 scans"):
        read_rgb(tmp_path / "many.jpg")
    # A picture in the metadata does not count.
    with Image.open(io.BytesIO(jpeg_of_scans(pixels, 0))) as image:
        thumbnail = b"\xff\xda" * 10_000
        image.save(tmp_path / "thumbnail.jpg", exif=b"Exif\0\0" + thumbnail)
    assert (read_rgb(tmp_path / "thumbnail.jpg") == 77).all()


def test_an_array_that_announces_too_many_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(array_of((60000, 60000)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", array_of((1 << 40, 2)))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ImageFileError, match=rf"{name} holds \d+ numbers; at most 67108864"):
            read_depth(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array_of((1, 1), "|V2000000000"), "holds .*V2000000000.* instead of numbers"),
        (array_of((1, 1), "<U500000000"), "holds <U500000000 instead of numbers"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4294967295 bytes; at most 10000"),
    ],
)
def test_an_array_of_a_few_huge_items(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", content)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ImageFileError, match=rf"{name} (has a )?{words}"):
            read_depth(tmp_path / name)


def test_a_file_of_a_format_that_is_not_read_is_never_given_to_its_decoder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ImageFileError, match=r"a\.png cannot be read as an image"):
        read_rgb(tmp_path / "a.png")


def matlab_file(**variables: object) -> bytes:
    buffer = io.BytesIO()
    pytest.importorskip("scipy.io").savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


def test_a_matlab_file_that_claims_or_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(matlab_file(a=np.zeros((1000, 2000), np.uint8), b="x"))
    assert read_mat(path)["a"].shape == (1000, 2000)
    monkeypatch.setattr(matlab_checks, "MAX_MAT_BYTES", 1_000_000)
    with pytest.raises(DatasetError, match=r"a\.mat: it unpacks to more than 1000000 bytes"):
        read_mat(path)
    whole = matlab_file(c=np.array([1, 2], object))
    (size,) = struct.unpack_from("<I", whole, 132)
    inside = bytearray(zlib.decompress(whole[136 : 136 + size]))
    at = inside.index(struct.pack("<ii", 1, 2))
    inside[at : at + 8] = struct.pack("<ii", 50_000, 40_000)
    path.write_bytes(whole[:128] + inside)
    with pytest.raises(DatasetError, match="an array claims 2000000000 elements, but has"):
        read_mat(path)
    nested: object = 1
    for _ in range(60):
        nested = np.array([nested, 0], object)
    path.write_bytes(matlab_file(c=nested))
    with pytest.raises(DatasetError, match="nested more than 50 deep"):
        read_mat(path)


def test_a_matlab_file_of_v7_3_that_claims_too_much(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("trainNdxs", (1 << 20, 1 << 20), np.float64, chunks=(1, 1024))
    with pytest.raises(
        DatasetError, match=r"trainNdxs has 8796093022208 bytes; at most 1073741824"
    ):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("side", [8, 2048])
def test_a_matlab_file_of_v7_3_that_unpacks_to_too_much(tmp_path: Path, side: int) -> None:
    h5py = pytest.importorskip("h5py")
    noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        array = file.create_dataset("a", data=noise, chunks=(side, side), compression="gzip")
        assert np.array_equal(read_array(array), noise)
        packed = zlib.compress(noise.tobytes()[: noise.size // 2] + bytes(1 << 25))
        array.id.write_direct_chunk((0, 0), packed)
    with pytest.raises(DatasetError, match=rf"a\.mat: /a: a chunk of {side * side} bytes unpacks"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"chunks": (1 << 14, 1 << 13)}, "a has chunks of 134217728 bytes; at most 67108864"),
        ({"chunks": (4, 4), "compression": "lzf"}, "a is compressed by filter 32000; only"),
        ({"external": "other.bin"}, "a is stored in other files, which are not read"),
    ],
)
def test_a_matlab_file_of_v7_3_that_is_stored_oddly(
    tmp_path: Path, options: dict[str, object], problem: str
) -> None:
    h5py = pytest.importorskip("h5py")
    maximum = (None, None) if "chunks" in options else None
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("a", (8, 8), np.uint8, maxshape=maximum, **options)
    with pytest.raises(DatasetError, match=rf"a\.mat: /{problem}"):
        read_mat(tmp_path / "a.mat")


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{}]], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", depth=np.array([[{}]], object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ImageFileError, match="holds Python objects, which are not loaded"):
            read_depth(tmp_path / name)


def test_a_device_is_no_file(tmp_path: Path) -> None:
    for name in ("a.png", "a.npy", "classes.json", "train.txt", "K.txt", "a.mat"):
        (tmp_path / name).symlink_to("/dev/zero")
    for read, name in ((read_labels, "a.png"), (read_rgb, "a.png"), (read_depth, "a.npy")):
        with pytest.raises(ImageFileError, match=f"{name}.*not a regular file"):
            read(tmp_path / name)
    with pytest.raises(DatasetError, match=r"classes\.json.*not a regular file"):
        read_classes(tmp_path / "classes.json")
    with pytest.raises(DatasetError, match=r"train\.txt.*not a regular file"):
        read_lines(tmp_path / "train.txt")
    with pytest.raises(DatasetError, match=r"K\.txt.*not a regular file"):
        read_matrix(tmp_path / "K.txt", 4, 3)
    with pytest.raises(DatasetError, match=r"a\.mat.*not a regular file"):
        read_mat(tmp_path / "a.mat")


def test_json_that_is_nested_too_deeply_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "camera.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(DatasetError, match=r"camera\.json: its values are nested too deeply"):
        read_camera(path)
    monkeypatch.setattr("sgnet_core.data.datasets.frame_files.MAX_JSON_BYTES", 1000)
    with pytest.raises(DatasetError, match="it has 200000 bytes; at most 1000 are read"):
        read_camera(path)


@pytest.mark.parametrize("names", [["a"] * 1_000_000, [], "abc", {"a": 1}])
def test_a_list_of_classes_has_1_to_255_names(tmp_path: Path, names: object) -> None:
    (tmp_path / "classes.json").write_text(json.dumps({"names": names}))
    with pytest.raises(DatasetError, match=r"classes\.json: names must be a list of 1 to 255"):
        read_classes(tmp_path / "classes.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-8"])
def test_text_of_windows_editors_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "classes.json").write_text('{"names": ["sofá", "b"]}', encoding=encoding)
    assert read_classes(tmp_path / "classes.json").label_set.names == ("sofá", "b")
    (tmp_path / "train.txt").write_text("# frames\r\n0001\r\n\r\n0002\r\n", encoding=encoding)
    assert read_lines(tmp_path / "train.txt") == ["0001", "0002"]
    (tmp_path / "K.txt").write_text("50 0 2\r\n0 51 1\r\n0 0 1\r\n", encoding=encoding)
    assert read_matrix(tmp_path / "K.txt", 4, 3).fy == 51
