"""Poses between frames that do not move, from ``/tf_static``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Pose = npt.NDArray[np.float64]


class StaticTransforms:
    """Tree of frames, each with one parent; one thread adds, any thread reads."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Pose]] = {}  # child → parent and pose in it

    def add(self, transforms: Iterable[Any]) -> None:
        """Add geometry_msgs/TransformStamped messages; a new parent replaces the old one."""
        parents = dict(self._parents)
        for stamped in transforms:
            parent, child = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            pose = matrix_of(stamped.transform)
            if np.isfinite(pose).all():
                parents[child] = (parent, pose)
        self._parents = parents  # replaced as a whole: readers see the old tree or the new one

    def between(self, source: str, target: str, stamp: int = 0) -> Pose | None:
        """Return (4, 4) float64 that takes points of ``source`` to ``target``, meters, or None.

        ``stamp`` has no effect, because these frames do not move.
        """
        parents = self._parents
        up, down = _ancestors(parents, source.lstrip("/")), _ancestors(parents, target.lstrip("/"))
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            return None
        return np.asarray(np.linalg.inv(down[common]) @ up[common])


def _ancestors(parents: dict[str, tuple[str, Pose]], frame: str) -> dict[str, Pose]:
    """Return a frame and its ancestors in ascending order, with the frame's pose in each."""
    poses, pose = {frame: np.eye(4)}, np.eye(4)
    while frame in parents:
        frame, in_parent = parents[frame]
        if frame in poses:  # a loop
            break
        pose = in_parent @ pose
        poses[frame] = pose
    return poses


def matrix_of(transform: Any) -> Pose:
    """Return a geometry_msgs/Transform as (4, 4) float64; NaN where its quaternion is 0."""
    q, t = transform.rotation, transform.translation
    return pose_matrix((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def pose_matrix(translation: Iterable[float], quaternion: Iterable[float]) -> Pose:
    """Return (4, 4) float64 of x y z in meters and qx qy qz qw, which is normalized."""
    q = np.array(list(quaternion), np.float64)
    norm = np.linalg.norm(q)
    x, y, z, w = q / (norm if norm > 0 else np.nan)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = list(translation)
    return pose


def parse_pose(text: str) -> Pose | None:
    """Parse "x y z qx qy qz qw" into (4, 4) float64; return None for an empty text.

    Raises:
        ValueError: these are not seven finite numbers, or the last four are not a unit quaternion.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 7 or not np.isfinite(numbers).all():
        raise ValueError(f"is 'x y z qx qy qz qw' (meters, unit quaternion) or empty, not '{text}'")
    norm = float(np.linalg.norm(numbers[3:]))
    if abs(norm - 1) > 1e-2:
        raise ValueError(f"the quaternion qx qy qz qw must be of length 1, not {norm:.3g}")
    return pose_matrix(numbers[:3], numbers[3:])


def pose_text(pose: Pose) -> str:
    """Return the text from which `parse_pose` makes this pose, (4, 4)."""
    (a, b, c), (d, e, f), (g, h, i) = pose[:3, :3]
    # The quaternion is the eigenvector of the largest eigenvalue; this is stable at every angle.
    products = np.array(
        [
            [a - e - i, b + d, c + g, h - f],
            [b + d, e - a - i, f + h, c - g],
            [c + g, f + h, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    quaternion = np.linalg.eigh(products)[1][:, -1]
    return " ".join(repr(float(number)) for number in (*pose[:3, 3], *quaternion))
