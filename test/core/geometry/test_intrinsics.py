"""Intrinsics follow the image through resize, crop and flip."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgnet_core.geometry.intrinsics import Intrinsics

NYU = Intrinsics(518.857, 519.469, 325.582, 253.736, 640, 480)

cameras = st.builds(
    Intrinsics,
    fx=st.floats(10, 2000),
    fy=st.floats(10, 2000),
    cx=st.floats(-500, 2000),
    cy=st.floats(-500, 2000),
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
)


def projected(camera: Intrinsics, point: tuple[float, float, float]) -> tuple[float, float]:
    x, y, z = point
    return camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy


def test_resize_keeps_image_edges_on_image_edges() -> None:
    half = NYU.resized(320, 240)
    assert (half.width, half.height) == (320, 240)
    assert (half.fx, half.fy) == (518.857 / 2, 519.469 / 2)
    # The left edge lies half a pixel before the center of pixel 0, at either size.
    assert half.cx + 0.5 == pytest.approx((325.582 + 0.5) / 2, abs=1e-12)
    assert half.cy + 0.5 == pytest.approx((253.736 + 0.5) / 2, abs=1e-12)


def test_the_middle_stays_the_middle_at_any_size() -> None:
    centered = Intrinsics(500, 500, 319.5, 239.5, 640, 480)
    for width, height in ((1, 1), (3, 7), (321, 241), (1280, 960)):
        small = centered.resized(width, height)
        assert small.cx == pytest.approx((width - 1) / 2, abs=1e-9)
        assert small.cy == pytest.approx((height - 1) / 2, abs=1e-9)


@given(cameras, st.integers(1, 2000), st.integers(1, 2000))
def test_resize_scales_pixel_positions_about_the_image_corner(
    camera: Intrinsics, width: int, height: int
) -> None:
    u, v = projected(camera, (0.3, -0.7, 2.0))
    u2, v2 = projected(camera.resized(width, height), (0.3, -0.7, 2.0))
    assert u2 == pytest.approx((u + 0.5) * width / camera.width - 0.5, rel=1e-9, abs=1e-6)
    assert v2 == pytest.approx((v + 0.5) * height / camera.height - 0.5, rel=1e-9, abs=1e-6)


@given(cameras, st.integers(1, 2000), st.integers(1, 2000))
def test_resize_there_and_back_is_the_identity(camera: Intrinsics, width: int, height: int) -> None:
    back = camera.resized(width, height).resized(camera.width, camera.height)
    numbers = [back.fx, back.fy, back.cx, back.cy]
    assert numbers == pytest.approx(
        [camera.fx, camera.fy, camera.cx, camera.cy], rel=1e-9, abs=1e-6
    )


def test_crop_moves_the_principal_point() -> None:
    window = NYU.cropped(100, 40, 224, 160)
    assert window == Intrinsics(518.857, 519.469, 225.582, 213.736, 224, 160)


def test_crop_may_reach_outside_the_image() -> None:
    window = NYU.cropped(-10, -20, 700, 520)
    assert (window.cx, window.cy) == pytest.approx((335.582, 273.736))
    assert (window.width, window.height) == (700, 520)


@given(cameras)
def test_flip_mirrors_the_scene(camera: Intrinsics) -> None:
    u, v = projected(camera, (0.3, -0.7, 2.0))
    assert projected(camera.flipped(), (-0.3, -0.7, 2.0)) == pytest.approx(
        (camera.width - 1 - u, v), rel=1e-9, abs=1e-6
    )


def test_flipping_twice_is_the_identity() -> None:
    assert NYU.flipped().flipped().cx == pytest.approx(NYU.cx, abs=1e-12)


@pytest.mark.parametrize("fov", [1.0, 57.0, 90.0, 170.0])
def test_field_of_view_spans_the_image_edges(fov: float) -> None:
    camera = Intrinsics.from_fov(640, 480, fov)
    left = math.degrees(math.atan((-0.5 - camera.cx) / camera.fx))
    right = math.degrees(math.atan((639.5 - camera.cx) / camera.fx))
    assert (left, right) == pytest.approx((-fov / 2, fov / 2), abs=1e-9)
    assert camera.fx == camera.fy
    assert (camera.cx, camera.cy) == (319.5, 239.5)


def test_matrix_is_read_back() -> None:
    k = NYU.matrix()
    assert k.dtype == np.float64
    np.testing.assert_array_equal(k, [[518.857, 0, 325.582], [0, 519.469, 253.736], [0, 0, 1]])
    assert Intrinsics.from_matrix(k, 640, 480) == NYU
    assert Intrinsics.from_matrix(list(k.flatten()), 640, 480) == NYU  # as in CameraInfo.k


def test_parameters_are_one_row_for_the_spatial_input() -> None:
    row = NYU.parameters()
    assert row.shape == (1, 4)
    assert row[0].tolist() == pytest.approx([518.857, 519.469, 325.582, 253.736], rel=1e-6)


def test_an_uncalibrated_camera_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="calibrate"):
        Intrinsics.from_matrix([0.0] * 9, 640, 480)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fx": 0.0},
        {"fy": -1.0},
        {"fx": math.nan},
        {"fy": math.inf},
        {"cx": math.nan},
        {"cy": -math.inf},
        {"width": 0},
        {"height": -3},
    ],
)
def test_impossible_cameras_are_refused(wrong: dict[str, float]) -> None:
    good = {"fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0, "width": 640, "height": 480}
    Intrinsics(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Intrinsics(**{**good, **wrong})  # type: ignore[arg-type]


def test_crops_and_sizes_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        NYU.cropped(0, 0, 0, 10)
    with pytest.raises(ValueError):
        NYU.resized(10, 0)
