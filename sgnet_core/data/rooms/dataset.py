"""Data set of rendered rooms."""

from __future__ import annotations

import numpy as np
import torch

from sgnet_core.data.rooms.layout import compose
from sgnet_core.data.rooms.pose import random_intrinsics, random_pose
from sgnet_core.data.rooms.render import Renderer
from sgnet_core.data.sample import Sample

_MIN_SIDE, _MAX_SIDE = 16, 4096


class Rooms:
    """A data set of rendered rooms; frame i depends only on (seed, i).

    Args:
        seed: 0..2**32-1; each seed gives different rooms.
        length: number of frames.
        size: (height, width) of the frames, pixels.
        device: device that renders; frames from different devices differ only by rounding.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        seed: int,
        length: int,
        size: tuple[int, int] = (240, 320),
        device: str | torch.device = "cpu",
    ) -> None:
        check_arguments(seed, size)
        if length < 0:
            raise ValueError(f"the number of rooms must not be negative, got {length}")
        self.seed = seed
        self.length = length
        self.size = size
        self.device = torch.device(device)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Render a frame; raise IndexError outside 0..length-1."""
        if not 0 <= index < self.length:
            raise IndexError(f"room {index} of {self.length}")
        rng = np.random.default_rng((self.seed, index))
        scene = compose(rng)
        camera = random_intrinsics(rng, *self.size)
        pose = random_pose(scene, rng)
        return Renderer(scene, self.device).render(pose, camera, rng, rng)


def check_arguments(seed: int, size: tuple[int, int]) -> None:
    """Raise ValueError for a seed or a (height, width) that cannot be rendered."""
    if not 0 <= seed < 2**32:  # larger seeds would give the same random streams as others
        raise ValueError(f"the seed of rooms must be in 0..2**32-1, got {seed}")
    if min(size) < _MIN_SIDE or max(size) > _MAX_SIDE:
        height, width = size
        raise ValueError(
            f"rooms must be {_MIN_SIDE} to {_MAX_SIDE} pixels wide and high, got {width}x{height}"
        )
