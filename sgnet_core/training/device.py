"""What a configuration asks of the device that it runs on."""

from __future__ import annotations

import os

import torch
import torch.utils.deterministic

from sgnet_core.train_config import TrainConfig


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
