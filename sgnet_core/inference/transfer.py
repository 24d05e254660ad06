"""Copy arrays to a device and back, through page-locked memory where the device is a GPU.

Copies to and from ordinary memory stop the program until they are done; these do not. PyTorch keeps
page-locked blocks for the next use and does not hand one out before its copy has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device, as uint8, uint16 or float32; other types become float32.

    On the CPU it shares the array's memory where PyTorch can: native bytes, positive strides,
    writable. The array may be changed as soon as this returns only if the device is a GPU.
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
