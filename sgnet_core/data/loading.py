"""From a data set to batches, in an order that depends on nothing but seed and position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import Augmentation

ENDLESS = 1 << 40
"""The length of a data set without end."""


class Samples(Protocol):
    """A data set: labelled frames by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass
class Batch:
    """Tensors of B equally sized frames.

    Attributes:
        rgb: (B, 3, H, W) uint8. depth: (B, 1, H, W) float32 metres, 0 = missing.
        labels: (B, H, W) int64, 255 = ignore. intrinsics: (B, 4) fx, fy, cx, cy.
    """

    rgb: Tensor
    depth: Tensor
    labels: Tensor
    intrinsics: Tensor

    def to(self, device: torch.device) -> Batch:
        move = {k: v.to(device, non_blocking=True) for k, v in vars(self).items()}
        return Batch(**move)

    def pin_memory(self) -> Batch:
        return Batch(**{k: v.pin_memory() for k, v in vars(self).items()})


def collate(samples: list[Sample]) -> Batch:
    """Equally sized samples → one `Batch`."""

    def stack(arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays))

    return Batch(
        rgb=stack([s.rgb for s in samples]).permute(0, 3, 1, 2).contiguous(),
        depth=stack([s.depth for s in samples])[:, None],
        labels=stack([s.labels for s in samples]).long(),
        intrinsics=torch.cat([s.intrinsics.parameters() for s in samples]),
    )


class Augmented(Dataset[Sample]):
    """Position → augmented sample; the same position always gives the same sample."""

    def __init__(
        self, samples: Samples, augmentation: Augmentation, size: tuple[int, int], seed: int
    ) -> None:
        self.samples, self.augmentation, self.size, self.seed = samples, augmentation, size, seed

    def __getitem__(self, position_and_index: tuple[int, int]) -> Sample:
        position, index = position_and_index
        rng = np.random.default_rng((self.seed, position))
        return self.augmentation(self.samples[index], self.size, rng)


class ShuffledForever(Sampler[Any]):
    """Positions ``start``, ``start`` + 1, … of an endless sequence of shuffled epochs.

    A run that stops after a number of positions and starts again there sees the same frames.
    """

    def __init__(self, length: int, seed: int, start: int, stop: int) -> None:
        self.length, self.seed, self.start, self.stop = length, seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.length == ENDLESS:
            yield from ((p, p) for p in range(self.start, self.stop))
            return
        epoch, order = -1, np.empty(0, np.int64)
        for position in range(self.start, self.stop):
            if position // self.length != epoch:
                epoch = position // self.length
                order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
            yield position, int(order[position % self.length])


def training_loader(
    samples: Samples,
    augmentation: Augmentation,
    *,
    size: tuple[int, int],
    batch: int,
    seed: int,
    first: int,
    last: int,
    workers: int,
    pin: bool = False,
) -> DataLoader[Any]:
    """Batches number ``first`` to ``last`` − 1 of the run."""
    return DataLoader(
        Augmented(samples, augmentation, size, seed),
        batch_size=batch,
        sampler=ShuffledForever(len(samples), seed, first * batch, last * batch),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        persistent_workers=workers > 0,
    )
