"""Copy arrays to a device and back, through page-locked memory if the device is a GPU.

Unlike copies from and to ordinary memory, these do not block. PyTorch reuses page-locked blocks
only after their copies have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device as uint8, uint16 or float32; other types become float32.

    On the CPU, the tensor may share the memory of the array, so the array must not change while the
    tensor is in use.
    """
    if array.dtype not in (np.uint8, np.uint16, np.float32):
        array = array.astype(np.float32)
    if not array.flags.writeable or min(array.strides) < 0 or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_host(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Copy tensors to the CPU, waiting for the device once for all of them."""
    copies: list[Tensor | None] = []
    devices = set()
    for tensor in tensors:
        if tensor is not None and tensor.is_cuda:
            devices.add(tensor.device)
            copy = torch.empty_like(tensor, device="cpu", pin_memory=True)
            tensor = copy.copy_(tensor, non_blocking=True)
        copies.append(tensor if tensor is None else tensor.cpu())
    for device in devices:
        torch.cuda.current_stream(device).synchronize()
    return copies
