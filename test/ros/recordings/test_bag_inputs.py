"""Inputs of cameras and drivers are read right, or refused with the reason and the remedy."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bag_messages import HEIGHT, MS, WIDTH, Maker, Messages, colors, depths, recording
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.matching import NoPairsError


def frame_messages(make: Maker, stamp: int, depth: Any = None, color: Any = None) -> Messages:
    """Return a color image, its CameraInfo and a registered depth image of one stamp."""
    rgb = make.image(colors(0), "rgb8", stamp) if color is None else color
    return [
        ("/cam/color/image_raw", stamp, rgb),
        ("/cam/color/camera_info", stamp, make.info(stamp)),
        ("/cam/depth/image", stamp, depth or make.image(depths(0), "16UC1", stamp)),
    ]


def sequence(make: Maker, count: int) -> list[int]:
    return [10**9 + i * 100 * MS for i in range(count)]


@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("mono8", colors(3)[:, :, 0], np.repeat(colors(3)[:, :, :1], 3, axis=2)),
        ("8UC1", colors(3)[:, :, 0], np.repeat(colors(3)[:, :, :1], 3, axis=2)),
        ("bgr8", colors(3)[:, :, ::-1], colors(3)),
        ("bayer_rggb8", np.full((HEIGHT, WIDTH), 77, np.uint8), np.full((HEIGHT, WIDTH, 3), 77)),
        ("yuv422_yuy2", np.full((HEIGHT, WIDTH, 2), 128, np.uint8), None),
        ("yuyv", np.full((HEIGHT, WIDTH, 2), 128, np.uint8), None),
    ],
)
def test_color_is_read_in_each_encoding_that_the_node_reads(
    tmp_path: Path, encoding: str, pixels: Any, expected: Any
) -> None:
    make = Maker(2)
    image = make.image(np.ascontiguousarray(pixels), encoding, 10**9)
    path = make.write(tmp_path / "a.mcap", frame_messages(make, 10**9, color=image))
    (frame,) = BagSource(path)
    if expected is None:  # Y = 128 without chroma, by BT.601
        expected = np.full((HEIGHT, WIDTH, 3), round(1.164 * (128 - 16)))
    np.testing.assert_array_equal(frame.rgb, expected)


def test_infrared_and_a_nodes_outputs_are_neither_color_nor_depth(tmp_path: Path) -> None:
    make = Maker(2)
    infrared = np.full((HEIGHT, WIDTH), 9000, np.uint16)
    messages = frame_messages(make, 10**9)
    messages += [
        ("/ir/image_raw", 10**9, make.image(infrared, "mono16", 10**9)),
        ("/cam/infra1/image", 10**9, make.image(colors(1)[:, :, 0].copy(), "mono8", 10**9)),
        ("/sgnet/overlay", 10**9, make.image(colors(2), "rgb8", 10**9)),
        ("/sgnet/stats", 10**9, make.types["std_msgs/msg/String"]("FrameStats")),
    ]
    source = BagSource(make.write(tmp_path / "a.mcap", messages))
    assert source.topics == ("/cam/color/image_raw", "/cam/depth/image", None)
    (frame,) = source
    np.testing.assert_array_equal(frame.depth, depths(0))


def test_registered_depth_is_preferred_to_the_depth_cameras_own(tmp_path: Path) -> None:
    make = Maker(2)
    messages = frame_messages(make, 10**9)
    registered = make.image(depths(7), "16UC1", 10**9)
    messages += [("/depth_to_rgb/image_raw", 10**9, registered)]
    (frame,) = BagSource(make.write(tmp_path / "a.mcap", messages))
    np.testing.assert_array_equal(frame.depth, depths(7))


def test_the_first_usable_camera_info_counts(tmp_path: Path) -> None:
    make = Maker(2)
    messages: Messages = []
    for i, stamp in enumerate(sequence(make, 4)):
        messages += frame_messages(make, stamp)
        if i < 2:  # the driver has not read its calibration yet
            messages[-2] = ("/cam/color/camera_info", stamp, make.info(stamp, (0.0,) * 9))
    frames = list(BagSource(make.write(tmp_path / "a.mcap", messages)))
    assert [f.intrinsics for f in frames] == [Intrinsics(10, 11, 5.5, 3.5, WIDTH, HEIGHT)] * 4


def test_p_counts_where_the_topic_is_rectified(tmp_path: Path) -> None:
    make = Maker(2)
    p = (9.0, 0.0, 5.0, 0.0, 0.0, 9.5, 4.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    messages = [
        (topic.replace("image_raw", "image_rect"), time, message)
        for topic, time, message in frame_messages(make, 10**9)
    ]
    messages[1] = ("/cam/color/camera_info", 10**9, make.info(10**9, (0.0,) * 9, p=p))
    (frame,) = BagSource(make.write(tmp_path / "a.mcap", messages))
    assert frame.intrinsics == Intrinsics(9, 9.5, 5, 4, WIDTH, HEIGHT)


def test_intrinsics_are_optional_and_given_ones_win(tmp_path: Path) -> None:
    make = Maker(2)
    messages = frame_messages(make, 10**9)
    with_info = make.write(tmp_path / "a.mcap", messages)
    without = make.write(tmp_path / "b.mcap", [messages[0], messages[2]])
    (frame,) = BagSource(without)
    assert frame.intrinsics is None
    np.testing.assert_array_equal(frame.depth, depths(0))
    for path in (with_info, without):
        (frame,) = BagSource(path, intrinsics=(20.0, 21.0, 6.0, 4.0))
        assert frame.intrinsics == Intrinsics(20, 21, 6, 4, WIDTH, HEIGHT)


@pytest.mark.parametrize("bad", ["depth", "color"])
@pytest.mark.parametrize("shape", [(HEIGHT - 2, WIDTH - 2), (0, 0)])
@pytest.mark.parametrize("index", [0, 2])
def test_a_frame_of_another_size_is_left_out_and_counted(
    tmp_path: Path, bad: str, shape: tuple[int, int], index: int, caplog: Any
) -> None:
    make = Maker(2)
    messages: Messages = []
    for i, stamp in enumerate(sequence(make, 4)):
        messages += frame_messages(make, stamp)
        if i == index and bad == "depth":
            image = make.image(np.ones(shape, np.uint16), "16UC1", stamp)
            messages[-1] = (messages[-1][0], stamp, image)
        elif i == index:
            image = make.image(np.ones((*shape, 3), np.uint8), "rgb8", stamp)
            messages[-3] = (messages[-3][0], stamp, image)
    source = BagSource(make.write(tmp_path / "a.mcap", messages))
    assert [f.stamp_ns for f in source] == [
        s for i, s in enumerate(sequence(make, 4)) if i != index
    ]
    assert source.left_out == 1
    topic = "/cam/depth/image" if bad == "depth" else "/cam/color/image_raw"
    assert f"{topic} at {sequence(make, 4)[index]} is damaged" in caplog.text


def test_65535_means_no_measurement(tmp_path: Path) -> None:
    make = Maker(2)
    depth = depths(0)
    depth[2, 3:6] = 65535
    image = make.image(depth, "16UC1", 10**9)
    (frame,) = BagSource(make.write(tmp_path / "a.mcap", frame_messages(make, 10**9, image)))
    np.testing.assert_array_equal(frame.depth, np.where(depth == 65535, 0, depth))


def test_float_depth_in_millimeters_is_refused_until_its_scale_is_given(tmp_path: Path) -> None:
    make = Maker(2)
    depth = np.full((HEIGHT, WIDTH), 1953.4, np.float32)
    depth[0, 0] = np.nan
    image = make.image(depth, "32FC1", 10**9)
    path = make.write(tmp_path / "a.mcap", frame_messages(make, 10**9, image))
    expected = (
        r"median of 1953 m,.* in millimeters: give predict or bag_export --depth-scale 0\.001"
    )
    with pytest.raises(BagError, match=f"/cam/depth/image have a {expected}"):
        BagSource(path)
    (frame,) = BagSource(path, depth_scale=0.001)
    assert frame.depth[0, 0] == 0
    assert (frame.depth.ravel()[1:] == 1953).all()


def test_depth_without_a_measurement_is_warned_of(tmp_path: Path, caplog: Any) -> None:
    make = Maker(2)
    image = make.image(np.zeros((HEIGHT, WIDTH), np.uint16), "16UC1", 10**9)
    source = BagSource(make.write(tmp_path / "a.mcap", frame_messages(make, 10**9, image)))
    assert source.geometry.median is None
    assert "the first depth images on /cam/depth/image no pixel has a depth" in caplog.text


def test_depth_in_another_unit_than_millimeters_is_warned_of(tmp_path: Path, caplog: Any) -> None:
    make = Maker(2)
    image = make.image(np.full((HEIGHT, WIDTH), 3, np.uint16), "16UC1", 10**9)
    path = make.write(tmp_path / "a.mcap", frame_messages(make, 10**9, image))
    BagSource(path)
    assert "on /cam/depth/image the median depth is 0.003 m: is the unit right?" in caplog.text
    caplog.clear()
    assert BagSource(path, depth_scale=1).geometry.median == 3
    assert not caplog.text
    with pytest.raises(BagError, match=r"/cam/depth/image have a median of 300 m, .*scale 1,"):
        BagSource(path, depth_scale=100)


def test_without_a_pair_the_numbers_and_the_gap_are_named(tmp_path: Path) -> None:
    make = Maker(2)
    messages: Messages = []
    for stamp in sequence(make, 3):
        late = make.image(depths(0), "16UC1", stamp + 700 * MS)
        messages += frame_messages(make, stamp)[:2]
        messages += [("/cam/depth/image", stamp, late)]  # recorded in time, stamped late
    source = BagSource(make.write(tmp_path / "a.mcap", messages))
    with pytest.raises(
        NoPairsError,
        match=r"none of 3 color images .*one of 3 depth images .*the nearest are 0\.500 s apart, "
        r"and the first depth image is 0\.700 s after",
    ):
        list(source)


@pytest.mark.slow
@pytest.mark.parametrize("ros, name", [(1, "a.bag"), (2, "a.db3"), (2, "a.mcap")])
def test_mutated_bytes_give_an_error_or_frames(tmp_path: Path, ros: int, name: str) -> None:
    make, rng = Maker(ros), np.random.default_rng(0)
    path = make.write(tmp_path / name, recording(make, frames=1))
    file = path if path.is_file() else path / name
    if file.suffix == ".db3":  # without empty pages, where damage does nothing
        with sqlite3.connect(file) as database:
            database.execute("PRAGMA page_size = 512")
        database.execute("VACUUM")
        database.close()
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    assert whole.size < 12_000
    for _ in range(1000):
        damaged = whole.copy()
        places = rng.integers(0, whole.size, rng.integers(1, 20))
        damaged[places] = rng.integers(0, 256, places.size)
        file.write_bytes(damaged.tobytes())
        try:
            assert len(list(BagSource(file))) <= 1
        except BagError as error:
            assert str(file) in str(error)
