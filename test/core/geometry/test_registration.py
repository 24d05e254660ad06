"""Depth registered to color, against the rule in plain Python and in float64 NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.geometry import registration
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera, Lens
from sgnet_core.geometry.registration import DepthRegistration

Array = npt.NDArray[Any]


def register(depth: Array, camera: Any, target: Any, pose: Array) -> Array:
    cameras = [c if isinstance(c, Camera) else Camera(c) for c in (camera, target)]
    meters = torch.from_numpy(np.asarray(depth, np.float32))
    return DepthRegistration(*cameras, pose)(meters).numpy()


def turned(*angles: float, shift: Any = (0.0, 0.0, 0.0)) -> Array:
    """(4, 4) pose: rotations about x, y, z in turn, and a shift in meters."""
    pose = np.eye(4)
    for axis, angle in enumerate(angles):
        turn, (i, j) = np.eye(4), [k for k in range(3) if k != axis]
        turn[[i, j], [i, j]] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        pose = pose @ turn
    pose[:3, 3] = shift
    return pose


def slow_registration(depth: Array, camera: Intrinsics, target: Intrinsics, pose: Array) -> Array:
    """The same rule, one pixel at a time in plain Python floats."""
    out = np.zeros((target.height, target.width))
    for v in range(camera.height):
        for u in range(camera.width):
            z = float(depth[v, u])
            if not 1e-3 <= z <= 1e3:
                continue

            def seen(du: float, dv: float, u: int = u, v: int = v, z: float = z) -> list[float]:
                ray = [(u + du - camera.cx) / camera.fx, (v + dv - camera.cy) / camera.fy, 1.0]
                x, y, w = (
                    sum(float(pose[i, j]) * ray[j] * z for j in range(3)) + float(pose[i, 3])
                    for i in range(3)
                )
                if w <= 0:
                    return [math.nan, math.nan, w]
                return [x / w * target.fx + target.cx, y / w * target.fy + target.cy, w]

            corners = [seen(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]
            center = seen(0, 0)
            if any(math.isnan(c[0]) for c in [*corners, center]):
                continue
            (left, right), (top, bottom) = (
                (
                    min(math.ceil(min(c[i] for c in corners)), math.floor(center[i] + 0.5)),
                    max(math.ceil(max(c[i] for c in corners)), math.floor(center[i] + 0.5) + 1),
                )
                for i in (0, 1)
            )
            if right - left > 32 or bottom - top > 32:
                continue
            for row in range(max(top, 0), min(bottom, target.height)):
                for column in range(max(left, 0), min(right, target.width)):
                    if out[row, column] == 0 or center[2] < out[row, column]:
                        out[row, column] = center[2]
    return out


def nearest_pixel_rule(
    depth: Array, camera: Intrinsics, target: Intrinsics, pose: Array, fill: bool = False
) -> Array:
    """Compute `depth_image_proc/register` in float64; ``fill`` is its fill_upsampling_holes."""
    v, u = np.nonzero(depth > 0)
    z = depth[v, u].astype(np.float64)
    out = np.full((target.height, target.width), np.inf)
    ends = []
    for offset in (-0.5, 0.5) if fill else (0.0,):
        rays = np.stack(
            [(u + offset - camera.cx) / camera.fx, (v + offset - camera.cy) / camera.fy]
        )
        x, y, w = pose[:3, :3] @ np.stack([rays[0] * z, rays[1] * z, z]) + pose[:3, 3:]
        column, row = x / w * target.fx + target.cx, y / w * target.fy + target.cy
        ends.append(np.stack([np.floor(column + 0.5), np.floor(row + 0.5), w]))
    (u1, v1, w1), (u2, v2, w2) = ends[0], ends[-1]
    inside = (u1 >= 0) & (v1 >= 0) & (u2 < target.width) & (v2 < target.height)
    for i in np.nonzero(inside)[0]:
        box = out[int(v1[i]) : int(v2[i]) + 1, int(u1[i]) : int(u2[i]) + 1]
        box[...] = np.minimum(box, (w1[i] + w2[i]) / 2)
    return np.where(np.isinf(out), 0, out)


def assert_within_a_pixel_and_a_millimeter(got: Array, expected: Array, border: int = 0) -> None:
    """Each value stands, within 1 mm, in the other image's 3x3 pixels around it.

    With a ``border``, measurements alone, and only those that are farther from the border.
    """
    inner = np.pad(np.ones([n - 2 * border for n in got.shape], bool), border)
    for one, other in ((got, expected), (expected, got)):
        padded = np.pad(other, 1, mode="edge")
        around = np.stack(
            [padded[i : i + one.shape[0], j : j + one.shape[1]] for i in range(3) for j in range(3)]
        )
        near = np.abs(around - one).min(0)[inner & ((one > 0) | (border == 0))] < 1e-3
        assert near.all() if border == 0 else near.mean() > 0.998


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.floats(0.3, 3),
    st.tuples(*[st.floats(-0.4, 0.4)] * 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
)
def test_registration_equals_the_plain_rule(
    seed: int, zoom: float, angles: tuple[float, ...], shift: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.choice([0.0, np.nan, 0.8, 1.5, 3.0], (9, 13)) * rng.uniform(0.9, 1.1, (9, 13))
    camera = Intrinsics(11.0, 12.0, 6.3, 4.1, 13, 9)
    target = Intrinsics(11.0 * zoom, 11.5 * zoom, 7.7, 6.2, 17, 14)
    pose = turned(*angles, shift=shift)
    got = register(depth, camera, target, pose)
    assert got.dtype == np.float32
    expected = slow_registration(np.nan_to_num(depth), camera, target, pose)
    assert_within_a_pixel_and_a_millimeter(got, expected)
    # what float32 cannot tell from the middle between two pixels may go to either
    assert (np.abs(got - expected) < 1e-5 * expected.max(initial=1)).mean() > 0.97


def scene(camera: Intrinsics) -> Array:
    """A wall, a nearer box with a thin pole before it, and holes."""
    depth = np.tile(np.linspace(2.0, 3.5, camera.width), (camera.height, 1))
    depth[20:60, 30:90] = 1.2
    depth[10:80, 57] = 0.8
    depth[np.random.default_rng(1).random(depth.shape) < 0.05] = 0
    return depth


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_it_is_the_register_nodes_rule_where_nothing_is_upsampled(scale: float) -> None:
    camera = Intrinsics.from_fov(120, 90, 70)
    target = camera.resized(round(120 * scale), round(90 * scale))
    pose = turned(shift=(0.0501, 0.0007, -0.0003))
    depth = scene(camera)
    # Surfaces nearer to the color camera grow: there the square takes what it covers.
    flat = np.where((depth > 1.9) | (depth == 0), depth, 0)
    got = register(flat, camera, target, turned(shift=(0.0501, 0.0007, 0.0)))
    expected = nearest_pixel_rule(flat, camera, target, turned(shift=(0.0501, 0.0007, 0.0)))
    assert (expected > 0).sum() > 1000
    np.testing.assert_allclose(got, expected, atol=1e-6)
    got = register(depth, camera, target, pose)
    assert_within_a_pixel_and_a_millimeter(got, nearest_pixel_rule(depth, camera, target, pose))


@pytest.mark.parametrize("scale", [1.5, 2.7])
def test_upsampled_it_is_the_filling_register_node_within_a_pixel(scale: float) -> None:
    camera = Intrinsics.from_fov(120, 90, 70)
    target = camera.resized(round(120 * scale), round(90 * scale))
    pose = turned(0.01, -0.02, 0.0, shift=(0.05, 0.002, 0.004))
    depth = scene(camera)
    got = register(depth, camera, target, pose)
    filled = nearest_pixel_rule(depth, camera, target, pose, fill=True)
    inner = (slice(8, -8), slice(8, -8))  # its boxes that touch the border vanish
    assert_within_a_pixel_and_a_millimeter(got, filled, border=8)  # its wider boxes close holes
    sparse = nearest_pixel_rule(depth, camera, target, pose)
    taken = (sparse > 0) & (got > 0)
    assert (got[taken] <= sparse[taken] + 1e-4).all(), "what is nearer wins"
    assert (got[sparse > 0] > 0).all()
    assert (got[inner] > 0).mean() > (sparse[inner] > 0).mean() * 1.5


def test_registration_onto_itself_changes_nothing() -> None:
    camera = Intrinsics(11.0, 12.0, 6.3, 4.1, 13, 9)
    depth = np.random.default_rng(0).choice([0.0, 0.8, 1.5], (9, 13)).astype(np.float32)
    np.testing.assert_array_equal(register(depth, camera, camera, np.eye(4)), depth)
    lens = Camera(
        Intrinsics(95.0, 97.0, 60.5, 44.0, 121, 90), Lens("plumb_bob", (-0.2, 0.05, 0.001))
    )
    depth = np.random.default_rng(0).choice([0.0, 0.8, 1.5], (90, 121)).astype(np.float32)
    np.testing.assert_array_equal(register(depth, lens, lens, np.eye(4)), depth)


def test_registration_leaves_no_grid_of_holes_in_a_finer_image() -> None:
    """A wall seen by a coarse depth camera, a little turned, fills the color image."""
    camera = Intrinsics.from_fov(40, 30, 90)
    target = Intrinsics.from_fov(160, 120, 60)
    wall = register(np.full((30, 40), 2.0), camera, target, turned(0, 0, 0.02))
    assert (wall == 2).all()


def test_the_nearer_surface_hides_the_farther_one() -> None:
    camera = Intrinsics(10.0, 10.0, 4.5, 2.0, 10, 5)
    depth = np.full((5, 10), 2.0)
    depth[:, 3] = 1.0
    pose = turned(shift=(0.2, 0, 0))  # 1 pixel at 2 m, 2 pixels at 1 m
    got = register(depth, camera, camera, pose)
    np.testing.assert_array_equal(got[2], [0, 2, 2, 2, 0, 1, 2, 2, 2, 2])


def test_a_thin_object_survives_a_coarser_image() -> None:
    camera = Intrinsics.from_fov(120, 90, 70)
    depth = np.full((90, 120), 3.0)
    depth[:, 41] = 1.0
    got = register(depth, camera, camera.resized(40, 30), np.eye(4))
    assert ((got == 1).sum(1) == 1).all()


def test_both_lenses_are_gone_through() -> None:
    """A plane tilted against both cameras: the registered depth lies on it, along true rays."""
    pinhole = Intrinsics(95.0, 97.0, 60.5, 44.0, 121, 90)
    depth_camera = Camera(pinhole, Lens("plumb_bob", (-0.28, 0.09, 0.002, -0.001)))
    rgb_camera = Camera(
        Intrinsics(80.0, 81.0, 70.0, 50.0, 140, 100), Lens("equidistant", (-0.02, 0.01))
    )
    pose = turned(0.05, -0.03, 0.02, shift=(0.05, 0.01, -0.02))
    normal, distance = np.array([0.3, -0.2, 1.0]), 2.0  # of the plane n·p = d, depth camera's frame
    rays = depth_camera.rays().numpy()
    depth = distance / (normal[0] * rays[0] + normal[1] * rays[1] + normal[2])
    got = register(depth, depth_camera, rgb_camera, pose)
    turned_normal = pose[:3, :3] @ normal
    seen = rgb_camera.rays().numpy()
    expected = (distance + turned_normal @ pose[:3, 3]) / (
        turned_normal[0] * seen[0] + turned_normal[1] * seen[1] + turned_normal[2]
    )
    filled = got > 0
    assert filled[25:75, 35:105].all()
    # half a pixel of the plane's slope
    assert np.abs(got - expected)[filled].max() < 0.03
    straight = register(depth, Camera(pinhole), Camera(rgb_camera.pinhole), pose)
    assert np.abs(straight - expected)[(straight > 0) & filled].max() > 0.05


def test_pieces_of_any_size_give_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Intrinsics.from_fov(60, 45, 70)
    target, pose = camera.resized(200, 150), turned(0.1, 0.0, 0.2, shift=(0.1, 0.0, 0.1))
    depth = scene(Intrinsics.from_fov(120, 90, 70))[::2, ::2]
    whole = register(depth, camera, target, pose)
    for chunk in (1, 700, 16_000):
        monkeypatch.setattr(registration, "_CHUNK", chunk)
        np.testing.assert_array_equal(register(depth, camera, target, pose), whole)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 1e-9, 1e30])
def test_nothing_measured_gives_nothing(value: float) -> None:
    camera = Intrinsics(10.0, 10.0, 4.5, 2.0, 10, 5)
    for pose in (np.eye(4), turned(shift=(0, 0, 1e20)), turned(shift=(0, 0, -5))):
        assert (register(np.full((5, 10), value), camera, camera, pose) == 0).all()


def test_depth_of_the_wrong_size_is_refused() -> None:
    camera = Intrinsics(10.0, 10.0, 4.5, 2.0, 10, 5)
    with pytest.raises(ValueError, match="depth is 5x10, but its intrinsics are for 10x5"):
        register(np.zeros((10, 5)), camera, camera, np.eye(4))
