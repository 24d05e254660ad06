"""Memory of the process, and memory and load of its GPU."""

from __future__ import annotations

import os
from contextlib import suppress

from sgnet_ros.system.processes import resident_mib

_MIB = 1 << 20


def resources(device: str) -> dict[str, str]:
    """Return names and values for ``/diagnostics``; unknown values are left out.

    Args:
        device: ``cpu``, ``cuda:0``, …, or empty. GPU utilization needs ``nvidia-ml-py``.
    """
    values = {}
    resident = resident_mib(os.getpid())
    if resident is not None:
        values["process memory MiB"] = f"{resident:.0f}"
    if not device.startswith("cuda"):
        return values
    import torch  # here, because processes that only observe a node do not load PyTorch

    # A failed GPU raises errors.
    with suppress(RuntimeError, AssertionError):
        free, total = torch.cuda.mem_get_info(device)
        values["GPU memory MiB in use"] = f"{(total - free) / _MIB:.0f} of {total / _MIB:.0f}"
        values["GPU memory MiB of the node"] = f"{torch.cuda.memory_reserved(device) / _MIB:.0f}"
    with suppress(Exception):  # PyTorch passes on all errors of NVML and its loader
        values["GPU utilization %"] = str(torch.cuda.utilization(device))
    return values
