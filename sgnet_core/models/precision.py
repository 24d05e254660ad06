"""Numeric precision of a network: half precision for the features, float32 for the geometry."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sgnet_core.geometry.spatial import SPATIAL_CHANNELS
from sgnet_core.models.sconv import Projector
from sgnet_core.models.sgnet import SGNet

PRECISIONS = ("auto", "fp32", "fp16", "bf16")

_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the type for one of `PRECISIONS`; "auto" is float16 on a GPU, else float32.

    Raises:
        ValueError: an unknown precision, or float16 on the CPU, where it is slow.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU: use fp32, bf16 or auto on the CPU")
    if precision == "auto":
        precision = "fp32" if device.type == "cpu" else "fp16"
    return _TYPES[precision]


def multiplies_bf16(device: torch.device) -> bool:
    """Return True for a CPU with instructions for bfloat16 products: AVX512-BF16 or AMX."""
    return device.type == "cpu" and (_supports("avx512_bf16") or _supports("amx_tile"))


def bf16_is_faster(device: torch.device) -> bool:
    """Return True for a CPU on which bfloat16 takes half to two thirds of the time of float32.

    These are CPUs with AMX, and AMD's with AVX512-BF16. On Intel's with AVX512-BF16 alone (virtual
    machines often hide AMX) bfloat16 takes longer, as everywhere else.
    """
    gains = _supports("amx_tile") or cpu_entry("vendor_id") == "AuthenticAMD"
    return multiplies_bf16(device) and gains


def _supports(feature: str) -> bool:
    """Ask PyTorch, which has no public functions for it, about a feature of the CPU."""
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", bool)())


def cpu_entry(name: str) -> str:
    """Return the first entry of that name in Linux's description of the CPU, or ""."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def cast(network: SGNet, dtype: torch.dtype) -> SGNet:
    """Make the network compute in ``dtype``, in place, and return it.

    The first layer of each `Projector` reads the geometry. It keeps its float32 weights and
    computes in float32; on a GPU in TF32, PyTorch's default, which is sufficient (docs/sconv.md).
    """
    reads_geometry = SPATIAL_CHANNELS[network.config.spatial] > 0
    projectors = [m for m in network.modules() if reads_geometry and isinstance(m, Projector)]
    first = [projector[0] for projector in projectors]
    for projector in projectors:
        projector[0] = nn.Identity()
    network.to(dtype)
    for projector, layer in zip(projectors, first, strict=True):
        projector[0] = layer
    return network
