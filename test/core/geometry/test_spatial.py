"""Depth and 3D coordinates: validity, geometry, and what resize, crop and flip do to them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.points import depth_map, point_map, valid_depth
from sgnet_core.geometry.spatial import SPATIAL_CHANNELS, spatial_input

KINDS = ("depth", "points", "points_released", "hha")
MISSING = (0.0, -0.0, -1.5, math.nan, math.inf, -math.inf, 1e-30, 65_535.0, 3.4e38)


@st.composite
def cameras(draw: st.DrawFn, largest: int = 24) -> Intrinsics:
    """Any camera, the principal point off-center and even outside the image."""
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return Intrinsics(
        fx=draw(st.floats(0.3, 3)) * width,
        fy=draw(st.floats(0.3, 3)) * width,
        cx=draw(st.floats(-0.5, 1.5)) * width,
        cy=draw(st.floats(-0.5, 1.5)) * height,
        width=width,
        height=height,
    )


def random_depth(camera: Intrinsics, seed: int = 0, holes: float = 0.2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (1, 1, camera.height, camera.width)
    depth = torch.rand(size, generator=generator) * 7.5 + 0.5
    return torch.where(torch.rand(size, generator=generator) < holes, 0.0, depth)


def plane_depth(camera: Intrinsics, normal: tuple[float, float, float], distance: float) -> Tensor:
    """(1, 1, H, W) float64 meters of the plane n·P = −distance, n toward the camera."""
    n = np.asarray(normal, np.float64) / np.linalg.norm(normal)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    slope = n[0] * (u - camera.cx) / camera.fx + n[1] * (v - camera.cy) / camera.fy + n[2]
    return torch.from_numpy(-distance / slope)[None, None]


# Validity


def test_missing_values_of_every_kind_are_invalid() -> None:
    assert not valid_depth(torch.tensor(MISSING)).any()
    assert valid_depth(torch.tensor([0.01, 0.4, 10.0, 655.35])).all()


def test_a_sensors_own_limits_are_inclusive() -> None:
    depth = torch.tensor([[[[0.49, 0.5, 3.0, 8.0, 8.01]]]])
    assert valid_depth(depth, (0.5, 8.0)).flatten().tolist() == [False, True, True, True, False]
    cut = depth_map(depth, (0.5, 8.0))
    torch.testing.assert_close(cut.flatten(), torch.tensor([0, 0.5, 3.0, 8.0, 0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", MISSING)
def test_missing_values_of_every_kind_are_alike(kind: str, missing: float) -> None:
    camera = Intrinsics(30, 30, 15, 12, 33, 25)
    clean = plane_depth(camera, (0.1, -0.4, -1), 2.0).float()
    clean[..., 7:12, 9:20] = 0
    other = clean.clone()
    other[..., 7:12, 9:20] = missing
    expected = spatial_input(kind, clean, camera.parameters())
    got = spatial_input(kind, other, camera.parameters())
    assert expected is not None and got is not None
    assert torch.equal(got, expected)
    assert (got[..., 7:12, 9:20] == 0).all()
    there = clean[0, 0] > 0
    assert (got[0].abs().amax(0)[there] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", MISSING)
def test_missing_values_leave_gradients_finite(kind: str, missing: float) -> None:
    camera = Intrinsics(30, 30, 15, 12, 21, 17)
    depth = random_depth(camera)
    depth[depth == 0] = missing
    depth.requires_grad_()
    output = spatial_input(kind, depth, camera.parameters())
    assert output is not None
    output.square().sum().backward()
    assert depth.grad is not None and depth.grad.isfinite().all()
    assert (depth.grad[~valid_depth(depth)] == 0).all()
    assert (depth.grad != 0).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", MISSING)
def test_depth_that_is_missing_altogether_gives_zeros(kind: str, missing: float) -> None:
    output = spatial_input(kind, torch.full((2, 1, 9, 13), missing), torch.ones(2, 4))
    assert output is not None
    assert output.shape == (2, SPATIAL_CHANNELS[kind], 9, 13)
    assert (output == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 1), (3, 3), (17, 31), (121, 163), (243, 2)])
def test_any_size_works(kind: str, size: tuple[int, int]) -> None:
    height, width = size
    camera = Intrinsics(80, 80, width / 3, height / 2, width, height)
    depth = random_depth(camera, holes=0)
    output = spatial_input(kind, depth, camera.parameters())
    assert output is not None
    assert output.shape == (1, SPATIAL_CHANNELS[kind], height, width)
    assert output.isfinite().all()
    if kind != "hha":
        torch.testing.assert_close(output[:, -1:], depth)


# By name


def test_plain_networks_have_no_spatial_input() -> None:
    assert spatial_input("none", torch.ones(1, 1, 2, 2)) is None


@pytest.mark.parametrize("intrinsics", [None, torch.ones(1, 4)])
def test_an_unknown_name_is_refused_with_the_known_ones(intrinsics: Tensor | None) -> None:
    with pytest.raises(
        ValueError, match=r"none, depth, points, points_released, hha, features; got 'HHA'"
    ):
        spatial_input("HHA", torch.ones(1, 1, 2, 2), intrinsics)


@pytest.mark.parametrize("kind", ["points", "points_released", "hha"])
def test_missing_intrinsics_are_named(kind: str) -> None:
    with pytest.raises(ValueError, match="intrinsics"):
        spatial_input(kind, torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_of_a_batch_has_its_own_camera(kind: str) -> None:
    first, second = Intrinsics(30, 33, 15, 12, 33, 25), Intrinsics(60, 60, 3, 20, 33, 25)
    floor = plane_depth(first, (0.05, -1, -0.6), 1.4).float()
    wall = plane_depth(second, (0.3, 0.1, -1), 2.5).float()
    depth, intrinsics = (
        torch.cat((floor, wall)),
        torch.cat((first.parameters(), second.parameters())),
    )
    together = spatial_input(kind, depth, intrinsics)
    alone = [
        spatial_input(kind, d, k) for d, k in zip(depth.split(1), intrinsics.split(1), strict=True)
    ]
    assert together is not None
    torch.testing.assert_close(together, torch.cat([a for a in alone if a is not None]))


@pytest.mark.parametrize("kind", ["points", "points_released", "hha"])
def test_one_camera_serves_a_whole_batch(kind: str) -> None:
    camera = Intrinsics(30, 33, 15, 12, 33, 25)
    depth = torch.cat([random_depth(camera, seed) for seed in (1, 2)])
    one = spatial_input(kind, depth, camera.parameters())
    each = spatial_input(kind, depth, camera.parameters().expand(2, 4))
    assert one is not None and each is not None
    assert torch.equal(one, each)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_result_has_the_depths_type(kind: str, dtype: torch.dtype) -> None:
    camera = Intrinsics(30, 30, 15, 12, 33, 25)
    depth = plane_depth(camera, (0.0, -0.5, -1), 2.0)
    output = spatial_input(kind, depth.to(dtype), camera.parameters())
    exact = spatial_input(kind, depth, camera.parameters())
    assert output is not None and exact is not None
    assert output.dtype == dtype
    tolerance = {torch.float16: 0.02, torch.float32: 1e-3, torch.float64: 0.0}[dtype]
    # Half precision rounds the depth itself: 1 mm at 2 m, and planes tilt by it.
    error = (output.double() - exact).abs() / exact.abs().amax((2, 3), keepdim=True)
    assert error.median() <= tolerance


# 3D coordinates


@given(cameras(), st.integers(0, 1000))
@settings(max_examples=60)
def test_projecting_the_points_gives_back_the_pixels(camera: Intrinsics, seed: int) -> None:
    depth = random_depth(camera, seed)
    x, y, z = point_map(depth, camera.parameters())[0].double().numpy()
    there = z > 0
    v, u = np.nonzero(there)
    fx, fy, cx, cy = camera.parameters()[0].double().numpy()
    np.testing.assert_allclose((fx * x[there] / z[there]) + cx, u, rtol=0, atol=1e-4)
    np.testing.assert_allclose((fy * y[there] / z[there]) + cy, v, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(z, depth[0, 0].numpy())


@given(cameras(), st.data())
@settings(max_examples=60)
def test_crop_then_points_is_points_then_crop(camera: Intrinsics, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, camera.width - 1))
    top = data.draw(st.integers(0, camera.height - 1))
    width = data.draw(st.integers(1, camera.width - left))
    height = data.draw(st.integers(1, camera.height - top))
    depth = random_depth(camera).double()
    window = (..., slice(top, top + height), slice(left, left + width))
    cropped = point_map(depth[window], camera.cropped(left, top, width, height).parameters())
    torch.testing.assert_close(
        cropped, point_map(depth, camera.parameters())[window], rtol=1e-5, atol=1e-5
    )


@given(cameras())
@settings(max_examples=40)
def test_flip_mirrors_the_points(camera: Intrinsics) -> None:
    depth = random_depth(camera).double()
    mirrored = point_map(depth.flip(3), camera.flipped().parameters())
    expected = point_map(depth, camera.parameters()).flip(3) * torch.tensor([-1, 1, 1]).view(
        3, 1, 1
    )
    torch.testing.assert_close(mirrored, expected, rtol=1e-5, atol=1e-5)


@given(cameras())
@settings(max_examples=40)
def test_resize_keeps_the_points(camera: Intrinsics) -> None:
    """Downwards by 3, a pixel is the middle one of nine; upwards by 2, the mean of its four."""
    depth = random_depth(camera).double()
    points = point_map(depth, camera.parameters())
    tall, wide = camera.height, camera.width
    double = depth.repeat_interleave(2, 2).repeat_interleave(2, 3)
    larger = point_map(double, camera.resized(2 * wide, 2 * tall).parameters())
    mean = torch.nn.functional.avg_pool2d(larger, 2)
    torch.testing.assert_close(mean, points, rtol=1e-5, atol=1e-5)
    triple = Intrinsics(camera.fx, camera.fy, camera.cx, camera.cy, 3 * wide, 3 * tall)
    depth = random_depth(triple).double()
    smaller = point_map(depth[..., 1::3, 1::3], triple.resized(wide, tall).parameters())
    points = point_map(depth, triple.parameters())
    torch.testing.assert_close(smaller, points[..., 1::3, 1::3], rtol=1e-5, atol=1e-5)


def test_the_points_of_a_plane_lie_on_it() -> None:
    camera = Intrinsics(51.9, 52.3, 30.2, 20.7, 64, 48)
    normal = np.array([0.3, -0.4, -0.866])
    normal /= np.linalg.norm(normal)
    points = point_map(plane_depth(camera, tuple(normal), 2.3).float(), camera.parameters())
    offset = np.einsum("c,chw->hw", normal, points[0].double().numpy())
    np.testing.assert_allclose(offset, -2.3, atol=2e-5)


def test_the_released_convention_is_image_centered_and_counts_from_one() -> None:
    depth = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 0.0, 5.0]]]])
    points = spatial_input("points_released", depth, torch.tensor([[2.0, 4.0, 99.0, 99.0]]))
    assert points is not None
    # x = (column − 3/2)·z/fx with columns 1, 2, 3; y = (row − 2/2)·z/fy with rows 1, 2
    torch.testing.assert_close(
        points[0],
        torch.tensor(
            [
                [[-0.25, 0.5, 2.25], [-1.0, 0.0, 3.75]],
                [[0.0, 0.0, 0.0], [1.0, 0.0, 1.25]],
                [[1.0, 2.0, 3.0], [4.0, 0.0, 5.0]],
            ]
        ),
    )


def test_points_move_along_their_rays_with_the_depth() -> None:
    camera = Intrinsics(7.0, 6.0, 1.2, 0.7, 4, 3)
    depth = (torch.rand(2, 1, 3, 4, dtype=torch.float64) + 1).requires_grad_()
    assert torch.autograd.gradcheck(partial(point_map, intrinsics=camera.parameters()), (depth,))
