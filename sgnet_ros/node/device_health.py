"""Detection of a GPU or CPU that has failed, from the results of inference."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress

OUT_OF_MEMORY = "out_of_memory"
INFERENCE_ERROR = "inference_error"
FAILURES = frozenset((OUT_OF_MEMORY, INFERENCE_ERROR))
"""Causes of frames that were dropped because inference failed."""


def cause_of(error: Exception) -> str:
    """Return the cause under which to count a frame whose inference raised ``error``."""
    import torch  # here, because processes that only observe a node do not load PyTorch

    return OUT_OF_MEMORY if isinstance(error, torch.OutOfMemoryError) else INFERENCE_ERROR


def free_cached_memory() -> None:
    """Release cached memory: of PyTorch on the GPU, and of glibc's heap."""
    import torch

    with suppress(RuntimeError):  # after some errors, every CUDA call fails
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # other C libraries lack it
        ctypes.CDLL(None).malloc_trim(0)


class DeviceHealth:
    """Decide from the results of inference whether the device has failed.

    A single error drops a frame. A device has failed if at least three frames in succession, over
    at least a second, gave no result.

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
        """Record the result of a frame; return True, once, when the device has failed.

        Args:
            cause: cause for which the frame was dropped; None if it was published.
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
