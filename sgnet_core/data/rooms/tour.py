"""Endless stream of frames of a camera that walks through rooms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from sgnet_core.data.rooms.dataset import check_arguments
from sgnet_core.data.rooms.layout import compose
from sgnet_core.data.rooms.pose import Pose, PoseChecker, pose_at, random_intrinsics, random_pose
from sgnet_core.data.rooms.render import Renderer
from sgnet_core.data.rooms.scene import Scene
from sgnet_core.data.sample import Sample

_KNOT_SECONDS = 2.0
_STEP = 0.6  # meters from knot to knot
_TURN, _NOD = 0.7, 0.2  # radians from knot to knot
_MARGIN = 0.2  # meters kept from walls and furniture
_CAMERA, _ROOM, _CHARACTER, _NOISE = range(1, 5)


class RoomTour:
    """An endless iterable of frames of a camera that walks through one room after the other.

    The camera moves at up to 0.35 m/s and turns at up to 25 degrees/s, looks at furniture, and
    sways slightly, as if held by hand. All frames have the same intrinsics. The frames of a room
    have the same geometry, light and sensor properties, but different sensor noise. Every iteration
    yields the same frames.

    Args:
        seed: 0..2**32-1.
        size: (height, width) of the frames, pixels.
        rate_hz: frames per second.
        seconds_per_room: time in each room, seconds.
        device: device that renders.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int],
        rate_hz: float,
        seconds_per_room: float = 8.0,
        device: str | torch.device = "cpu",
    ) -> None:
        check_arguments(seed, size)
        if not (0 < rate_hz < math.inf and 0 < seconds_per_room < math.inf):
            raise ValueError(
                "the rate and the seconds per room must be positive and finite, "
                f"got {rate_hz} Hz and {seconds_per_room} s"
            )
        self.seed = seed
        self.size = size
        self.rate_hz = rate_hz
        self.seconds_per_room = seconds_per_room
        self.device = torch.device(device)

    def __iter__(self) -> Iterator[Sample]:
        camera = random_intrinsics(self._rng(_CAMERA, 0), *self.size)
        frames = max(1, round(self.seconds_per_room * self.rate_hz))
        room = 0
        while True:
            rng = self._rng(_ROOM, room)
            scene = compose(rng)
            renderer = Renderer(scene, self.device)
            path = CameraPath(scene, self.seconds_per_room, rng)
            for frame in range(frames):
                character = self._rng(_CHARACTER, room)
                noise = self._rng(_NOISE, room * frames + frame)
                pose = path(frame / self.rate_hz)
                yield renderer.render(pose, camera, character, noise)
            room += 1

    def _rng(self, purpose: int, number: int) -> np.random.Generator:
        # `Rooms` seeds with two numbers; four numbers give different streams.
        return np.random.default_rng((self.seed, 0, number, purpose))


class CameraPath:
    """A smooth walk in free space that looks at furniture; a call maps seconds to a `Pose`.

    It is a uniform cubic B-spline over random knots. It stays in their convex hull, and the
    distance of the knots limits its speed.
    """

    def __init__(self, scene: Scene, seconds: float, rng: np.random.Generator) -> None:
        self._phase = rng.uniform(0, math.tau, 3)
        checker = PoseChecker(scene)
        start = _knot_of(random_pose(scene, rng))
        count = int(seconds / _KNOT_SECONDS) + 4
        for _ in range(6):
            self._knots = _walk(scene, checker, start, count, rng)
            free = all(
                checker.is_free(self._spline(t)[:3], _MARGIN * 0.75)
                for t in np.linspace(0, seconds, 8 * count)
            )
            # Some furniture is not among the obstacles, for example chairs at desks.
            if free and all(checker.interest(self(t)) >= 0 for t in np.arange(0, seconds, 1.0)):
                return
        self._knots[:, :3] = start[:3]  # no free path: stay at the start and look around

    def __call__(self, seconds: float) -> Pose:
        x, y, z, yaw, pitch = self._spline(seconds)
        step = math.tau * 0.8 * seconds  # two bobs per sway, as when walking
        a, b, c = self._phase
        sway, bob, tilt = math.sin(step / 2 + a), math.sin(step + b), math.sin(step / 3 + c)
        x, y = x - 0.008 * sway * math.sin(yaw), y + 0.008 * sway * math.cos(yaw)
        position = np.array([x, y, z + 0.006 * bob])
        return pose_at(position, yaw + 0.006 * tilt, pitch + 0.006 * bob, 0.015 * sway)

    def _spline(self, seconds: float) -> NDArray[np.float64]:
        """Return (5,) x, y, z, yaw, pitch."""
        at, t = divmod(seconds / _KNOT_SECONDS, 1.0)
        weights = np.array(
            [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
        )
        return weights / 6 @ self._knots[int(at) : int(at) + 4]


def _knot_of(pose: Pose) -> NDArray[np.float64]:
    forward = pose.rotation[:, 2]
    yaw, pitch = math.atan2(forward[1], forward[0]), math.asin(forward[2])
    return np.array([*pose.position, yaw, pitch])


def _walk(
    scene: Scene,
    checker: PoseChecker,
    start: NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return (count, 5) knots x, y, z, yaw, pitch, each the best of a few random steps."""
    knots = [start]
    heading = rng.uniform(0, math.tau)
    while len(knots) < count:
        last, best, best_score = knots[-1], knots[-1], -2.0
        for _ in range(5):
            way = heading + rng.normal(0, 0.8)
            reach = _STEP * rng.uniform(0.5, 1.0)
            height = float(np.clip(last[2] + rng.normal(0, 0.05), 0.5, 1.75))
            position = np.array(
                [last[0] + reach * math.cos(way), last[1] + reach * math.sin(way), height]
            )
            blocked = not checker.is_free(position, _MARGIN)
            if blocked:
                heading = rng.uniform(0, math.tau)
                position = last[:3]
            knot = np.array([*position, *_gaze(scene, position, last, rng)])
            # Prefer moving to standing still.
            score = checker.interest(pose_at(knot[:3], knot[3], knot[4], 0.0)) - 0.2 * blocked
            if score > best_score:
                best, best_score = knot, score
        knots.append(best)
    return np.stack(knots)


def _gaze(
    scene: Scene, position: NDArray[np.float64], last: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float]:
    """Return yaw and pitch toward a target, limited to the largest turn from ``last``."""
    gap = scene.targets[rng.integers(len(scene.targets))] - position
    yaw = math.atan2(gap[1], gap[0]) - last[3]
    yaw = (yaw + math.pi) % math.tau - math.pi
    pitch = min(max(math.atan2(gap[2], math.hypot(gap[0], gap[1])), -0.6), 0.1) - last[4]
    return last[3] + min(max(yaw, -_TURN), _TURN), last[4] + min(max(pitch, -_NOD), _NOD)
