"""Random poses and intrinsics of a hand-held or robot camera in a room."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sgnet_core.data.rooms.classes import CEILING, DOOR, FLOOR, WALL, WINDOW
from sgnet_core.data.rooms.raycast import Solids, View, cast
from sgnet_core.data.rooms.scene import Scene
from sgnet_core.geometry.intrinsics import Intrinsics

_COARSE = Intrinsics(26, 26, 15.5, 11.5, 32, 24)


@dataclass(frozen=True)
class Pose:
    """Camera pose; the columns of ``rotation`` are its x right, y down, z forward in the world."""

    rotation: NDArray[np.float64]  # (3, 3)
    position: NDArray[np.float64]  # (3,)

    def view(self, camera: Intrinsics, device: torch.device) -> View:
        """Return pose and intrinsics as tensors on a device."""
        rotation = torch.as_tensor(self.rotation, dtype=torch.float32, device=device)
        position = torch.as_tensor(self.position, dtype=torch.float32, device=device)
        return View(rotation, position, camera)


def pose_at(position: NDArray[np.float64], yaw: float, pitch: float, roll: float) -> Pose:
    """Make a pose from yaw (from world x toward y), pitch (up) and roll (clockwise), in radians."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    forward = np.array([cy * cp, sy * cp, sp])
    right = np.array([sy, -cy, 0.0])
    down = np.cross(forward, right)
    cr, sr = math.cos(roll), math.sin(roll)
    return Pose(np.stack([cr * right + sr * down, cr * down - sr * right, forward], 1), position)


def random_intrinsics(rng: np.random.Generator, height: int, width: int) -> Intrinsics:
    """Draw a field of view of 50 to 85 degrees, and a principal point up to 4 % off the center."""
    fx = width / 2 / math.tan(math.radians(rng.uniform(50, 85)) / 2)
    fy = fx * rng.uniform(0.99, 1.01)
    cx = (width - 1) / 2 + rng.uniform(-0.04, 0.04) * width
    cy = (height - 1) / 2 + rng.uniform(-0.04, 0.04) * height
    return Intrinsics(float(fx), float(fy), float(cx), float(cy), width, height)


class PoseChecker:
    """Checks poses in a scene, with coarse views."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._solids = Solids.of(scene, torch.device("cpu"))
        self._labels = torch.as_tensor(scene.labels)

    def is_free(self, position: NDArray[np.float64], margin: float) -> bool:
        """Return True if a position is in the room and ``margin`` meters away from obstacles."""
        x, y, z = position
        w, length, top = self._scene.size
        if not (margin < x < w - margin and margin < y < length - margin and z < top - 0.15):
            return False
        return not any(
            r[0] - margin < x < r[2] + margin
            and r[1] - margin < y < r[3] + margin
            and z < h + margin
            for r, h in self._scene.obstacles
        )

    @torch.inference_mode()
    def interest(self, pose: Pose) -> float:
        """Return a score for the share of furniture and the number of classes in view.

        It is -1 if a near surface blocks the view.
        """
        depth, index = cast(self._solids, pose.view(_COARSE, torch.device("cpu")))
        if float((depth < 0.45).float().mean()) > 0.06:
            return -1.0
        seen = torch.bincount(self._labels[index], minlength=40).double() / index.numel()
        empty = float(seen[[WALL, FLOOR, CEILING, WINDOW, DOOR]].sum())
        return min(1 - empty, 0.55) + 0.06 * int((seen > 0.004).sum())


def random_pose(scene: Scene, rng: np.random.Generator) -> Pose:
    """Return the best of a few random poses that look at furniture from free space."""
    checker = PoseChecker(scene)
    best, best_score, scored = _fallback(scene), -1.0, 0
    for _ in range(80):
        target = scene.targets[rng.integers(len(scene.targets))] + rng.normal(0, 0.2, 3)
        away = rng.uniform(0.8, 1.7) if rng.random() < 0.4 else rng.uniform(1.3, 4.5)
        angle = rng.uniform(0, math.tau)
        height = rng.uniform(0.4, 1.0) if rng.random() < 0.2 else rng.uniform(1.0, 1.85)
        position = np.array(
            [target[0] + away * math.cos(angle), target[1] + away * math.sin(angle), height]
        )
        if not checker.is_free(position, 0.2):
            continue
        gap = target - position
        pitch = math.atan2(gap[2], math.hypot(gap[0], gap[1])) + rng.normal(-0.05, 0.1)
        pitch = min(max(pitch, -0.8), 0.12)
        yaw = math.atan2(gap[1], gap[0]) + rng.normal(0, 0.15)
        pose = pose_at(position, yaw, pitch, rng.normal(0, 0.045))
        score = checker.interest(pose) + rng.uniform(0, 0.15)
        if score > best_score:
            best, best_score = pose, score
        scored += 1
        if scored == 4:
            break
    return best


def _fallback(scene: Scene) -> Pose:
    """Return a pose in a corner that looks to the middle; obstacles may be near."""
    w, length, _ = scene.size
    position = np.array([0.3, 0.3, 1.8])
    return pose_at(position, math.atan2(length / 2, w / 2), -0.45, 0.0)
