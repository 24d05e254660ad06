"""Compressed images: values as they were, or refused; nothing half decoded."""

from __future__ import annotations

import array
import io
import random
import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from sgnet_ros.messages.compressed import (
    compressed_depth_view,
    compressed_message,
    compressed_rgb_view,
)
from sgnet_ros.messages.images import ImageError
from write_files import jpeg_of_scans


def message(data: bytes, encoding: str) -> CompressedImage:
    return CompressedImage(format=encoding, data=array.array("B", data))


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """By OpenCV, as image_transport does it: colors blue first."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


def picture() -> np.ndarray:
    """(30, 44, 3) RGB in flat areas, so that JPEG keeps their colors."""
    coarse = np.array([[[250, 10, 40], [20, 200, 90]], [[90, 90, 90], [10, 30, 220]]], np.uint8)
    return coarse.repeat(15, 0).repeat(22, 1)


@pytest.mark.parametrize(
    ("suffix", "encoding"),
    [
        (".png", "rgb8; png compressed bgr8"),
        (".png", "png"),
        (".jpg", "bgr8; jpeg compressed bgr8"),
        (".jpg", "jpeg"),
    ],
)
def test_colors_are_those_of_the_picture(suffix: str, encoding: str) -> None:
    rgb = picture()
    view = compressed_rgb_view(message(encoded(rgb[..., ::-1], suffix), encoding))
    assert view.array.dtype == np.uint8
    assert view.copies == 1
    error = np.abs(view.array.astype(int) - rgb)
    if suffix == ".png":
        assert error.max() == 0
    else:  # where four colors meet, they share their chroma
        assert np.delete(np.delete(error, range(8, 22), 0), range(15, 29), 1).max() <= 6


def test_gray_and_transparent_images_become_three_channels() -> None:
    rgb = picture()
    gray = compressed_rgb_view(message(encoded(rgb[..., 0]), "mono8; png compressed mono8")).array
    np.testing.assert_array_equal(gray, np.repeat(rgb[..., :1], 3, 2))
    bgra = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 9, np.uint8)])
    with_alpha = compressed_rgb_view(message(encoded(bgra), "rgba8; png compressed bgra8")).array
    np.testing.assert_array_equal(with_alpha, rgb)


def test_16_bit_gray_is_refused_as_color() -> None:
    with pytest.raises(ImageError, match=r"^data: .*not 8-bit color"):
        compressed_rgb_view(message(encoded(np.full((4, 4), 700, np.uint16)), "mono16; png"))


def test_exif_orientation_is_ignored() -> None:
    """Depth is not turned either."""
    exif = Image.Exif()
    exif[0x0112] = 6
    target = io.BytesIO()
    Image.fromarray(picture()).save(target, "PNG", exif=exif)
    assert compressed_rgb_view(message(target.getvalue(), "png")).array.shape == (30, 44, 3)


DEPTH = np.array([[0, 1, 255, 256], [257, 4000, 40_000, 65_535]], np.uint16)
HEADER = struct.pack("<iff", 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("encoding", "header"),
    [
        ("16UC1; compressedDepth png", HEADER),
        ("16UC1; compressedDepth", HEADER),  # older publishers
        ("mono16; compressedDepth png", HEADER),
        ("16UC1; png compressed ", b""),  # the transport "compressed"
    ],
)
def test_depth_in_millimeters_is_exact(encoding: str, header: bytes) -> None:
    view = compressed_depth_view(message(header + encoded(DEPTH), encoding))
    assert view.array.dtype == np.uint16
    np.testing.assert_array_equal(view.array, DEPTH)


def test_depth_in_meters_is_decoded_from_inverse_depth() -> None:
    """Quantized as compressed_depth_image_transport does: i = A/z + B, or 0 for what is invalid."""
    quantization, depth_max = 100.0, 10.0
    a = quantization * (quantization + 1)
    b = 1 - a / depth_max
    meters = np.array([[np.nan, 0.5, 1.0, 2.5], [9.5, 20.0, np.inf, 4.0]], np.float32)
    valid = meters < depth_max
    inverse = np.where(valid, a / np.where(valid, meters, 1) + b, 0).astype(np.uint16)
    header = struct.pack("<iff", 0, a, b)
    view = compressed_depth_view(message(header + encoded(inverse), "32FC1; compressedDepth png"))
    assert view.array.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(view.array), ~valid)
    step = meters**2 / a  # of the depth, where the number is rounded down
    error = np.abs(view.array - meters)[valid]
    assert (error <= 1.01 * step[valid]).all()
    assert view.array[0, 1] == pytest.approx(0.5, abs=1e-4)


def test_rvl_is_decoded() -> None:
    data = HEADER + bytes.fromhex("03000000020000000231891300000000")  # 3x2: 0, 100, 99, 99, 0, 0
    numbers = compressed_depth_view(message(data, "16UC1; compressedDepth rvl")).array
    np.testing.assert_array_equal(numbers, [[0, 100, 99], [99, 0, 0]])


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        (encoded(picture()), "rgb8; png compressed bgr8", "^format: .*is not a depth format"),
        (HEADER + encoded(picture()), "16UC1; compressedDepth png", "^data: .*RGB, not of 16"),
        (HEADER, "16UC1; compressedDepth png", "^data: 12 bytes"),
        (b"", "16UC1; compressedDepth png", "^data: 0 bytes"),
        (encoded(DEPTH), "32FC1; compressedDepth png", "^data: .*without the header"),
        (HEADER[:5] + encoded(DEPTH), "16UC1; compressedDepth png", "^data: .*cannot be decoded"),
    ],
)
def test_formats_without_depth_are_refused(data: bytes, encoding: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        compressed_depth_view(message(data, encoding))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image_is_refused_at_any_length(suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    data = encoded(noise, suffix)
    lengths = [*range(0, len(data) - 20, 97), len(data) // 2]
    for length in lengths:
        with pytest.raises(ImageError, match=f"^data: {length} bytes"):
            compressed_rgb_view(message(data[:length], "jpeg"))


def test_damaged_bytes_are_an_image_or_an_error() -> None:
    rng = random.Random(0)
    good = HEADER + encoded(np.random.default_rng(0).integers(0, 9000, (12, 16), np.uint16))
    pictures = [encoded(picture(), ".jpg"), encoded(picture())]
    refused = 0
    for _ in range(400):
        for data, view, encoding, shape in (
            (good, compressed_depth_view, "16UC1; compressedDepth png", (12, 16)),
            (rng.choice(pictures), compressed_rgb_view, "jpeg", (30, 44, 3)),
        ):
            changed = bytearray(data)
            for _ in range(rng.randint(1, 8)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            try:
                assert len(view(message(bytes(changed), encoding)).array.shape) == len(shape)
            except ImageError:
                refused += 1
    assert refused > 200


def test_labels_survive_png_and_pictures_jpeg_nearly() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 256, (48, 64), np.uint8)
    header = Header(frame_id="optical")
    message = compressed_message(labels, header, "png")
    assert (message.header, message.format) == (header, "mono8; png compressed ")
    np.testing.assert_array_equal(compressed_rgb_view(message).array[..., 0], labels)
    smooth = np.zeros((48, 64, 3), np.uint8)
    smooth[..., 0], smooth[..., 2] = 200, np.arange(64)
    message = compressed_message(smooth, header, "jpeg")
    assert message.format == "rgb8; jpeg compressed bgr8"
    difference = compressed_rgb_view(message).array.astype(int) - smooth
    assert np.abs(difference).mean() < 3


def test_a_picture_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgnet_core.data.images.MAX_PIXELS", 30 * 44 - 1)
    depth = encoded(np.ones((30, 44), np.uint16))
    for read, data, encoding in (
        (compressed_rgb_view, encoded(picture()), "rgb8; png compressed bgr8"),
        (compressed_rgb_view, encoded(picture(), ".jpg"), "jpeg"),
        (compressed_depth_view, bytes(12) + depth, "16UC1; compressedDepth png"),
    ):
        with pytest.raises(ImageError, match="44x30 pixels; at most 1319 are decoded"):
            read(message(data, encoding))


def test_a_jpeg_of_too_many_scans_is_not_decoded() -> None:
    gray = np.full((30, 44), 77, np.uint8)
    view = compressed_rgb_view(message(jpeg_of_scans(gray, 10), "mono8; jpeg compressed "))
    assert (view.array == 77).all()
    with pytest.raises(ImageError, match="data: a JPEG of more than 100 scans is not decoded"):
        compressed_rgb_view(message(jpeg_of_scans(gray, 100), "mono8; jpeg compressed "))


def test_a_compressed_bayer_mosaic_becomes_a_picture() -> None:
    rgb = np.full((8, 10, 3), (200, 120, 40), np.uint8)
    mosaic = rgb[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 200, 40  # rggb
    for suffix, codec in ((".png", "png"), (".jpg", "jpeg")):
        data = message(encoded(mosaic, suffix), f"bayer_rggb8; {codec} compressed ")
        error = np.abs(compressed_rgb_view(data).array.astype(int) - rgb)
        assert error.max() <= (0 if suffix == ".png" else 30)
    with pytest.raises(ImageError, match="'bayer_rggb16' is none of rgb8"):
        compressed_rgb_view(message(encoded(mosaic), "bayer_rggb16; png compressed "))
    whole = message(encoded(rgb[..., ::-1]), "bayer_rggb8; png compressed bgr8")
    assert (compressed_rgb_view(whole).array == rgb).all()


@pytest.mark.parametrize("header", [b"", struct.pack("<iff", 0, 0, 0)])
@pytest.mark.parametrize(
    "name", ["16UC1; compressedDepth png", "16UC1; png compressed ", "16UC1 ;compressedDepth"]
)
def test_the_header_of_compressed_depth_is_recognized_from_the_data(
    name: str, header: bytes
) -> None:
    depth = np.random.default_rng(0).integers(0, 9000, (5, 7)).astype(np.uint16)
    view = compressed_depth_view(message(header + encoded(depth), name))
    np.testing.assert_array_equal(view.array, depth)
