"""The type a network computes in: half precision for the features, float32 for the geometry."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sgnet_core.geometry.spatial import SPATIAL_CHANNELS
from sgnet_core.models.sconv import Projector
from sgnet_core.models.sgnet import SGNet

PRECISIONS = ("auto", "fp32", "fp16", "bf16")

_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type of that name; "auto" is float16 on a GPU, else float32.

    Raises:
        ValueError: an unknown precision, or float16 on the CPU, which computes it slowly.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}; got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU: use fp32, bf16 or auto on the CPU")
    if precision == "auto":
        precision = "fp32" if device.type == "cpu" else "fp16"
    return _TYPES[precision]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device is a CPU that has products of bfloat16: AVX512-BF16 or AMX.

    There a network takes half to two thirds of its time in float32; elsewhere it takes longer.
    """
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public ones
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)


def cast(network: SGNet, dtype: torch.dtype) -> SGNet:
    """The network itself, made to compute in ``dtype``; its spatial input stays float32.

    Projectors read that input in float32. As bfloat16, with 8 bits, all depths between 4 and 8 m
    would be multiples of 3 cm, and offsets and masks move by that.
    """
    geometric = dtype != torch.float32 and SPATIAL_CHANNELS[network.config.spatial]
    projectors = [m for m in network.modules() if isinstance(m, Projector)] if geometric else []
    first = [copy.deepcopy(projector[0]) for projector in projectors]
    network.to(dtype)
    for projector, layer in zip(projectors, first, strict=True):
        projector[0] = _ReadsFloat32(layer, dtype)
    return network


class _ReadsFloat32(nn.Module):
    """A layer that computes in float32 and hands its result on in another type."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        result: Tensor = self.layer(x).to(self.dtype)
        return result
