"""What a configuration asks of the device and of the processes that it runs on."""

from __future__ import annotations

import os

import torch
import torch.utils.deterministic

from sgnet_core.data.loading import frames_per_part
from sgnet_core.training.config import TrainConfig


def check_device(config: TrainConfig, device: torch.device) -> None:
    """Raises ValueError, with the way out, for what the device cannot do."""
    if device.type == "cuda":
        return
    if config.sync_bn:
        raise ValueError(
            "sync_bn: PyTorch's SyncBatchNorm needs a GPU; on the CPU set sync_bn=false, so that "
            "each process has statistics of its own share, or freeze_bn=all"
        )
    if config.precision == "fp16":
        raise ValueError("precision=fp16 needs a GPU; on the CPU use bf16 or fp32")


def check_parts(config: TrainConfig, head: str, processes: int) -> None:
    """Raises ValueError, with the way out, for a batch that cannot be cut as it is asked to.

    Args:
        head: of the network, see `sgnet_core.models.sgnet.SGNetConfig`.
    """
    frames = frames_per_part(config.batch, config.accumulate, processes)
    if frames == 1 and head == "aspp" and config.freeze_bn != "all" and not config.sync_bn:
        raise ValueError(
            "the ASPP head pools an image to one pixel, of which batch norm needs two: take two "
            "frames at a time (batch, accumulate, processes), or freeze_bn=all, or sync_bn=true"
        )


def make_deterministic(device: torch.device) -> None:
    """The same bits every time, for the whole process.

    On a GPU operations without a deterministic form warn; on the CPU there are none in this
    network. https://pytorch.org/docs/stable/notes/randomness.html
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # It would find mistakes, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
