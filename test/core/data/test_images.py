from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sgnet_core.data.images import (
    ImageFileError,
    overlay,
    read_depth,
    read_labels,
    read_rgb,
    write_png,
)
from sgnet_core.inference.image_names import IMAGE_SUFFIXES
from sgnet_core.models.labels import LabelSet
from write_files import png_of

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
MM = np.array([[0, 1, 999], [1000, 40_000, 65_535]], np.uint16)
TWO = LabelSet("two", ("a", "b"), ((200, 0, 100), (0, 255, 31)))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    write_png(tmp_path / "rgb.png", RGB)
    write_png(tmp_path / "depth.png", MM)
    write_png(tmp_path / "labels.png", RGB[..., 0])
    assert np.array_equal(read_rgb(tmp_path / "rgb.png"), RGB)
    assert np.array_equal(read_labels(tmp_path / "labels.png"), RGB[..., 0])
    depth = read_depth(tmp_path / "depth.png")
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 0.001, 0.999], [1, 40, 0]], rtol=1e-6)
    assert read_depth(tmp_path / "depth.png", 1e-4)[1, 1] == pytest.approx(4)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_written_view_needs_no_copy_by_the_caller(tmp_path: Path) -> None:
    write_png(tmp_path / "flipped.png", RGB[::-1, ::-1])
    assert np.array_equal(read_rgb(tmp_path / "flipped.png"), RGB[::-1, ::-1])


def test_gray_and_palette_pictures_become_rgb(tmp_path: Path) -> None:
    write_png(tmp_path / "gray.png", RGB[..., 0])
    assert np.array_equal(read_rgb(tmp_path / "gray.png"), np.repeat(RGB[..., :1], 3, axis=2))
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    indexed.putpalette([9, 8, 7, 1, 2, 3])
    indexed.save(tmp_path / "indexed.png")
    assert read_rgb(tmp_path / "indexed.png").tolist() == [[[9, 8, 7], [1, 2, 3]]]
    assert read_labels(tmp_path / "indexed.png").tolist() == [[0, 1]]


def test_depth_arrays_in_meters_and_in_units(tmp_path: Path) -> None:
    meters = np.array([[0.5, np.nan, np.inf]])
    np.save(tmp_path / "m.npy", meters)
    np.savez(tmp_path / "m.npz", other=np.zeros(3), depth=meters)
    np.savez(tmp_path / "one.npz", meters)
    np.save(tmp_path / "mm.npy", MM)
    for name in ("m.npy", "m.npz", "one.npz"):
        depth = read_depth(tmp_path / name)
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth, meters)
    assert read_depth(tmp_path / "mm.npy")[1, 0] == 1


def test_16_bit_label_images_are_read(tmp_path: Path) -> None:
    write_png(tmp_path / "l.png", np.array([[0, 255]], np.uint16))
    assert read_labels(tmp_path / "l.png").tolist() == [[0, 255]]


def test_unusable_files_are_named(tmp_path: Path) -> None:
    write_png(tmp_path / "rgb.png", RGB)
    write_png(tmp_path / "mm.png", MM)
    whole = (tmp_path / "rgb.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "text.npy").write_text("hello")
    np.savez(tmp_path / "two.npz", a=MM, b=MM)
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(5))
    wrong = [
        (read_rgb, "no.png", "does not exist"),
        (read_rgb, "cut.png", "cannot be read"),
        (read_rgb, "text.npy", "cannot be read"),
        (read_rgb, "mm.png", "is it the depth image"),
        (read_depth, "rgb.png", "is it the color image"),
        (read_depth, "no.npy", "does not exist"),
        (read_depth, "text.npy", "cannot be read"),
        (read_depth, "two.npz", "holds the arrays a, b"),
        (read_depth, "objects.npy", "holds Python objects"),
        (read_depth, "flat.npy", r"shape \(5,\)"),
        (read_labels, "rgb.png", "labels must be ids"),
        (read_labels, "mm.png", "labels must be ids"),
    ]
    for read, name, words in wrong:
        with pytest.raises(ImageFileError, match=rf"{name}.*{words}"):
            read(tmp_path / name)


def test_only_images_are_written(tmp_path: Path) -> None:
    for image in (RGB.astype(np.float32), RGB[..., :2], MM[0], np.zeros((2, 2), np.int64)):
        with pytest.raises(ValueError, match=r"as a PNG"):
            write_png(tmp_path / "x.png", image)
    assert list(tmp_path.iterdir()) == []


def test_overlay_blends_rounds_and_leaves_ignored_pixels() -> None:
    rgb = np.array([[[10, 20, 30], [255, 255, 255], [7, 8, 9]]], np.uint8)
    labels = np.array([[0, 1, 255]], np.uint8)
    # In steps of 1/255, 0.4 is exactly 102: 10·0.6 + 200·0.4 = 86, …, 255·0.6 + 31·0.4 = 165.4
    assert overlay(rgb, labels, TWO, 0.4).tolist() == [[[86, 12, 58], [153, 255, 165], [7, 8, 9]]]
    assert np.array_equal(overlay(rgb, labels, TWO, 0), rgb)
    assert overlay(rgb, labels, TWO, 1).tolist() == [[[200, 0, 100], [0, 255, 31], [7, 8, 9]]]


@pytest.mark.parametrize("alpha", [-0.1, 1.01, float("nan")])
def test_overlay_refuses_an_opacity_outside_0_and_1(alpha: float) -> None:
    with pytest.raises(ValueError, match="opacity"):
        overlay(RGB, RGB[..., 0], TWO, alpha)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize("upper", [False, True])
