"""Frames of bags: found, matched in time, registered."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from bag_messages import HEIGHT, MS, WIDTH, Maker, Messages, colors, depths, recording
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bags import is_bag
from sgnet_ros.recordings.errors import BagError


@pytest.mark.parametrize("ros, name", [(1, "a.bag"), (2, "a.db3"), (2, "a.mcap")])
def test_frames_of_every_format_are_exact(tmp_path: Path, ros: int, name: str) -> None:
    make = Maker(ros)
    path = make.write(tmp_path / name, recording(make))
    assert is_bag(path)
    source = BagSource(path)
    frames = list(source)
    assert len(frames) == 3
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.rgb, colors(i))
        np.testing.assert_array_equal(frame.depth, depths(i))  # the nearer one in time
        assert frame.labels is None
        assert frame.intrinsics == Intrinsics(10, 11, 5.5, 3.5, WIDTH, HEIGHT)
    assert source.rate_hz == pytest.approx(2 / 0.254)  # 3 images, first to last message
    assert len(list(source)) == 3  # a second pass starts from the beginning


def test_a_single_storage_file_is_a_bag(tmp_path: Path) -> None:
    make = Maker(2)
    folder = make.write(tmp_path / "a.mcap", recording(make))
    (folder / "metadata.yaml").unlink()
    assert is_bag(folder)
    assert len(list(BagSource(folder))) == 3
    assert len(list(BagSource(folder / "a.mcap"))) == 3


def test_ground_truth_is_joined_by_stamp_and_the_output_of_a_node_is_not(
    tmp_path: Path,
) -> None:
    make = Maker(2)
    messages = recording(make)
    mask = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    for i in (0, 2):
        stamp = 10**9 + i * 100 * MS
        late = stamp + 30 * MS  # recorded later than the image it belongs to
        messages += [("/cam/labels", late, make.image(mask + i, "mono8", stamp))]
    found = [f.labels for f in BagSource(make.write(tmp_path / "a.mcap", messages))]
    np.testing.assert_array_equal(found[0], mask)
    assert found[1] is None
    np.testing.assert_array_equal(found[2], mask + 2)

    stats = make.types["std_msgs/msg/String"]("whatever")
    answer = make.write(tmp_path / "b.mcap", [*messages, ("/cam/stats", 10**9, stats)])
    assert BagSource(answer).topics.labels is None


def test_float_and_compressed_images_are_read(tmp_path: Path) -> None:
    make = Maker(2)
    meters = np.array([[0.0004, 1.2344, np.nan, np.inf, -1.0, 70.0]], np.float32)
    meters = np.resize(meters, (HEIGHT, WIDTH))
    png = io.BytesIO()
    Image.fromarray(colors(5)).save(png, "PNG")
    compressed = make.types["sensor_msgs/msg/CompressedImage"](
        make.header(10**9, "cam"), "bgr8; png compressed bgr8", np.frombuffer(png.getvalue(), "u1")
    )
    path = make.write(
        tmp_path / "a.mcap",
        [
            ("/cam/color/image_raw/compressed", 10**9, compressed),
            ("/cam/color/camera_info", 10**9, make.info(10**9)),
            ("/cam/depth_registered/image", 10**9, make.image(meters, "32FC1", 10**9)),
        ],
    )
    (frame,) = BagSource(path)
    np.testing.assert_array_equal(frame.rgb, colors(5))
    np.testing.assert_array_equal(frame.depth[0, :6], [0, 1234, 0, 0, 0, 0])


def test_frames_without_a_partner_in_time_are_left_out(tmp_path: Path) -> None:
    make = Maker(2)
    messages = [m for m in recording(make, frames=8) if "depth" not in m[0] or m[1] < 1.3e9]
    frames = list(BagSource(make.write(tmp_path / "a.mcap", messages)))
    assert len(frames) == 5  # the last depth is at 1.254 s, and color at 1.4 s still near enough


def test_compressed_float_depth_is_dequantized(tmp_path: Path) -> None:
    make = Maker(2)
    inverse = np.full((HEIGHT, WIDTH), 5000, np.uint16)
    inverse[2, 3] = 0
    png = io.BytesIO()
    Image.fromarray(inverse).save(png, "PNG")
    a, b = 10_100.0, -1009.0  # meters = a / (number - b)
    compressed = make.types["sensor_msgs/msg/CompressedImage"](
        make.header(10**9, "cam"),
        "32FC1; compressedDepth png",
        np.frombuffer(struct.pack("<iff", 0, a, b) + png.getvalue(), "u1"),
    )
    messages: Messages = [
        ("/cam/color/image_raw", 10**9, make.image(colors(0), "rgb8", 10**9)),
        ("/cam/color/camera_info", 10**9, make.info(10**9)),
        ("/cam/depth_registered/image/compressedDepth", 10**9, compressed),
    ]
    (frame,) = BagSource(make.write(tmp_path / "a.mcap", messages))
    assert frame.depth[2, 3] == 0
    frame.depth[2, 3] = frame.depth[0, 0]
    assert (frame.depth == round(1000 * a / (5000 - b))).all()


def unregistered(make: Maker) -> Messages:
    """One frame whose depth camera stands 0.1 m to the right, turned, with its own calibration."""
    depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
    depth[2:5, 3:7] = 1000
    k = (8.0, 0, 5.0, 0, 8.0, 4.0, 0, 0, 1)
    return [
        ("/cam/color/image_raw", 10**9, make.image(colors(0), "rgb8", 10**9, "c_optical")),
        ("/cam/color/camera_info", 10**9, make.info(10**9, frame="c_optical")),
        ("/cam/depth/image_raw", 10**9, make.image(depth, "16UC1", 10**9, "d_optical")),
        ("/cam/depth/camera_info", 10**9, make.info(10**9, k, "d_optical")),
    ]


def registered(depth: npt.NDArray[Any], rgb: Intrinsics, pose: npt.NDArray[Any]) -> Any:
    """Depth of `unregistered`'s camera as the color camera sees it."""
    camera = Camera(Intrinsics(8, 8, 5, 4, WIDTH, HEIGHT))
    meters = torch.from_numpy(depth.astype(np.float32))
    return DepthRegistration(camera, Camera(rgb), pose)(meters).numpy()


