from __future__ import annotations

import array
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sgnet_ros.messages import images
from sgnet_ros.messages.images import ImageError, depth_view, image_message, rgb_view

RED, GREEN, BLUE = 10, 20, 30
"""Difference between the three channels of the test images."""


def message(
    pixels: np.ndarray, encoding: str, *, padding: int = 0, bigendian: bool = False
) -> Image:
    """A message with ``padding`` bytes of 0xEE behind each row."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
    return Image(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(bigendian),
        step=padded.shape[1],
        data=array.array("B", padded.tobytes()),
    )


def rgb_pixels(height: int = 5, width: int = 7) -> np.ndarray:
    base = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1)
    return base + np.array([RED, GREEN, BLUE], np.uint8)


def reorder(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """The same picture in the memory layout of another encoding."""
    alpha = np.full((*rgb.shape[:2], 1), 77, np.uint8)
    return {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "8UC3": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], 2),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], 2),
    }[encoding]


@pytest.mark.parametrize("padding", [0, 1, 13])
@pytest.mark.parametrize(
    ("encoding", "copies"), [("rgb8", 0), ("bgr8", 1), ("8UC3", 1), ("rgba8", 0), ("bgra8", 1)]
)
def test_every_color_encoding_gives_the_same_picture(
    encoding: str, copies: int, padding: int
) -> None:
    rgb = rgb_pixels()
    view = rgb_view(message(reorder(rgb, encoding), encoding, padding=padding))
    assert view.copies == copies
    assert view.array.dtype == np.uint8
    np.testing.assert_array_equal(view.array, rgb)


@pytest.mark.parametrize("padding", [0, 3])
def test_mono8_is_gray_in_all_channels_without_a_copy(padding: int) -> None:
    gray = rgb_pixels()[..., 0]
    view = rgb_view(message(gray, "mono8", padding=padding))
    assert view.copies == 0
    np.testing.assert_array_equal(view.array, np.repeat(gray[..., None], 3, 2))


@pytest.mark.parametrize("encoding", ["rgb8", "rgba8", "mono8"])
def test_a_view_shares_the_buffer_of_the_message(encoding: str) -> None:
    pixels = rgb_pixels()[..., 0] if encoding == "mono8" else reorder(rgb_pixels(), encoding)
    source = message(pixels, encoding)
    view = rgb_view(source).array
    source.data[0] = 201
    assert view[0, 0, 0] == 201


def test_a_copy_leaves_the_message_alone() -> None:
    source = message(rgb_pixels()[..., ::-1], "bgr8")
    view = rgb_view(source).array
    source.data[2] = 201
    assert view[0, 0, 0] == RED


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize(
    ("padding", "bigendian", "copies"),
    [(0, False, 0), (6, False, 0), (0, True, 1), (6, True, 1), (3, False, 1)],
)
def test_depth_in_millimeters(encoding: str, padding: int, bigendian: bool, copies: int) -> None:
    depth = np.array([[0, 1, 255], [256, 4000, 65535]], np.uint16)
    wire = depth.astype(">u2" if bigendian else "<u2")
    view = depth_view(message(wire, encoding, padding=padding, bigendian=bigendian))
    assert view.copies == copies
    assert view.array.dtype == np.uint16
    assert view.array.dtype.isnative
    np.testing.assert_array_equal(view.array, depth)


@pytest.mark.parametrize(
    ("padding", "bigendian", "copies"), [(0, False, 0), (8, False, 0), (2, False, 1), (4, True, 1)]
)
def test_depth_in_meters_keeps_its_invalid_pixels(
    padding: int, bigendian: bool, copies: int
) -> None:
    depth = np.array([[np.nan, np.inf, -np.inf], [0.0, 0.25, 9.875]], np.float32)
    wire = depth.astype(">f4" if bigendian else "<f4")
    view = depth_view(message(wire, "32FC1", padding=padding, bigendian=bigendian))
    assert view.copies == copies
    assert view.array.dtype == np.float32
    np.testing.assert_array_equal(view.array, depth)


def test_big_endian_makes_no_difference_to_bytes() -> None:
    view = rgb_view(message(rgb_pixels(), "rgb8", bigendian=True))
    np.testing.assert_array_equal(view.array, rgb_pixels())


@pytest.mark.parametrize("view", [rgb_view, depth_view])
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("height", {"height": 0}),
        ("width", {"width": 0}),
        ("step", {"step": 0}),
        ("step", {"step": -1}),  # one byte less than a row
        ("data", {"data": array.array("B")}),
        ("data", {"height": 6}),  # one row more than there is
        ("encoding", {"encoding": ""}),
        ("encoding", {"encoding": "theora"}),
    ],
)
def test_a_broken_image_is_refused_with_its_invalid_field(view, field: str, change: dict) -> None:
    depth = np.zeros((5, 7), np.uint16)
    good = message(depth, "16UC1") if view is depth_view else message(rgb_pixels(), "rgb8")
    view(good)
    for name, value in change.items():
        setattr(good, name, good.step - 1 if (name, value) == ("step", -1) else value)
    with pytest.raises(ImageError, match=f"^{field}: ") as caught:
        view(good)
    assert caught.value.field == field


def test_one_missing_byte_is_a_truncated_image() -> None:
    cut = message(rgb_pixels(), "rgb8")
    cut.data = cut.data[:-1]
    with pytest.raises(ImageError, match="truncated: 104 bytes, but step x height is 105"):
        rgb_view(cut)


def test_a_color_image_on_the_depth_topic_is_named() -> None:
    with pytest.raises(ImageError, match=r"'rgb8' is not a depth encoding.*remap depth/image_raw"):
        depth_view(message(rgb_pixels(), "rgb8"))


MOSAICS = {
    "bayer_rggb8": "RGGB",
    "bayer_bggr8": "BGGR",
    "bayer_gbrg8": "GBRG",
    "bayer_grbg8": "GRBG",
}


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", MOSAICS)
def test_a_bayer_mosaic_gives_its_original_colors(encoding: str, padding: int) -> None:
    """Two areas of one color each, as a sensor behind that mosaic sees them."""
    rgb = np.empty((12, 16, 3), np.uint8)
    rgb[:, :8], rgb[:, 8:] = (210, 120, 30), (10, 60, 250)
    mosaic = np.empty((12, 16), np.uint8)
    for index, color in enumerate(MOSAICS[encoding]):
        part = (slice(index // 2, None, 2), slice(index % 2, None, 2))
        mosaic[part] = rgb[(*part, "RGB".index(color))]
    view = rgb_view(message(mosaic, encoding, padding=padding))
    assert view.copies == 1
    for columns in (slice(2, 6), slice(10, 14)):  # away from the edge between them
        np.testing.assert_array_equal(view.array[2:-2, columns], rgb[2:-2, columns])


def yuv(rgb: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 with limited range, as video cameras give it."""
    matrix = np.array(
        [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112, -93.786, -18.214]]
    )
    return np.rint(rgb / 255.0 @ matrix.T + [16, 128, 128]).astype(np.uint8)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv_gives_the_colors(encoding: str, padding: int) -> None:
    colors = np.array(
        [[(200, 100, 50), (20, 180, 220)], [(128, 128, 128), (250, 30, 10)]], np.uint8
    )
    rgb = colors.repeat(2, 0).repeat(2, 1)  # (4, 4), as chroma is shared by two or four pixels
    y, u, v = np.moveaxis(yuv(rgb), 2, 0)
    chroma = np.where(np.arange(4) % 2 == 0, u, v)
    if encoding.startswith("nv"):
        first, second = (u, v) if encoding == "nv12" else (v, u)
        rows = np.vstack([y, np.where(np.arange(4) % 2 == 0, first, second)[::2]])
        source = message(rows, encoding, padding=padding)
        source.height = 4
    else:
        order = [chroma, y] if encoding in ("yuv422", "uyvy") else [y, chroma]
        source = message(np.stack(order, 2), encoding, padding=padding)
    view = rgb_view(source)
    assert view.array.shape == (4, 4, 3)
    np.testing.assert_allclose(view.array.astype(int), rgb, atol=3)


