"""Cases of the benchmark that run in a process of their own: memory and threads are theirs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from sgnet_core.benchmark.measure import Took, come_to_rest, run_timed


class Elsewhere:
    """Something that runs in a process of its own.

    Calling it runs that on inputs, which travel there first and do not count, and returns `Took`.

    Args:
        device: that it runs on.
        make: a function of a module, called there with ``arguments``; returns what is to be run.
    """

    def __init__(
        self, device: torch.device, make: Callable[..., Callable[[Any], object]], *arguments: object
    ) -> None:
        # Not forked: a process that has threads, or uses a GPU, cannot be.
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), _prepare, (device, torch.get_num_threads(), make, arguments)
        )

    def __call__(self, inputs: Any) -> Took:
        return self._pool.submit(_run, inputs).result()

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown()


_prepared: tuple[torch.device, Callable[[Any], object]]
"""In such a process: its device, and what it runs."""


def _prepare(
    device: torch.device,
    threads: int,
    make: Callable[..., Callable[[Any], object]],
    arguments: Sequence[object],
) -> None:
    global _prepared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    torch.set_num_threads(threads)
    _prepared = device, make(*arguments)


def _run(inputs: Any) -> Took:
    device, run = _prepared
    took = run_timed(partial(run, inputs), device)
    come_to_rest()  # or its threads would still be busy when another process has its turn
    return took
