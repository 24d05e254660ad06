"""Surface normals of depth images, and the gravity that they tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from room_depth import angle_between, normals_of, plane_depth, rooms, tensors, to_tensor
from sgnet_core.geometry.gravity import estimate_up
from sgnet_core.geometry.intrinsics import Intrinsics


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "sensor"])
def test_gravity_is_found_in_rooms(exact: bool) -> None:
    errors = []
    for sample in rooms():
        depth, intrinsics, up = tensors(sample, exact)
        errors.append(angle_between(estimate_up(*normals_of(depth, intrinsics)), up))
    assert np.median(errors) < 1
    assert np.mean(np.array(errors) < 3) >= 0.9


def test_a_pixel_alone_faces_the_camera() -> None:
    depth = torch.zeros(1, 1, 9, 9)
    depth[0, 0, 4, 4] = 2.0
    normals, measured = normals_of(depth, torch.tensor([[10.0, 10.0, 4.0, 4.0]]))
    torch.testing.assert_close(normals[0, :, 4, 4], torch.tensor([0.0, 0.0, -1.0]))
    empty, _ = normals_of(torch.zeros(1, 1, 9, 9), torch.tensor([[10.0, 10.0, 2.0, 2.0]]))
    torch.testing.assert_close(empty[0, :, 4, 4], torch.tensor([0.0, 0.0, -1.0]))
    assert measured.sum() == 1 and measured[0, 0, 4, 4] == 1


def test_noise_widens_the_window_and_edges_narrow_it() -> None:
    """A near board before a wall."""
    camera = Intrinsics(260.0, 260.0, 159.5, 119.5, 320, 240)
    board, wall = np.array([0.5, 0.3, -0.81]), np.array([-0.3, 0.2, -0.93])
    board, wall = board / np.linalg.norm(board), wall / np.linalg.norm(wall)
    noise = np.random.default_rng(1).normal(0, 0.001, (240, 320))
    depth = 1 / (1 / plane_depth(camera, wall, 3.0) + noise)
    near = 1 / (1 / plane_depth(camera, board, 1.2) + noise)
    depth[:, :160] = near[:, :160]
    normals, _ = normals_of(to_tensor(depth), camera.parameters())
    for columns, true in ((slice(8, 160), board), (slice(160, 312), wall)):
        cosine = np.einsum("c,chw->hw", true, normals[0, :, 8:-8, columns].double().numpy())
        error = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        assert np.median(error) < 1  # windows of 7x7 pixels leave 2.5 degrees
        beside = error[:, -4:-2] if columns.start == 8 else error[:, 2:4]
        assert np.median(beside) < 10  # 5x5 pixels; windows that mix both are 20 to 50 degrees off


def test_without_normals_up_stays_at_the_start() -> None:
    up = estimate_up(torch.zeros(2, 3, 4, 5), torch.zeros(2, 1, 4, 5))
    start = torch.tensor([0.0, -np.cos(np.pi / 12), -np.sin(np.pi / 12)]).float()
    torch.testing.assert_close(up, start.expand(2, 3))


def test_one_wall_leaves_up_in_its_plane() -> None:
    """A wall says that up is orthogonal to it, and nothing of roll: that stays as it was."""
    normal = torch.tensor([0.1, 0.2, -1.0])
    normal /= normal.norm()
    up = estimate_up(normal.view(1, 3, 1).expand(1, 3, 50), torch.ones(1, 1, 50))[0]
    assert float(up @ normal) == pytest.approx(0, abs=1e-3)
    assert float(up[1]) < -0.95


@pytest.mark.parametrize(
    ("pitch", "roll"), [(-25, 0), (-10, 20), (0, -35), (15, 40), (30, -30), (55, 0), (45, 15)]
)
def test_gravity_is_found_for_pitched_and_rolled_cameras(pitch: float, roll: float) -> None:
    """Positive pitch looks down."""
    p, r = np.radians([pitch, roll])
    up = np.array([np.sin(r) * np.cos(p), -np.cos(r) * np.cos(p), -np.sin(p)])
    side = np.cross(up, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    ahead = np.cross(side, up)
    rng = np.random.default_rng(0)
    counts = {tuple(up): 300, tuple(side): 300, tuple(ahead): 200, (0.5, -0.5, -0.7071): 40}
    normals = np.concatenate([np.tile(n, (k, 1)) for n, k in counts.items()])
    normals += rng.normal(0, 0.03, normals.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    found = estimate_up(torch.from_numpy(normals.T.copy())[None], torch.ones(1, 1, len(normals)))
    assert angle_between(found, up) < 1