@pytest.mark.parametrize(
    ("encoding", "change", "words"),
    [
        ("nv12", {"height": 5}, "height: 5 is odd"),
        ("nv12", {"width": 3}, "width: 3 is odd"),
        ("uyvy", {"width": 3}, "width: 3 is odd"),
        ("nv21", {"height": 6}, "data: truncated"),
        ("yuyv", {"step": 7}, "step: 7 bytes per row"),
    ],
)
def test_broken_yuv_is_refused(encoding: str, change: dict, words: str) -> None:
    source = message(
        np.zeros((6, 4, 2) if encoding in ("uyvy", "yuyv") else (6, 4), np.uint8), encoding
    )
    source.height = 4
    rgb_view(source)
    for name, value in change.items():
        setattr(source, name, value)
    with pytest.raises(ImageError, match=f"^{words}"):
        rgb_view(source)


def test_without_cv_bridge_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_cv_bridge", lambda: None)
    with pytest.raises(ImageError, match=r"'rgb16'.*rgb8, bgr8.*install cv_bridge"):
        rgb_view(message(np.zeros((2, 4, 3), np.uint16), "rgb16"))


def test_other_encodings_go_through_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge is given neither padding nor bytes in the other order."""
    deep = rgb_pixels().astype(np.uint16) * 257

    def convert(source: Image, encoding: str) -> np.ndarray:
        if source.encoding != "rgb16":
            raise RuntimeError("no such conversion")
        assert encoding == "rgb8"
        assert source.step == 7 * 6
        np.testing.assert_array_equal(np.frombuffer(source.data, np.uint16), deep.ravel())
        return rgb_pixels()

    bridge = SimpleNamespace(
        imgmsg_to_cv2=convert,
        encoding_to_dtype_with_channels={"rgb16": ("uint16", 3), "32SC1": ("int32", 1)}.get,
    )
    monkeypatch.setattr(images, "_cv_bridge", lambda: bridge)
    for bigendian in (False, True):
        wire = deep.astype(">u2" if bigendian else "<u2")
        view = rgb_view(message(wire, "rgb16", padding=5, bigendian=bigendian))
        np.testing.assert_array_equal(view.array, rgb_pixels())
        assert view.copies == 2
    with pytest.raises(ImageError, match=r"^encoding: .*'32SC1'.*no such conversion"):
        rgb_view(message(np.zeros((5, 7), np.int32), "32SC1"))
    short = message(deep, "rgb16")
    short.step = 41
    with pytest.raises(ImageError, match=r"^step: 41 bytes per row"):
        rgb_view(short)


@pytest.fixture
def bridge() -> Any:
    return pytest.importorskip("cv_bridge", exc_type=Exception).CvBridge()


def test_the_installed_cv_bridge_agrees_with_the_views(bridge: Any) -> None:
    for encoding in ("rgb8", "bgr8", "rgba8", "bgra8"):
        source = message(reorder(rgb_pixels(), encoding), encoding)
        np.testing.assert_array_equal(
            rgb_view(source).array, bridge.imgmsg_to_cv2(source, "rgb8"), err_msg=encoding
        )


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 2, 5])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16", "mono16"])
def test_the_installed_cv_bridge_gives_16_bits_as_8(
    bridge: Any, encoding: str, padding: int, bigendian: bool
) -> None:
    rgb = rgb_pixels()
    if encoding == "mono16":
        rgb = np.repeat(rgb[..., :1], 3, 2)
        deep = rgb[..., 0].astype(np.uint16) * 257
    else:
        deep = reorder(rgb, encoding.replace("16", "8")).astype(np.uint16) * 257
    wire = deep.astype(">u2" if bigendian else "<u2")
    view = rgb_view(message(wire, encoding, padding=padding, bigendian=bigendian))
    np.testing.assert_array_equal(view.array, rgb)


def test_the_installed_cv_bridge_reads_a_16_bit_mosaic_as_an_8_bit_one(bridge: Any) -> None:
    mosaic = np.tile(np.array([[200, 90], [90, 40]], np.uint8), (4, 5))
    expected = rgb_view(message(mosaic, "bayer_rggb8")).array
    found = rgb_view(message(mosaic.astype(np.uint16) * 257, "bayer_rggb16", padding=4)).array
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_installed_cv_bridge_is_not_used_for_other_than_color(bridge: Any) -> None:
    for encoding, dtype in (("32FC1", np.float32), ("16UC1", np.uint16), ("nonsense", np.uint8)):
        with pytest.raises(ImageError, match=f"^encoding: cv_bridge cannot turn '{encoding}'"):
            rgb_view(message(np.ones((4, 6), dtype), encoding))


@pytest.mark.parametrize(
    ("pixels", "encoding", "step"),
    [
        (rgb_pixels(3, 5), "rgb8", 15),
        (np.arange(15, dtype=np.uint8).reshape(3, 5), "mono8", 5),
        (np.arange(15, dtype=np.uint16).reshape(3, 5) * 4000, "16UC1", 10),
        (np.linspace(0, 9, 15, dtype=np.float32).reshape(3, 5), "32FC1", 20),
    ],
)
def test_arrays_become_messages_with_unpadded_rows(
    pixels: np.ndarray, encoding: str, step: int
) -> None:
    header = Header(frame_id="camera_optical")
    header.stamp.sec, header.stamp.nanosec = 12, 34
    written = image_message(pixels, header)
    assert (written.height, written.width, written.encoding, written.step) == (3, 5, encoding, step)
    assert written.is_bigendian == (sys.byteorder == "big")
    assert written.header == header
    assert bytes(written.data) == pixels.tobytes()


def test_a_strided_array_is_written_row_by_row() -> None:
    wide = np.arange(40, dtype=np.uint8).reshape(4, 10)
    assert bytes(image_message(wide[::2, 1::3], Header()).data) == wide[::2, 1::3].tobytes()


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)]
)
def test_an_array_without_an_encoding_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no encoding for"):
        image_message(pixels, Header())


@given(
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    step=st.integers(0, 60),
    size=st.integers(0, 500),
    encoding=st.sampled_from(["rgb8", "bgra8", "mono8", "8UC3", "16UC1", "32FC1", "mono16", "?"]),
    bigendian=st.integers(0, 255),
)
def test_any_message_is_read_or_refused(
    height: int, width: int, step: int, size: int, encoding: str, bigendian: int
) -> None:
    data = array.array("B", np.arange(size).astype(np.uint8).tobytes())
    source = Image(
        height=height, width=width, step=step, encoding=encoding, is_bigendian=bigendian, data=data
    )
    for view in (rgb_view, depth_view):
        try:
            pixels = view(source).array
        except ImageError:
            continue
        assert pixels.shape[:2] == (height, width)
        assert step * height <= size
        last = pixels[-1, -1].copy()  # reads the last byte that the view may touch
        first_channel = last.reshape(-1)[0]
        at = step * (height - 1) + {"bgra8": 4, "8UC3": 3, "rgb8": 3, "mono8": 1}.get(
            encoding, pixels.dtype.itemsize
        ) * (width - 1)
        offset = 2 if encoding in ("bgra8", "8UC3") else 0
        if pixels.dtype == np.uint8 and encoding != "mono16":  # which cv_bridge scales
            assert first_channel == data[at + offset]
