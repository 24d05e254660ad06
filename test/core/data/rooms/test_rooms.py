"""Procedural rooms: exact geometry and labels, plausible depth, reproducible frames."""

from __future__ import annotations

import hashlib
import itertools
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from sgnet_core.data.rooms import CLASSES, Rooms, RoomTour
from sgnet_core.data.rooms.classes import CABINET, CEILING, FLOOR, WALL
from sgnet_core.data.rooms.layout import compose
from sgnet_core.data.rooms.materials import Palette
from sgnet_core.data.rooms.pose import Pose, PoseChecker, pose_at, random_intrinsics, random_pose
from sgnet_core.data.rooms.raycast import Solids, cast
from sgnet_core.data.rooms.render import Renderer
from sgnet_core.data.rooms.scene import BOX, ELLIPSOID, Builder, Scene
from sgnet_core.data.rooms.tour import CameraPath
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics

Array = NDArray[np.float64]
SIZE = (48, 64)
CPU = torch.device("cpu")


def digest(sample: Sample) -> str:
    """One hash of a sample's images, intrinsics and camera height."""
    h = hashlib.sha256()
    for image in (sample.rgb, sample.depth, sample.labels, sample.depth_exact):
        assert image is not None
        h.update(image.tobytes())
    h.update(repr((sample.intrinsics, sample.camera_height)).encode())
    return h.hexdigest()


