"""Checks that device and processes can run a configuration; deterministic mode."""

from __future__ import annotations

import os

import torch
import torch.utils.deterministic

from sgnet_core.data.loading import frames_per_part
from sgnet_core.training.config import TrainConfig


def check_device(config: TrainConfig, device: torch.device) -> None:
    """Raise ValueError, naming the remedy, for settings that the device does not support."""
    if device.type == "cuda":
        return
    if config.sync_bn:
        raise ValueError(
            "sync_bn: PyTorch's SyncBatchNorm needs a GPU; on the CPU set sync_bn=false, so that "
            "each process computes statistics of its own share, or freeze_bn=all"
        )
    if config.precision == "fp16":
        raise ValueError("precision=fp16 needs a GPU; on the CPU use bf16 or fp32")


def check_parts(config: TrainConfig, head: str, processes: int) -> None:
    """Raise ValueError, naming the remedy, for a batch that cannot be divided as configured.

    Args:
        head: head of the network, see `sgnet_core.models.sgnet.SGNetConfig`.
        processes: number of processes that share a batch.
    """
    frames = frames_per_part(config.batch, config.accumulate, processes)
    if frames == 1 and head == "aspp" and config.freeze_bn != "all" and not config.sync_bn:
        raise ValueError(
            "the ASPP head pools an image to one pixel, but batch norm needs at least two: use "
            "two frames per process and part (batch, accumulate, processes), or freeze_bn=all, or "
            "sync_bn=true"
        )


def make_deterministic(device: torch.device) -> None:
    """Make the whole process compute the same bits every time.

    On a GPU, operations without a deterministic form warn; on the CPU the network uses none of
    them. See https://pytorch.org/docs/stable/notes/randomness.html
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # Filling memory takes time and only helps to find bugs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
