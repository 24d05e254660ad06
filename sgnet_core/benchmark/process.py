"""Run cases of the benchmark in separate processes, which share no memory and no threads."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from sgnet_core.benchmark.measure import Timing, come_to_rest, run_timed


class Subprocess:
    """A function that runs in a separate process.

    A call sends the inputs to the process, runs the function there, and returns its `Timing`
    without the time for sending.

    Args:
        device: device on which the function runs.
        make: function at the top level of a module. The process calls it with ``arguments``, and it
            returns the function to run.
        environment: additional environment variables of the process.
    """

    def __init__(
        self,
        device: torch.device,
        make: Callable[..., Callable[[Any], object]],
        *arguments: object,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # A process with threads or a GPU cannot be forked.
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), _prepare, (device, torch.get_num_threads(), make, arguments)
        )
        before = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self._pool.submit(os.getpid).result()  # starts the process
        finally:
            os.environ.clear()
            os.environ.update(before)

    def __call__(self, inputs: Any) -> Timing:
        return self._pool.submit(_run, inputs).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


_prepared: tuple[torch.device, Callable[[Any], object]]
"""Device and function of this process if it is a subprocess."""


def _prepare(
    device: torch.device,
    threads: int,
    make: Callable[..., Callable[[Any], object]],
    arguments: Sequence[object],
) -> None:
    global _prepared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    torch.set_num_threads(threads)
    _prepared = device, make(*arguments)


def _run(inputs: Any) -> Timing:
    device, run = _prepared
    timing = run_timed(partial(run, inputs), device)
    come_to_rest()  # its threads must not be busy when the next process runs
    return timing