def test_every_ending_is_read(tmp_path: Path, suffix: str, upper: bool) -> None:
    flat = np.full((6, 8, 3), (200, 40, 90), np.uint8)
    path = tmp_path / f"a{suffix.upper() if upper else suffix}"
    Image.fromarray(flat).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    assert np.abs(read_rgb(path).astype(int) - flat).max() <= (2 if "jp" in suffix else 0)
    if suffix in (".png", ".tif", ".tiff"):
        Image.fromarray(MM).save(path)
        np.testing.assert_allclose(read_depth(path), [[0, 0.001, 0.999], [1, 40, 0]], rtol=1e-6)


def test_color_of_other_kinds_becomes_8_bit_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "16.png"), RGB[..., ::-1].astype(np.uint16) * 257)
    clear = np.dstack([RGB, np.zeros((2, 3), np.uint8)])  # the colors below are kept
    Image.fromarray(clear).save(tmp_path / "clear.png")
    for name in ("16.png", "clear.png"):
        assert np.array_equal(read_rgb(tmp_path / name), RGB)
    flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(flat).save(tmp_path / "progressive.jpg", quality=95, progressive=True)
    exif = Image.Exif()
    exif[0x112] = 6  # to be shown turned; depth is stored as the camera is, and so is this
    Image.fromarray(flat[:8]).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    assert np.abs(read_rgb(tmp_path / "cmyk.jpg").astype(int) - flat).max() <= 4
    assert np.abs(read_rgb(tmp_path / "progressive.jpg").astype(int) - flat).max() <= 4
    assert read_rgb(tmp_path / "turned.jpg").shape == (8, 16, 3)


def interlaced(gray: np.ndarray) -> bytes:
    """Return a 16-bit gray PNG in Adam7's order (PNG specification, section 8.2)."""
    height, width = gray.shape
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    rows = b""
    for x, y, step_x, step_y in (*passes, (0, 1, 1, 2)):
        part = gray[y::step_y, x::step_x].astype(">u2")
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return png_of(chunks)


def test_depth_of_other_kinds_is_read(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).integers(400, 9000, (11, 13)).astype(np.uint16)
    (tmp_path / "interlaced.png").write_bytes(interlaced(depth))
    meters = depth / 1000
    cv2.imwrite(str(tmp_path / "16.tif"), depth)
    cv2.imwrite(str(tmp_path / "float.tif"), meters.astype(np.float32))
    np.save(tmp_path / "big.npy", depth.astype(">u2"))
    np.save(tmp_path / "long.npy", depth.astype(np.int64))
    np.save(tmp_path / "columns.npy", np.asfortranarray(meters))
    np.save(tmp_path / "batch.npy", meters[None])
    np.save(tmp_path / "channel.npy", meters[..., None])
    np.save(tmp_path / "both.npy", meters[None, None])
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(read_depth(path), meters, rtol=1e-6, err_msg=path.name)
    np.save(tmp_path / "half.npy", meters.astype(np.float16))
    np.testing.assert_allclose(read_depth(tmp_path / "half.npy"), meters, rtol=1e-3)


def test_labels_of_one_bit_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "l.png")
    assert read_labels(tmp_path / "l.png").tolist() == [[0, 1]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("palette", [False, True])
def test_labels_of_few_bits_keep_their_ids(tmp_path: Path, bits: int, palette: bool) -> None:
    ids = np.arange(16 * 3).reshape(3, 16) % 2**bits
    digits = [format(value, f"0{bits}b") for value in ids.ravel()]
    rows = np.packbits([int(bit) for bit in "".join(digits)]).reshape(3, -1)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 16, 3, bits, 3 if palette else 0, 0, 0, 0)),
        *([(b"PLTE", bytes(3 * 2**bits))] if palette else []),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    ]
    (tmp_path / "l.png").write_bytes(png_of(chunks))
    np.testing.assert_array_equal(read_labels(tmp_path / "l.png"), ids)
    if not palette:  # as a picture, the largest number is white
        gray = ids * (255 // (2**bits - 1))
        np.testing.assert_array_equal(read_rgb(tmp_path / "l.png")[..., 1], gray)


def test_8_bit_pictures_of_depth_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.uint8))
    write_png(tmp_path / "a.png", np.ones((2, 3), np.uint8))
    write_png(tmp_path / "b.png", RGB)
    for name in ("a.npy", "a.png", "b.png"):
        with pytest.raises(ImageFileError, match=rf"{name} holds .*8.bit"):
            read_depth(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty: download or copy it again"),
        (b"<!DOCTYPE html>", "a web page: open the link"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer: run git lfs pull"),
        (b"\x1f\x8b\x08", "a compressed archive: unpack it first"),
        (b"\x00\x05\x16\x07", "macOS metadata of another file"),
    ],
)
def test_what_was_saved_in_place_of_an_image_is_named(
    tmp_path: Path, content: bytes, words: str
) -> None:
    for name in ("a.png", "a.jpg", "a.npy"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageFileError, match=rf"{name} is not an (image|array) but {words}"):
            read_depth(tmp_path / name)


def test_links_in_a_circle_and_folders_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "c.png").mkdir()
    for name, words in (("a.png", "Too many levels of symbolic links"), ("c.png", "not a regular")):
        with pytest.raises(ImageFileError, match=rf"{name} cannot be read .*{words}"):
            read_rgb(tmp_path / name)
