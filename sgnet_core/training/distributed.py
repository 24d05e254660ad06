"""Processes of a run: one, or several that ``torchrun`` starts on one or more machines."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from sgnet_core.inference.device import pick_device

PATIENCE = datetime.timedelta(hours=2)
"""Time that a process waits for the others, while rank 0 validates."""


@dataclass(frozen=True)
class World:
    """This process among those of the run; the default is a run of one process.

    Attributes:
        rank: 0..size-1. Rank 0 validates, logs and saves.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True for rank 0."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, the same on each of them."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]

    def from_main(self, content: Any) -> Any:
        """Return rank 0's ``content`` on every process."""
        if self.size == 1:
            return content
        box = [content]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, content: Any) -> list[Any]:
        """Return the ``content`` of all processes by rank on rank 0, and [] on the others."""
        if self.size == 1:
            return [content]
        contents = [None] * self.size if self.is_main else None
        dist.gather_object(content, contents)
        return contents or []

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block on rank 0 before the others, so that it can fill a cache for them."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.is_main:
                dist.barrier()


@contextlib.contextmanager
def join_world(device: str) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that torchrun has started, if any, and leave them at the end.

    Gloo connects CPUs, NCCL connects GPUs. Each process takes the GPU with its local rank.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …

    Raises:
        ValueError: there is no such device, or there are more processes than GPUs.
    """
    chosen = pick_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield World(), chosen
        return
    if chosen.type == "cuda":
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise ValueError(
                f"more processes than GPUs: torchrun --nproc-per-node {there}, or --device cpu"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", None, PATIENCE
    )
    try:
        yield World(dist.get_rank(), dist.get_world_size()), chosen
    finally:
        dist.destroy_process_group()
