"""Settings of cuDNN's convolutions that hold within a block of code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fastest_algorithms() -> Iterator[None]:
    """Let cuDNN time its algorithms and keep the fastest for each shape.

    This costs the first call of every shape tens of milliseconds, so it suits work of one size. In
    deterministic mode nothing changes, because the choice depends on the timing.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