@pytest.fixture(scope="module")
def frames() -> list[Sample]:
    return [Rooms(7, 12, SIZE)[i] for i in range(12)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def room(index: int, seed: int = 7) -> tuple[Scene, Intrinsics, Pose]:
    """Return the frame that `Rooms(seed, ...)[index]` renders."""
    rng = np.random.default_rng((seed, index))
    scene = compose(rng)
    camera = random_intrinsics(rng, *SIZE)
    return scene, camera, random_pose(scene, rng)


def points_of(sample: Sample) -> Array:
    """(H, W, 3) camera-frame points of the exact depth."""
    k = sample.intrinsics
    v, u = np.mgrid[: k.height, : k.width].astype(np.float64)
    z = np.asarray(sample.depth_exact, np.float64)
    return np.stack([(u - k.cx) / k.fx * z, (v - k.cy) / k.fy * z, z], -1)


# Reproducibility -------------------------------------------------------------------------------


def test_frames_depend_on_seed_and_index_alone(frames: list[Sample]) -> None:
    again = Rooms(7, 3, SIZE)
    assert digest(again[2]) == digest(frames[2])  # whatever came before, whatever the length
    assert len({digest(f) for f in frames}) == len(frames)
    assert digest(Rooms(8, 3, SIZE)[2]) != digest(frames[2])


def test_frames_are_the_same_in_another_process(frames: list[Sample]) -> None:
    code = (
        "import sys, pickle, torch; from sgnet_core.data.rooms import Rooms;"
        "torch.set_num_threads(1);"
        f"sys.stdout.buffer.write(pickle.dumps(Rooms(7, 12, {SIZE})[4]))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert digest(pickle.loads(out)) == digest(frames[4])


def test_frames_are_the_same_in_loader_workers(frames: list[Sample]) -> None:
    rooms: Any = Rooms(7, 6, SIZE)
    loader: DataLoader[Any] = DataLoader(rooms, batch_size=None, num_workers=2)
    assert [digest(s) for s in loader] == [digest(f) for f in frames[:6]]


def test_rooms_and_samples_can_be_pickled(frames: list[Sample]) -> None:
    rooms = pickle.loads(pickle.dumps(Rooms(7, 12, SIZE)))
    assert digest(pickle.loads(pickle.dumps(rooms[1]))) == digest(frames[1])
    tour = RoomTour(1, SIZE, rate_hz=5)
    assert digest(next(iter(pickle.loads(pickle.dumps(tour))))) == digest(next(iter(tour)))


# Geometry --------------------------------------------------------------------------------------


def test_layout_of_a_sample(frames: list[Sample]) -> None:
    for f in frames:
        assert f.rgb.shape == (*SIZE, 3) and f.rgb.dtype == np.uint8
        assert f.depth.shape == SIZE and f.depth.dtype == np.float32
        assert f.labels.shape == SIZE and f.labels.dtype == np.uint8
        assert (f.intrinsics.height, f.intrinsics.width) == SIZE
        assert set(np.unique(f.labels)) <= set(CLASSES)
        assert 15 < f.rgb.mean() < 235 and f.rgb.std() > 8


def test_floor_lies_at_height_zero_and_the_ceiling_is_level(frames: list[Sample]) -> None:
    seen = 0
    for f in frames:
        assert f.up is not None and f.camera_height is not None
        assert np.linalg.norm(f.up) == pytest.approx(1, abs=1e-6)
        height = points_of(f) @ f.up.astype(np.float64) + f.camera_height
        assert np.abs(height[f.labels == FLOOR]).max(initial=0) < 1e-4
        ceiling = height[f.labels == CEILING]
        if len(ceiling):
            assert np.ptp(ceiling) < 1e-4 and 2.3 <= ceiling[0] <= 3.0
        seen += int((f.labels == FLOOR).any()) + int(len(ceiling) > 0)
    assert seen >= 10


def test_shell_pixels_lie_on_the_planes_of_their_faces(frames: list[Sample]) -> None:
    for i in range(6):
        scene, camera, pose = room(i)
        _, index = cast(Solids.of(scene, CPU), pose.view(camera, CPU))
        world = points_of(frames[i]) @ pose.rotation.T + pose.position
        face = index.numpy().reshape(SIZE) - len(scene.kind)
        for k in range(6):
            plane = scene.size[k // 2] if k % 2 else 0.0
            assert np.abs(world[face == k][:, k // 2] - plane).max(initial=0) < 1e-4
        assert set(frames[i].labels[(face >= 0) & (face < 4)].tolist()) <= {WALL}
        # Nothing is outside of the room.
        assert (world > -1e-4).all() and (world < scene.size + 1e-4).all()


def brute_force(scene: Scene, camera: Intrinsics, pose: Pose) -> tuple[Array, NDArray[np.int64]]:
    """Depth and label of every pixel by testing all faces of all primitives in float64."""
    v, u = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ pose.rotation.T
    depth, label = np.full(len(rays), np.inf), np.full(len(rays), -1)

    def offer(t: Array, hit: NDArray[np.bool_], name: int) -> None:
        nearer = hit & (t > 0.05) & (t < depth)
        depth[nearer], label[nearer] = t[nearer], name

    with np.errstate(all="ignore"):
        for axis, side in itertools.product(range(3), range(2)):
            t = (scene.size[axis] * side - pose.position[axis]) / rays[:, axis]
            at = pose.position + t[:, None] * rays
            inside = ((at > -1e-9) & (at < scene.size + 1e-9)).all(1)
            offer(t, inside, (WALL, WALL, (FLOOR, CEILING)[side])[axis])
        for i in range(len(scene.kind)):
            to_unit = scene.rotation[i].T / scene.half[i][:, None]
            o, d = to_unit @ (pose.position - scene.center[i]), rays @ to_unit.T
            for t, hit in _surfaces(int(scene.kind[i]), float(scene.taper[i]), o, d):
                offer(t, hit, int(scene.label[i]))
    return depth, label


def _surfaces(kind: int, taper: float, o: Array, d: Array) -> list[tuple[Array, NDArray[np.bool_]]]:
    """Where rays o + t d, (N, 3), enter a unit shape, per face: t and whether it counts."""
    if kind == BOX:
        found = []
        for axis in range(3):
            t = (-np.sign(d[:, axis]) - o[axis]) / d[:, axis]  # the face that looks at the ray
            at = np.delete(o + t[:, None] * d, axis, 1)
            found.append((t, (np.abs(at) <= 1).all(1)))
        return found
    if kind == ELLIPSOID:
        closest = -(d @ o) / (d * d).sum(1)
        gap = 1 - ((o + closest[:, None] * d) ** 2).sum(1)
        return [(closest - np.sqrt(gap / (d * d).sum(1)), gap >= 0)]
    found = []
    slope = (taper - 1) / 2  # radius(z) = 1 + slope (z + 1)
    r = 1 + slope * (o[2] + 1)
    a = d[:, 0] ** 2 + d[:, 1] ** 2 - slope**2 * d[:, 2] ** 2
    b = 2 * (o[0] * d[:, 0] + o[1] * d[:, 1] - slope * r * d[:, 2])
    c = o[0] ** 2 + o[1] ** 2 - r * r
    for sign in (-1, 1):
        t = (-b + sign * np.sqrt(b * b - 4 * a * c)) / (2 * a)
        found.append((t, np.abs(o[2] + t * d[:, 2]) <= 1))
        t = (sign - o[2]) / d[:, 2]
        at = o[:2] + t[:, None] * d[:, :2]
        found.append((t, np.hypot(at[:, 0], at[:, 1]) <= (taper if sign > 0 else 1)))
    return found


@pytest.mark.parametrize("index", range(6))
def test_depth_and_labels_agree_with_a_brute_force_ray_test(
    frames: list[Sample], index: int
) -> None:
    depth, label = brute_force(*room(index))
    exact = np.asarray(frames[index].depth_exact).reshape(-1)
    off = np.abs(exact - depth) > 1e-3
    # float32 may decide otherwise where a ray grazes a silhouette.
    assert off.sum() <= 2
    assert (frames[index].labels.reshape(-1) != label).sum() <= 2


def test_a_known_box_projects_to_its_pixels() -> None:
    b = Builder(np.random.default_rng(0), (6.0, 5.0, 2.5), Palette(np.random.default_rng(0)))
    paint = b.material(b.palette.paint((0.5, 0.5, 0.5)))
    b.box((3.0, 3.0, 1.1), (1.0, 0.6, 0.8), paint, CABINET)
    b.lights.append((3.0, 1.0, 2.3, 1.0, 1.0, 1.0))
    scene = b.scene((paint,) * 6)
    camera = Intrinsics(fx=61.0, fy=53.0, cx=30.3, cy=26.6, width=64, height=48)
    pose = pose_at(np.array([2.8, 0.5, 1.2]), math.pi / 2, 0.0, 0.0)  # looks along +y
    rng = np.random.default_rng(1)
    sample = Renderer(scene, CPU).render(pose, camera, rng, rng)
    assert sample.intrinsics == camera
    # The front face: y = 2.7, so 2.2 m ahead; x 2.5..3.5, z 0.7..1.5; +x is to the right.
    z = 2.2
    left, right = camera.cx + camera.fx * (2.5 - 2.8) / z, camera.cx + camera.fx * (3.5 - 2.8) / z
    top, low = camera.cy + camera.fy * (1.2 - 1.5) / z, camera.cy + camera.fy * (1.2 - 0.7) / z
    expected = np.zeros((48, 64), bool)
    expected[math.ceil(top) : math.floor(low) + 1, math.ceil(left) : math.floor(right) + 1] = True
    np.testing.assert_array_equal(sample.labels == CABINET, expected)
    assert sample.depth_exact is not None
    np.testing.assert_allclose(sample.depth_exact[expected], z, atol=1e-5)
    # The far wall, y = 5, and the ceiling, 1.3 m above the camera.
    assert sample.depth_exact[26, 2] == pytest.approx(4.5, abs=1e-5)
    assert sample.depth_exact[2, 30] == pytest.approx(1.3 * 53 / (26.6 - 2), abs=1e-5)


def test_every_class_appears() -> None:
    missing = set(CLASSES)
    for i in range(150):
        missing -= set(np.unique(Rooms(11, 150, SIZE)[i].labels).tolist())
        if not missing:
            return
    pytest.fail(f"classes never seen: {sorted(missing)}")


# Depth sensor ----------------------------------------------------------------------------------


def test_silhouettes_lose_depth_more_than_surfaces(frames: list[Sample]) -> None:
    near_edge, elsewhere = [], []
    for f in frames:
        z = np.asarray(f.depth_exact)
        jump = np.zeros(SIZE, bool)
        jump[:, 1:] = np.abs(np.diff(z, axis=1)) > 0.15 * z[:, 1:]
        edge = np.zeros(SIZE, bool)
        for shift in (-2, -1, 0, 1, 2):
            edge |= np.roll(jump, shift, 1)
        in_range = (z > 0.6) & (z < 3.4)
        near_edge.append((f.depth == 0)[edge & in_range])
        elsewhere.append((f.depth == 0)[~edge & in_range])
    assert np.concatenate(near_edge).mean() > 1.5 * np.concatenate(elsewhere).mean()


# Tour ------------------------------------------------------------------------------------------


def test_a_tour_is_reproducible_whatever_its_rate() -> None:
    slow = RoomTour(3, SIZE, rate_hz=2, seconds_per_room=2)
    first = list(itertools.islice(slow, 5))
    assert [digest(s) for s in itertools.islice(slow, 5)] == [digest(s) for s in first]
    fast = list(itertools.islice(RoomTour(3, SIZE, rate_hz=4, seconds_per_room=2), 9))
    for a, b in zip(first, fast[::2], strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.depth_exact, b.depth_exact)  # type: ignore[arg-type]
    assert digest(next(iter(RoomTour(4, SIZE, 2, 2)))) != digest(first[0])


def test_a_tour_shows_one_scene_from_a_moving_camera_then_the_next_room() -> None:
    rate, seconds = 20.0, 0.25
    tour = list(itertools.islice(RoomTour(5, SIZE, rate, seconds), 6))
    assert len({s.intrinsics for s in tour}) == 1
    for a, b in itertools.pairwise(tour[:5]):
        assert a.depth_exact is not None and b.depth_exact is not None
        assert a.up is not None and b.up is not None
        assert a.camera_height is not None and b.camera_height is not None
        assert 0 < abs(a.camera_height - b.camera_height) < 0.35 / rate
        assert math.acos(min(1.0, float(a.up @ b.up))) < math.radians(25) / rate + 1e-3
        assert (a.labels == b.labels).mean() > 0.93
        assert np.median(np.abs(a.depth_exact / b.depth_exact - 1)) < 0.02
        # The same light on the same things: colors change by noise and motion only.
        assert abs(float(a.rgb.mean()) - float(b.rgb.mean())) < 4
        assert (a.rgb != b.rgb).mean() > 0.2 and (a.depth != b.depth).any()
    assert (tour[4].labels == tour[5].labels).mean() < 0.9


def test_sensor_noise_is_new_in_every_frame_of_a_tour() -> None:
    a, b = itertools.islice(RoomTour(6, SIZE, rate_hz=1e6), 2)  # the camera hardly moves
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_allclose(a.depth_exact, b.depth_exact, rtol=1e-4)  # type: ignore[arg-type]
    assert (a.rgb != b.rgb).mean() > 0.2 and (a.depth != b.depth).mean() > 0.2


@pytest.mark.parametrize("index", range(6))
def test_a_tour_moves_smoothly_through_free_space(index: int) -> None:
    rng = np.random.default_rng((21, index))
    scene = compose(rng)
    start = random_pose(scene, np.random.default_rng((22, index)))
    path = CameraPath(scene, 8.0, np.random.default_rng((22, index)))
    outlook, dt = PoseChecker(scene), 0.05
    poses = [path(i * dt) for i in range(161)]
    moves = [np.linalg.norm(a.position - b.position) for a, b in itertools.pairwise(poses)]
    turns = [
        math.acos(min(1.0, (np.trace(a.rotation.T @ b.rotation) - 1) / 2))
        for a, b in itertools.pairwise(poses)
    ]
    assert max(moves) < 0.35 * dt and max(turns) < math.radians(25) * dt
    # No jerks: speed changes little from step to step.
    assert np.abs(np.diff(moves)).max() < 0.02 * dt and np.abs(np.diff(turns)).max() < 0.05 * dt
    if outlook.is_free(start.position, 0.2):
        assert all(outlook.is_free(p.position, 0.1) for p in poses)


# Arguments -------------------------------------------------------------------------------------


def test_wrong_arguments_are_named() -> None:
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match=rf"seed of rooms must be in 0..2\*\*32-1, got {seed}"):
            Rooms(seed, 1)
    for height, width in ((8, 320), (240, 99999)):
        with pytest.raises(
            ValueError, match=f"16 to 4096 pixels wide and high, got {width}x{height}"
        ):
            Rooms(1, 1, (height, width))
    with pytest.raises(ValueError, match="must not be negative, got -2"):
        Rooms(1, -2)
    for rate, seconds in ((0.0, 8.0), (math.nan, 8.0), (5.0, -1.0), (5.0, math.inf)):
        with pytest.raises(ValueError, match=f"got {rate} Hz and {seconds} s"):
            RoomTour(1, SIZE, rate, seconds)
    with pytest.raises(ValueError, match="seed of rooms"):
        RoomTour(-3, SIZE, 5)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"room {index} of 3"):
            Rooms(1, 3, SIZE)[index]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_renders_the_same_frame(frames: list[Sample]) -> None:
    for i in range(3):
        sample, reference = Rooms(7, 12, SIZE, "cuda")[i], frames[i]
        assert (sample.labels == reference.labels).mean() > 0.995
        assert sample.depth_exact is not None and reference.depth_exact is not None
        same = np.isclose(sample.depth_exact, reference.depth_exact, rtol=1e-4)
        assert same.mean() > 0.995
        assert np.abs(sample.rgb.astype(int) - reference.rgb).mean() < 2
