"""Rooms as a data set."""

from __future__ import annotations

import numpy as np
import torch

from sgnet_core.data.rooms.layout import compose
from sgnet_core.data.rooms.pose import random_intrinsics, random_pose
from sgnet_core.data.rooms.render import Stage
from sgnet_core.data.sample import Sample


class Rooms:
    """A map-style data set of rendered rooms; item i depends on (seed, i) alone.

    Args:
        seed: any non-negative integer; other seeds share no rooms.
        length: number of items.
        size: (height, width) of the frames, pixels.
        device: where to render; the samples are numpy arrays in any case. Between devices they
            agree up to float rounding.
    """

    def __init__(
        self,
        seed: int,
        length: int,
        size: tuple[int, int] = (240, 320),
        device: str | torch.device = "cpu",
    ) -> None:
        self.seed = seed
        self.length = length
        self.size = size
        self.device = torch.device(device)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Render item `index`; raises IndexError outside 0..length-1."""
        if not 0 <= index < self.length:
            raise IndexError(f"room {index} of {self.length}")
        rng = np.random.default_rng((self.seed, index))
        scene = compose(rng)
        camera = random_intrinsics(rng, *self.size)
        pose = random_pose(scene, rng)
        return Stage(scene, self.device).render(pose, camera, rng, rng)