def test_depth_is_registered_with_the_recorded_transforms(tmp_path: Path) -> None:
    make = Maker(2)
    tf = make.static_tf(
        [
            ("base", "c_optical", make.transform(0.3, 0.0)),
            ("base", "d_link", make.transform(0.0, 0.0)),
            ("d_link", "d_optical", make.transform(0.4, 0.2)),
        ]
    )
    path = make.write(tmp_path / "a.mcap", [*unregistered(make), ("/tf_static", 10**9, tf)])
    (frame,) = BagSource(path)

    pose = np.eye(4)  # depth in color: 0.1 m along x, 0.2 rad about z
    pose[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    pose[0, 3] = 0.1
    depth = np.full((HEIGHT, WIDTH), 2.0)
    depth[2:5, 3:7] = 1.0
    expected = registered(depth, frame.intrinsics, pose)
    assert (expected[0, 4], expected[0, 3], expected[1, 8]) == (1, 2, 1)  # turned and shifted
    np.testing.assert_array_equal(frame.depth, np.rint(expected * 1000))


def test_librealsense_recordings_are_read(tmp_path: Path) -> None:
    """Its recorder names both frames "0", and gives reference-to-stream transforms and units."""
    make = Maker(1)
    units = make.types["std_msgs/msg/Float32"](0.0005)
    place = {"color": "/device_0/sensor_1/Color_0", "depth": "/device_0/sensor_0/Depth_0"}
    messages: Messages = []
    for topic, time, message in unregistered(make):
        kind = "color" if "color" in topic else "depth"
        message.header.frame_id = "0"
        suffix = "info/camera_info" if "info" in topic else "image/data"
        messages += [(f"{place[kind]}/{suffix}", time, message)]
    messages += [
        (f"{place['color']}/tf/0", 1, make.transform(0.015, 0.01)),
        (f"{place['depth']}/tf/0", 1, make.transform(0.0, 0.0)),
        ("/device_0/sensor_0/option/Depth Units/value", 1, units),
    ]
    (frame,) = BagSource(make.write(tmp_path / "a.bag", messages))
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(0.01), -np.sin(0.01)], [np.sin(0.01), np.cos(0.01)]]
    pose[0, 3] = 0.015
    depth = np.full((HEIGHT, WIDTH), 1.0)
    depth[2:5, 3:7] = 0.5
    expected = registered(depth, frame.intrinsics, pose)
    np.testing.assert_array_equal(frame.depth, np.rint(expected * 1000))


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    make = Maker(2)
    with pytest.raises(BagError, match=r"nowhere\.mcap does not exist"):
        BagSource(tmp_path / "nowhere.mcap")

    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(b"\x89MCAP0\r\n and nothing that makes sense")
    with pytest.raises(BagError, match=r"damaged\.mcap .*mcap recover"):
        BagSource(damaged)
    damaged = tmp_path / "damaged.bag"
    damaged.write_bytes(b"#ROSBAG V2.0\nrubbish")
    with pytest.raises(BagError, match=r"damaged\.bag .*rosbag reindex"):
        BagSource(damaged)

    messages = unregistered(make)
    with pytest.raises(BagError, match=r"'d_optical'.*'c_optical'.*align_depth"):
        BagSource(make.write(tmp_path / "unregistered.mcap", messages))
    other = [m for m in messages if "color/camera_info" not in m[0]]  # depth's is there
    with pytest.raises(BagError, match="CameraInfo for /cam/color/image_raw"):
        BagSource(make.write(tmp_path / "uncalibrated.mcap", other))
    with pytest.raises(BagError, match=r"no depth image; .*/cam/color/image_raw \(color\)"):
        BagSource(make.write(tmp_path / "color.mcap", messages[:2]))


def test_several_cameras_need_a_choice_by_name(tmp_path: Path) -> None:
    make = Maker(2)
    messages: Messages = []
    for side in ("left", "right"):
        for topic, time, message in recording(make, frames=1):
            messages += [(topic.replace("/cam", f"/{side}", 1), time, message)]
    path = make.write(tmp_path / "two.mcap", messages)
    with pytest.raises(BagError, match=r"/left/color/image_raw, /right/color.*--rgb-topic"):
        BagSource(path)
    (frame,) = BagSource(path, "/right/color/image_raw", "/right/depth/image")
    np.testing.assert_array_equal(frame.rgb, colors(0))
    with pytest.raises(BagError, match="no topic /center"):
        BagSource(path, "/center", "/right/depth/image")
