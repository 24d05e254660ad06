"""Where frames stand to each other, of what does not move: ``/tf_static``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Pose = npt.NDArray[np.float64]


class StaticTransforms:
    """A graph of frames; written by one thread, read by any."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, Pose]] = {}

    def add(self, transforms: Iterable[Any]) -> None:
        """Takes geometry_msgs/TransformStamped messages; newer ones replace older ones."""
        edges = {frame: dict(neighbours) for frame, neighbours in self._edges.items()}
        for stamped in transforms:
            parent, child = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            pose = matrix_of(stamped.transform)
            if np.isfinite(pose).all():
                edges.setdefault(parent, {})[child] = pose
                edges.setdefault(child, {})[parent] = np.asarray(np.linalg.inv(pose))
        self._edges = edges

    def between(self, source: str, target: str) -> Pose | None:
        """(4, 4) float64 that takes points of ``source`` to ``target``, metres; None if unknown."""
        edges, target = self._edges, target.lstrip("/")
        poses: dict[str, Pose] = {target: np.eye(4)}
        queue = deque([target])
        while queue:
            frame = queue.popleft()
            for neighbour, pose in edges.get(frame, {}).items():
                if neighbour not in poses:
                    poses[neighbour] = poses[frame] @ pose
                    queue.append(neighbour)
        return poses.get(source.lstrip("/"))


def matrix_of(transform: Any) -> Pose:
    """A geometry_msgs/Transform as (4, 4) float64; NaN where its quaternion is 0."""
    q, t = transform.rotation, transform.translation
    return pose_matrix((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def pose_matrix(translation: Iterable[float], quaternion: Iterable[float]) -> Pose:
    """(4, 4) float64 of x y z in metres and qx qy qz qw, which is normalised."""
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
    """(4, 4) float64 of "x y z qx qy qz qw"; None of an empty text.

    Raises:
        ValueError: not seven finite numbers, or the last four are no unit quaternion.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 7 or not np.isfinite(numbers).all():
        raise ValueError(f"is 'x y z qx qy qz qw' (metres, unit quaternion) or empty, not '{text}'")
    norm = float(np.linalg.norm(numbers[3:]))
    if abs(norm - 1) > 1e-2:
        raise ValueError(f"the quaternion qx qy qz qw must be of length 1, not {norm:.3g}")
    return pose_matrix(numbers[:3], numbers[3:])
