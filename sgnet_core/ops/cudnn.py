"""Choice of cuDNN's convolution algorithms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fastest_algorithms() -> Iterator[None]:
    """Within the block, let cuDNN time its algorithms and keep the fastest for each shape.

    The first call with a new shape takes tens of milliseconds more, so this pays off where shapes
    seldom change. In deterministic mode it does nothing, because the choice depends on timing.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
