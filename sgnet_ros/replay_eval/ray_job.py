"""Evaluation of bags in Ray workers, each bag in a process and DDS domain of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgnet_ros.replay_eval.bag_process import BagProcess
from sgnet_ros.system.domains import free_domain, stay_local


@dataclass(frozen=True)
class ReplayJob:
    """A `sgnet_core.fleet.jobs.Job` whose tasks are paths of bags and whose results are figures.

    Attributes:
        arguments: arguments of `add_arguments` for the process of each bag.
    """

    arguments: Sequence[str]

    def start(self) -> Callable[[str], dict[str, Any]]:
        """Return the function that evaluates a bag."""
        stay_local()
        return self._evaluate

    def _evaluate(self, bag: str) -> dict[str, Any]:
        """Return the figures of a bag.

        Raises:
            ValueError: the bag cannot be evaluated.
        """
        with tempfile.TemporaryDirectory(prefix="replay_") as scratch, reserved_domain() as domain:
            process = BagProcess(Path(bag), domain, self.arguments, Path(scratch, "bag"))
            try:
                while process.child.running:
                    time.sleep(0.2)
            finally:
                process.child.stop()
            result = process.result()
        if isinstance(result, str):
            raise ValueError(result)
        return result


@contextlib.contextmanager
def reserved_domain() -> Iterator[int]:
    """Reserve a free DDS domain, which no other worker of this machine takes meanwhile.

    Raises:
        ValueError: no domain is free.
    """
    taken: set[int] = set()
    while domain := free_domain(taken):
        name = f"sgnet_domain_{os.getuid()}_{domain}.lock"
        with open(Path(tempfile.gettempdir(), name), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken.add(domain)
                continue
            yield domain
            return
    raise ValueError("no DDS domain is free on this machine: use fewer workers (--ray-cores)")
