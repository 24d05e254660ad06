"""Point clouds, read back field by field as their consumers do."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera, Lens
from sgnet_ros.messages.clouds import point_cloud, read_points, selected_points

HEIGHT, WIDTH = 6, 9
CAMERA = Camera(Intrinsics(7.0, 8.0, 4.2, 2.4, WIDTH, HEIGHT))
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
LABELS = RNG.integers(0, 13, (HEIGHT, WIDTH), np.uint8)
CONFIDENCE = RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
HEADER = Header(stamp=Time(sec=3, nanosec=4), frame_id="optical")


def cloud(depth: np.ndarray, camera: Camera = CAMERA) -> PointCloud2:
    return point_cloud(HEADER, depth, camera, RGB, LABELS, CONFIDENCE)


def read(message: PointCloud2, name: str, v: int, u: int) -> float:
    (field,) = [f for f in message.fields if f.name == name]
    code = {PointField.FLOAT32: "<f", PointField.UINT8: "<B", PointField.UINT32: "<I"}[
        field.datatype
    ]
    at = v * message.row_step + u * message.point_step + field.offset
    return struct.unpack_from(code, bytes(message.data), at)[0]


def test_points_lie_on_the_rays_of_their_pixels() -> None:
    depth = RNG.uniform(0.5, 4, (HEIGHT, WIDTH)).astype(np.float32)
    message = cloud(depth)
    assert message.header == HEADER
    assert (message.height, message.width) == (HEIGHT, WIDTH)
    assert message.row_step == message.point_step * WIDTH
    assert len(message.data) == message.row_step * HEIGHT
    assert not message.is_dense
    assert not message.is_bigendian
    for v, u in ((0, 0), (2, 7), (5, 8)):
        z = float(depth[v, u])
        assert read(message, "z", v, u) == pytest.approx(z)
        assert read(message, "x", v, u) == pytest.approx((u - 4.2) / 7 * z)
        assert read(message, "y", v, u) == pytest.approx((v - 2.4) / 8 * z)
        assert read(message, "label", v, u) == LABELS[v, u]
        assert read(message, "confidence", v, u) == CONFIDENCE[v, u]
        red, green, blue = (int(c) for c in RGB[v, u])
        packed = struct.pack("<f", read(message, "rgb", v, u))
        assert struct.unpack("<I", packed)[0] == red << 16 | green << 8 | blue


def test_millimeters_give_the_same_cloud_as_meters() -> None:
    depth = RNG.integers(400, 9000, (HEIGHT, WIDTH)).astype(np.uint16)
    a, b = cloud(depth), cloud(depth * np.float32(0.001))
    assert bytes(a.data) == bytes(b.data)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf, 5000.0])
def test_pixels_without_depth_have_no_point(value: float) -> None:
    depth = np.full((HEIGHT, WIDTH), 2, np.float32)
    depth[3, 4] = value
    message = cloud(depth)
    assert all(math.isnan(read(message, axis, 3, 4)) for axis in "xyz")
    assert read(message, "label", 3, 4) == LABELS[3, 4]
    assert read(message, "z", 3, 5) == 2
    assert math.isnan(read(cloud(np.zeros((HEIGHT, WIDTH), np.uint16)), "z", 0, 0))


def test_a_cloud_is_read_back_by_field() -> None:
    message = cloud(RNG.uniform(0.5, 4, (HEIGHT, WIDTH)).astype(np.float32))
    points = read_points(message)
    for name in ("x", "y", "z", "label", "confidence"):
        assert points[name][4, 7] == pytest.approx(read(message, name, 4, 7))
    assert points.shape == (HEIGHT, WIDTH)
    assert np.array_equal(points["label"], LABELS)
    del message.data[-1:]
    with pytest.raises(ValueError, match="too few for 9x6"):
        read_points(message)
    message.fields = message.fields[:3]
    with pytest.raises(ValueError, match=r"x, y, z is not the layout of ~/points"):
        read_points(message)


def test_a_lens_bends_the_rays() -> None:
    lens = Camera(CAMERA.pinhole, Lens("plumb_bob", (-0.1, 0.01)))
    message = cloud(np.full((HEIGHT, WIDTH), 2, np.float32), lens)
    x, y = read(message, "x", 0, 0) / 2, read(message, "y", 0, 0) / 2
    squared = x * x + y * y
    bend = 1 - 0.1 * squared + 0.01 * squared**2
    assert x * bend == pytest.approx(-4.2 / 7, abs=1e-5)
    assert y * bend == pytest.approx(-2.4 / 8, abs=1e-5)
    narrow = Camera(CAMERA.pinhole, Lens("plumb_bob", (-0.6,)))  # the corners have no ray
    message = cloud(np.full((HEIGHT, WIDTH), 2, np.float32), narrow)
    assert all(math.isnan(read(message, axis, 0, 0)) for axis in "xyz")
    assert read(message, "z", 2, 4) == 2


def test_labels_are_of_the_type_that_pcl_and_rtabmap_read() -> None:
    types = {field.name: field.datatype for field in cloud(np.ones((HEIGHT, WIDTH))).fields}
    assert types["label"] == PointField.UINT32
    assert types["confidence"] == PointField.UINT8


def test_65535_means_no_measurement() -> None:
    depth = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    depth[2, 3] = 65535
    points = read_points(cloud(depth))
    assert np.isnan(points["z"][2, 3]) and np.isnan(points["x"][2, 3])
    assert np.isfinite(points["z"]).sum() == HEIGHT * WIDTH - 1


def test_selected_points_are_the_measured_ones_of_their_classes() -> None:
    depth = np.full((HEIGHT, WIDTH), 1.5, np.float32)
    depth[0] = np.nan
    whole = cloud(depth)
    points = read_points(whole)
    selected = selected_points(whole, [2, 7])
    expected = points[np.isin(LABELS, [2, 7]) & (np.arange(HEIGHT) > 0)[:, None]]
    assert 0 < len(expected) < HEIGHT * WIDTH
    assert (selected.height, selected.width) == (1, len(expected))
    assert selected.is_dense and selected.header == HEADER
    np.testing.assert_array_equal(read_points(selected)[0], expected)
    nothing = selected_points(whole, [])
    assert (nothing.width, len(nothing.data), nothing.row_step) == (0, 0, 0)
