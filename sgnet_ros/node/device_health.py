"""When a device counts as failed."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress

import torch

OUT_OF_MEMORY = "out_of_memory"
INFERENCE_ERROR = "inference_error"
FAILURES = frozenset((OUT_OF_MEMORY, INFERENCE_ERROR))
"""Causes under which frames are counted that inference lost."""


def cause_of(error: Exception) -> str:
    """The cause to count a frame under for which inference raised ``error``."""
    return OUT_OF_MEMORY if isinstance(error, torch.OutOfMemoryError) else INFERENCE_ERROR


def free_cached_memory() -> None:
    """Gives memory that is only kept for later use back: PyTorch's on the GPU, glibc's heap."""
    with suppress(RuntimeError):  # after some errors CUDA answers nothing else any more
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # not with other C libraries
        ctypes.CDLL(None).malloc_trim(0)


class DeviceHealth:
    """Watches the outcome of inference and tells when waiting makes no sense any more.

    Single errors cost a frame. A device has failed when nothing came of at least three frames and
    one second.

    Args:
        clock: monotonic seconds.
    """

    _FRAMES = 3
    _SECONDS = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._since = 0.0

    def note(self, cause: str | None) -> bool:
        """Takes the outcome of a frame; True when the device has failed, then it starts anew.

        Args:
            cause: why the frame was dropped; None if it became a label image.
        """
        if cause is None:
            self._failures = 0
        if cause not in FAILURES:
            return False
        if cause == OUT_OF_MEMORY:
            free_cached_memory()
        if self._failures == 0:
            self._since = self._clock()
        self._failures += 1
        failed = self._failures >= self._FRAMES and self._clock() - self._since >= self._SECONDS
        if failed:
            self._failures = 0
        return failed
