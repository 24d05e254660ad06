"""Batches of a data set, in an order that depends on seed and position alone."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import Augmentation

ENDLESS = 1 << 40
"""Length of an endless data set."""


class Samples(Protocol):
    """A data set: labeled frames by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass
class Batch:
    """Tensors of B equally sized frames.

    Attributes:
        rgb: (B, 3, H, W) uint8. depth: (B, 1, H, W) float32 meters, 0 = missing.
        labels: (B, H, W) int64, 255 = ignore. intrinsics: (B, 4) fx, fy, cx, cy.
    """

    rgb: Tensor
    depth: Tensor
    labels: Tensor
    intrinsics: Tensor

    def to(self, device: torch.device) -> Batch:
        move = {k: v.to(device, non_blocking=True) for k, v in vars(self).items()}
        return Batch(**move)

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Concatenate several batches."""
        return cls(
            **{key: torch.cat([getattr(b, key) for b in batches]) for key in vars(batches[0])}
        )

    def pin_memory(self) -> Batch:
        return Batch(**{k: v.pin_memory() for k, v in vars(self).items()})


@dataclass(frozen=True)
class Unreadable:
    """Reason why a sample or batch cannot be read, in its place.

    An exception from another process would have its traceback as the message.
    """

    reason: str


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack equally sized samples into one `Batch`."""

    def stack(arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays))

    return Batch(
        rgb=stack([s.rgb for s in samples]).permute(0, 3, 1, 2).contiguous(),
        depth=stack([s.depth for s in samples])[:, None],
        labels=stack([s.labels for s in samples]).long(),
        intrinsics=torch.cat([s.intrinsics.parameters() for s in samples]),
    )


def _collate_readable(samples: Sequence[Sample | Unreadable]) -> Batch | Unreadable:
    unreadable = [sample for sample in samples if isinstance(sample, Unreadable)]
    return unreadable[0] if unreadable else collate(cast(Sequence[Sample], samples))


class Augmented(Dataset[Sample | Unreadable]):
    """Augmented samples; the same position always gives the same sample."""

    def __init__(
        self, samples: Samples, augmentation: Augmentation, size: tuple[int, int], seed: int
    ) -> None:
        self.samples, self.augmentation, self.size, self.seed = samples, augmentation, size, seed

    def __getitem__(self, position_and_index: tuple[int, int]) -> Sample | Unreadable:
        position, index = position_and_index
        rng = np.random.default_rng((self.seed, position))
        try:
            sample = self.samples[index]
        except (ValueError, OSError) as error:
            return Unreadable(str(error))
        return self.augmentation(sample, self.size, rng)


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


class Share(Sampler[Any]):
    """Part of every batch that one of several processes loads: a block, in order."""

    def __init__(self, positions: ShuffledForever, batch: int, rank: int, processes: int) -> None:
        self.positions, self.batch, self.rank, self.processes = positions, batch, rank, processes

    def __len__(self) -> int:
        return len(self.positions) // self.processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        part = self.batch // self.processes
        for count, position in enumerate(self.positions):
            if count % self.batch // part == self.rank:
                yield position


def training_batches(
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
    parts: int = 1,
    rank: int = 0,
    processes: int = 1,
) -> Generator[Batch, None, None]:
    """Yield the batches ``first`` to ``last`` − 1 of the run, or one process's share of each.

    Args:
        size: (H, W) of the crops.
        batch: frames of a batch, over all processes and parts.
        parts: what this process gets of a batch comes in that many `Batch`es.
        rank, processes: which share, of how many.

    Returns:
        A generator, whose worker processes end with it, close it as you may.

    Raises:
        ValueError: the batch cannot be cut into that many parts; or, when its turn comes, a frame
            cannot be read: it names the file.
    """
    frames = frames_per_part(batch, parts, processes)
    positions = ShuffledForever(len(samples), seed, first * batch, last * batch)
    return _readable(
        DataLoader(
            Augmented(samples, augmentation, size, seed),
            batch_size=frames,
            sampler=Share(positions, batch, rank, processes),
            num_workers=workers,
            collate_fn=_collate_readable,
            pin_memory=pin,
            worker_init_fn=_prepare_worker,
        )
    )


def frames_per_part(batch: int, parts: int, processes: int) -> int:
    """Return the number of frames of a batch that a process computes at a time.

    Raises:
        ValueError: the batch cannot be cut into that many parts.
    """
    frames, rest = divmod(batch, parts * processes)
    if rest or not frames:
        raise ValueError(
            f"batch {batch} cannot be cut into {processes} processes x {parts} parts: "
            f"choose a multiple of {parts * processes}"
        )
    return frames


def _readable(loader: DataLoader[Any]) -> Generator[Batch, None, None]:
    iterator = iter(loader)
    try:
        for batch in iterator:
            if isinstance(batch, Unreadable):
                raise DatasetError(batch.reason)
            yield batch
    finally:
        # An exception would keep the iterator in its traceback, and Python would wait at its end
        # for workers that nobody has told to go.
        if loader.num_workers:
            cast(Any, iterator)._shutdown_workers()


def _prepare_worker(worker: int) -> None:
    """Keep a worker process to one thread and deaf to signals.

    Signals reach whole process groups; the main process ends its workers. PyTorch itself keeps to
    one thread in a worker, OpenCV would take one per core in each.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
