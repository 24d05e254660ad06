"""HHA: published encoding, an independent implementation, exact rooms, planes, degenerate input."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from room_depth import angle_between, plane_depth, rooms, tensors, to_tensor
from sgnet_core.geometry.hha import hha
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.normals import cell_size

WALL, FLOOR, CEILING = 0, 1, 21
STEP = 6  # between the pixels that are compared with the independent implementation
LEVEL = (0.0, -1.0, 0.0)  # up, of a camera that looks at the horizon
Array = NDArray[np.float64]


# The independent implementation: float64, one pixel at a time, least squares by LAPACK.


def reference_points(depth: Array, camera: Intrinsics) -> Array:
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)])
    return rays.transpose(1, 2, 0) * depth[..., None]


def reference_normals(points: Array, step: int) -> Array:
    """Normals toward the camera at every `step`-th pixel, of images up to 359 rows.

    a·x/z + b·y/z + c = 1/z by lstsq in windows of three widths, of which the one whose residual's
    variance over its pixels is least.
    """
    height, width, _ = points.shape
    result = np.full((height, width, 3), np.nan)
    for v in range(0, height, step):
        for u in range(0, width, step):
            if points[v, u, 2] <= 0:
                continue
            least = np.inf
            for first, last in ((-2, 3), (-4, 6), (-8, 10)):  # the wider ones around 2x2 pixels
                j, i = (v, u) if first == -2 else (v // 2 * 2, u // 2 * 2)
                window = points[max(0, j + first) : j + last, max(0, i + first) : i + last].reshape(
                    -1, 3
                )
                p = window[window[:, 2] > 0]
                n, _, rank, _ = np.linalg.lstsq(p / p[:, 2:], 1 / p[:, 2], rcond=None)
                residual = np.mean((p / p[:, 2:] @ n - 1 / p[:, 2]) ** 2) + 1e-8
                if rank == 3 and len(p) > 3 and residual / (len(p) - 3) < least:
                    least = residual / (len(p) - 3)
                    result[v, u] = -n / np.linalg.norm(n)
    return result[::step, ::step]


def reference_up(normals: Array) -> Array:
    n = normals.reshape(-1, 3)
    n = n[np.isfinite(n[:, 0])]
    up = np.array([0, -np.cos(np.pi / 12), -np.sin(np.pi / 12)])
    for threshold in (45, 15):
        for _ in range(5):
            along = np.abs(n @ up)
            floors = n[along > np.cos(np.radians(threshold))]
            walls = n[along < np.sin(np.radians(threshold))]
            vectors = np.linalg.eigh(walls.T @ walls - floors.T @ floors)[1]
            up = vectors[:, 0] * np.sign(vectors[:, 0] @ up)
    return up


def reference_hha(depth: Array, camera: Intrinsics, step: int) -> tuple[Array, Array]:
    """(3, h, w) at every `step`-th pixel, NaN where undefined; and up."""
    points = reference_points(depth, camera)
    normals = reference_normals(points, step)
    up = reference_up(normals)
    angle = np.degrees(np.arccos(np.clip(normals @ up, -1, 1)))
    height = np.where(depth > 0, points @ up * 100, np.nan)
    lowest = np.nanpercentile(height, 1)
    height -= lowest if lowest <= -90 else -130
    with np.errstate(divide="ignore"):
        disparity = 31000 / np.maximum(depth * 100, 100)
    encoded = np.stack([disparity[::step, ::step], height[::step, ::step], angle + 128 - 90])
    return np.clip(encoded, 0, 255), up


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "sensor"])
@pytest.mark.parametrize("room", [0, 1, 2])
def test_agrees_with_an_independent_implementation(room: int, exact: bool) -> None:
    sample = rooms()[room]
    depth, intrinsics, _ = tensors(sample, exact)
    expected, _ = reference_hha(depth[0, 0].double().numpy(), sample.intrinsics, step=STEP)
    ours = hha(depth, intrinsics)[0, :, ::STEP, ::STEP].double().numpy()
    there = np.isfinite(expected).all(0) & (depth[0, 0, ::STEP, ::STEP].numpy() > 0)
    assert there.mean() > 0.5
    error = np.abs(ours - expected)[:, there]
    assert error[0].max() < 1e-3  # disparity
    assert np.median(error[1]) <= 3  # cm: the two estimates of up differ a little
    assert np.median(error[2]) <= 0.5  # degrees


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "sensor"])
@pytest.mark.parametrize("room", [3, 4])
def test_with_up_given_the_angles_are_those_of_the_independent_fit(room: int, exact: bool) -> None:
    sample = rooms()[room]
    depth, intrinsics, up = tensors(sample, exact)
    points = reference_points(depth[0, 0].double().numpy(), sample.intrinsics)
    normals = reference_normals(points, STEP)
    expected = np.degrees(np.arccos(np.clip(normals @ up[0].double().numpy(), -1, 1)))
    ours = hha(depth, intrinsics, up)[0, 2, ::STEP, ::STEP].double().numpy() - 38
    error = np.abs(ours - expected)[np.isfinite(expected)]
    assert np.percentile(error, 95) < 0.2


# Rooms, where gravity, height and the level surfaces are known exactly


@pytest.mark.parametrize("height", [240, 480])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "sensor"])
@pytest.mark.parametrize("given_up", [True, False], ids=["given", "estimated"])
def test_angle_and_height_are_right_in_rooms(given_up: bool, exact: bool, height: int) -> None:
    true_angle = {FLOOR: 0.0, WALL: 90.0, CEILING: 180.0}
    angle_errors, height_errors = [], []
    for sample in rooms(height, 10 if height == 240 else 5):
        depth, intrinsics, up = tensors(sample, exact)
        encoded = hha(depth, intrinsics, up if given_up else None)[0].numpy()
        valid = depth[0, 0].numpy() > 0
        for label, angle in true_angle.items():
            surface = valid & (sample.labels == label)
            angle_errors.append(np.abs(encoded[2][surface] - 38 - angle))
        if sample.camera_height is not None and sample.camera_height >= 0.9:
            points = reference_points(sample.depth_exact.astype(np.float64), sample.intrinsics)
            meters = points @ sample.up + sample.camera_height
            in_range = valid & (meters < 2.5)
            height_errors.append(np.abs(encoded[1] - 100 * meters)[in_range])
    assert np.median(np.concatenate(angle_errors)) <= (0.5 if exact else 2)
    assert len(height_errors) >= 2
    assert np.median(np.concatenate(height_errors)) <= 3  # cm


# The published encoding


def corridor(camera_height: float, distance: float) -> tuple[Tensor, Intrinsics]:
    """A level camera before a wall, above a floor."""
    camera = Intrinsics(100.0, 100.0, 79.5, 59.5, 160, 120)
    floor = plane_depth(camera, np.array(LEVEL), camera_height)
    wall = plane_depth(camera, np.array([0.0, 0.0, -1.0]), distance)
    return to_tensor(np.minimum(floor, wall)), camera


@pytest.mark.parametrize("up", [None, LEVEL])
def test_values_are_those_of_the_published_encoding(up: tuple[float, ...] | None) -> None:
    depth, camera = corridor(camera_height=1.2, distance=4.0)
    given_up = None if up is None else torch.tensor([up])
    disparity, height, angle = hha(depth, camera.parameters(), given_up)[0]
    # Estimated up is a fraction of a degree off: planes near the corner mix floor and wall.
    degrees, cm = (0.5, 2.0) if up is None else (0.1, 0.1)
    # On the wall, 20 rows above the principal point: z = 4 m, y = −19.5·4/100 m.
    torch.testing.assert_close(disparity[40, 80].item(), 77.5)
    assert height[40, 80].item() == pytest.approx(120 + 78, abs=cm)
    assert angle[40, 80].item() == pytest.approx(128, abs=degrees)
    # On the floor, row 110: z = 1.2·100/50.5 m.
    assert disparity[110, 20].item() == pytest.approx(310 * 50.5 / 120, rel=1e-5)
    assert height[110, 20].item() == pytest.approx(0, abs=cm)
    assert angle[110, 20].item() == pytest.approx(38, abs=degrees)


def test_a_ceiling_is_at_218() -> None:
    camera = Intrinsics(100.0, 100.0, 79.5, 59.5, 160, 120)
    ceiling = plane_depth(camera, np.array([0.0, 1.0, 0.0]), 1.1)
    encoded = hha(to_tensor(ceiling), camera.parameters(), torch.tensor([LEVEL]))[0]
    assert encoded[2, 10, 80].item() == pytest.approx(218, abs=0.2)
    assert encoded[1, 10, 80].item() == pytest.approx(130 + 110, abs=0.1)  # no ground in view


def test_values_saturate_at_0_and_255() -> None:
    depth, camera = corridor(camera_height=1.2, distance=30.0)
    near, _ = corridor(camera_height=1.2, distance=0.5)
    up = torch.tensor([LEVEL])
    assert hha(depth, camera.parameters(), up)[0, 1, 0, 0] == 255  # 30 m off, 17.9 m up
    assert (hha(near, camera.parameters(), up)[0, 0] == 255).all()


def test_ground_out_of_view_is_assumed_1_3_meters_below() -> None:
    depth, camera = corridor(camera_height=0.6, distance=4.0)
    height = hha(depth, camera.parameters(), torch.tensor([LEVEL]))[0, 1]
    assert height[110, 20].item() == pytest.approx(70, abs=0.2)


def test_a_few_outliers_below_the_floor_do_not_move_the_ground() -> None:
    depth, camera = corridor(camera_height=1.2, distance=4.0)
    depth[0, 0, 100:110:3, ::40] *= 3
    height = hha(depth, camera.parameters(), torch.tensor([LEVEL]))[0, 1]
    assert height[117, 20].item() == pytest.approx(0, abs=0.5)


@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(0, 1))
@settings(max_examples=30)
def test_any_depth_stays_within_0_and_255(seed: int, scale: float, holes: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(2, 1, 19, 23, generator=generator) * scale
    depth[torch.rand(depth.shape, generator=generator) < holes] = float("nan")
    encoded = hha(depth, torch.tensor([[20.0, 22.0, 9.0, 14.0]]))
    assert encoded.isfinite().all()
    assert encoded.min() >= 0 and encoded.max() <= 255
    valid = (depth >= 1e-3).expand_as(encoded)
    assert (encoded[~valid] == 0).all()
    assert (encoded[:, ::2][valid[:, ::2]] > 0).all()  # disparity and angle of a measurement


# Planes


directions = st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, -0.2))


@given(directions, directions, st.integers(0, 100))
@settings(max_examples=40)
def test_the_angle_of_a_plane_is_known_everywhere(
    normal: tuple[float, ...], up: tuple[float, ...], seed: int
) -> None:
    """Border pixels and pixels beside holes included."""
    camera = Intrinsics(60.0, 64.0, 20.0, 30.0, 41, 33)
    n, u = (np.array(x) / np.linalg.norm(x) for x in (normal, up))
    depth = plane_depth(camera, n, 2.0)
    holes = np.random.default_rng(seed).random(depth.shape) < 0.3
    depth[holes | (depth > 20)] = 0
    encoded = hha(to_tensor(depth), camera.parameters(), torch.tensor(u)[None])
    there = depth > 0
    error = np.abs(encoded[0, 2].numpy() - 38 - angle_between(n, u))[there]
    assert np.percentile(error, 90) < 0.3 if there.sum() > 50 else True


@pytest.mark.parametrize(("height", "width"), [(401, 67), (360, 50), (603, 41)])
def test_larger_images_have_cells_of_several_pixels(height: int, width: int) -> None:
    """Two walls that meet at right angles, of which the left one has holes."""
    camera = Intrinsics(300.0, 310.0, width / 3, height * 0.6, width, height)
    up = np.array([0.1, -0.9, 0.3]) / np.linalg.norm([0.1, -0.9, 0.3])
    left, right = np.array([0.6, 0.0, -0.8]), np.array([-0.8, 0.0, -0.6])
    depths = [plane_depth(camera, left, 2.0), plane_depth(camera, right, 2.0)]
    depth = np.minimum(*depths)
    expected = np.where(depths[0] < depths[1], angle_between(left, up), angle_between(right, up))
    depth[np.random.default_rng(0).random(depth.shape) < 0.3 * (depths[0] < depths[1])] = 0
    encoded = hha(to_tensor(depth), camera.parameters(), torch.from_numpy(up)[None])[0, 2]
    assert cell_size(height) > 1
    error = np.abs(encoded.numpy() - 38 - expected)[depth > 0]
    assert np.percentile(error, 75) < 0.1


# Up


def test_a_given_up_needs_no_unit_length() -> None:
    sample = rooms()[0]
    depth, intrinsics, up = tensors(sample)
    torch.testing.assert_close(
        hha(depth, intrinsics, 9.81 * up), hha(depth, intrinsics, up), atol=0.01, rtol=0
    )


# Symmetry, batches, repetition, gradients


def test_a_mirrored_image_has_the_mirrored_hha() -> None:
    sample = rooms()[1]
    depth, intrinsics, up = tensors(sample, exact=False)
    mirrored = hha(
        depth.flip(3), sample.intrinsics.flipped().parameters(), up * torch.tensor([-1.0, 1, 1])
    )
    error = (mirrored.flip(3) - hha(depth, intrinsics, up)).abs()
    assert error.quantile(0.99) < 0.2


def test_a_batch_is_its_images() -> None:
    samples = [tensors(s, exact=False) for s in rooms()[:3]]
    depth, intrinsics = (torch.cat([s[i] for s in samples]) for i in (0, 1))
    together = hha(depth, intrinsics)
    for i, (d, k, _) in enumerate(samples):
        torch.testing.assert_close(together[i : i + 1], hha(d, k), atol=0.05, rtol=0)


def test_the_same_depth_gives_the_same_bits() -> None:
    depth, intrinsics, _ = tensors(rooms()[0], exact=False)
    assert torch.equal(hha(depth, intrinsics), hha(depth.clone(), intrinsics.clone()))


def test_autocast_does_not_round_it() -> None:
    depth, intrinsics, _ = tensors(rooms()[0])
    with torch.autocast("cpu", torch.bfloat16):
        cast = hha(depth, intrinsics)
    assert torch.equal(cast, hha(depth, intrinsics))


def test_gradients_are_those_of_the_function() -> None:
    generator = torch.Generator().manual_seed(3)
    depth = torch.rand(1, 1, 5, 6, generator=generator, dtype=torch.float64) + 2
    depth[0, 0, 2, 3] = 0  # a hole stays a hole under the check's small steps
    function = partial(
        hha, intrinsics=torch.tensor([[6.0, 15.0, 2.5, 2.0]]), up=torch.tensor([[0.1, -0.9, 0.2]])
    )
    # 2..3 m, and nothing 0.9 m below the camera: nothing saturates, and the ground stays put.
    assert torch.autograd.gradcheck(function, (depth.requires_grad_(),))
