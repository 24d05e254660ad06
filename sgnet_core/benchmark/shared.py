"""Suite ``shared``: a frame while other processes keep every core busy, as on a robot.

Each backend runs in a separate process. The busy processes are stopped while a case runs alone.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sgnet_core.benchmark.measure import Case, Group
from sgnet_core.benchmark.process import Subprocess
from sgnet_core.benchmark.runners import FrameArrays, segment
from sgnet_core.benchmark.segmenter import export_default, random_frame
from sgnet_core.models.model_file import default_model_path

SIZE = (240, 320)
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Environment in which PyTorch's threads sleep instead of spinning when they wait."""

_SETTLE_S = 0.05  # time until all busy processes run


class Neighbors:
    """Processes that each keep a core busy between `go` and `stop`."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, "-c", "while True: pass"]
        self._processes = [subprocess.Popen(command) for _ in range(count)]
        self.stop()

    def go(self) -> None:
        """Continue the processes."""
        self._send(signal.SIGCONT)
        time.sleep(_SETTLE_S)

    def stop(self) -> None:
        """Stop the processes until the next `go`."""
        self._send(signal.SIGSTOP)

    def close(self) -> None:
        """End the processes."""
        self._send(signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def _send(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)


def shared_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Make the group of the default weights; none on a GPU."""
    if device.type != "cpu":
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        neighbors = Neighbors(torch.get_num_threads())
        stack.callback(neighbors.close)
        default = str(default_model_path())
        running = {
            "torch": Subprocess(device, segment, default, device),
            "torch, no spinning": Subprocess(device, segment, default, device, environment=PASSIVE),
        }
        if not quick and (copy := export_default(folder)):
            running["onnx"] = Subprocess(device, segment, str(copy), device)
        for each in running.values():
            stack.callback(each.close)

        def beside(run: Callable[[FrameArrays], Any], frame: FrameArrays) -> Any:
            neighbors.go()
            try:
                return run(frame)
            finally:
                neighbors.stop()

        cases = [Case(f"{name}, alone", run, "torch, alone") for name, run in running.items()]
        cases += [
            Case(f"{name}, beside", partial(beside, run), "torch, beside")
            for name, run in running.items()
        ]
        height, width = (64, 96) if quick else SIZE
        yield Group("shared", f"{height}x{width}", partial(random_frame, height, width), cases)
