"""Load batches of a data set in an order that depends only on seed and position."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

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
        rgb: (B, 3, H, W) uint8.
        depth: (B, 1, H, W) float32 meters, 0 = missing.
        labels: (B, H, W) int64, 255 = ignore.
        intrinsics: (B, 4) float32 fx, fy, cx, cy in pixels.
    """

    rgb: Tensor
    depth: Tensor
    labels: Tensor
    intrinsics: Tensor

    def to(self, device: torch.device) -> Batch:
        """Copy all tensors to a device."""
        return Batch(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Concatenate several batches."""
        return cls(
            **{key: torch.cat([getattr(b, key) for b in batches]) for key in vars(batches[0])}
        )

    def pin_memory(self) -> Batch:
        """Copy all tensors to page-locked memory; the DataLoader calls this."""
        return Batch(**{k: v.pin_memory() for k, v in vars(self).items()})


@dataclass(frozen=True)
class Unreadable:
    """Stands for a sample or batch that cannot be read, with the reason.

    PyTorch would turn an exception in a worker process into one whose message is a traceback.
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
    """Augmented samples by (position, index); a position always gives the same sample."""

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


def shuffled_positions(length: int, seed: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield (position, index) for positions ``start`` to ``stop`` − 1 of endless shuffled epochs.

    A run that stops at a position and resumes there sees the same frames as without the stop.
    """
    if length == ENDLESS:
        yield from ((position, position) for position in range(start, stop))
        return
    epoch, order = -1, np.empty(0, np.int64)
    for position in range(start, stop):
        if position // length != epoch:
            epoch = position // length
            order = np.random.default_rng((seed, epoch)).permutation(length)
        yield position, int(order[position % length])


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
    """Return a generator of the batches ``first`` to ``last`` − 1 of a run.

    The worker processes end when the generator ends or is closed.

    Args:
        samples: the data set.
        augmentation: augmentation of the samples.
        size: (H, W) of the crops.
        batch: frames per batch, over all processes and parts.
        seed: seed of order and augmentation.
        first, last: range of the batches.
        workers: number of worker processes; 0 loads in this process.
        pin: put the batches into page-locked memory.
        parts: number of `Batch`es in which this process gets its share of a batch.
        rank, processes: number of this process, and of all processes that share the batches.

    Raises:
        ValueError: the batch cannot be divided like this, or, while iterating, a frame cannot be
            read; the message names the file.
    """
    frames = frames_per_part(batch, parts, processes)
    positions = shuffled_positions(len(samples), seed, first * batch, last * batch)
    share = batch // processes  # consecutive frames of every batch
    own = (each for i, each in enumerate(positions) if i % batch // share == rank)
    return _readable(
        DataLoader(
            Augmented(samples, augmentation, size, seed),
            batch_size=frames,
            sampler=own,
            num_workers=workers,
            collate_fn=_collate_readable,
            pin_memory=pin,
            worker_init_fn=_prepare_worker,
        )
    )


def frames_per_part(batch: int, parts: int, processes: int) -> int:
    """Return the number of frames of a batch that a process computes at a time.

    Raises:
        ValueError: the batch cannot be divided into equal parts.
    """
    frames, rest = divmod(batch, parts * processes)
    if rest or not frames:
        raise ValueError(
            f"batch {batch} cannot be divided into {processes} processes x {parts} parts: "
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
        # The traceback of an exception would keep the iterator alive, and Python would wait at exit
        # for workers that nobody has stopped.
        if loader.num_workers:
            cast(Any, iterator)._shutdown_workers()


def _prepare_worker(worker: int) -> None:
    """Make a worker process ignore signals and use one thread.

    Signals reach the whole process group, but the main process should end the workers. PyTorch uses
    one thread per worker; OpenCV would use one per core.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
