"""Modulated deformable convolution (Zhu et al., Deformable ConvNets v2, CVPR 2019).

Three implementations compute the same: ``gather`` (`sgnet_core.ops.gather`) on the CPU, where it is
several times faster than the others; ``fused``, one Triton kernel (`sgnet_core.ops.triton_deform`),
on GPUs where its self-test passes; and ``torchvision`` everywhere else and during export.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from sgnet_core.ops.gather import find_taps, gather_conv

Implementation = Literal["gather", "fused", "torchvision"]

_forced: Implementation | None = None


def implementation(x: Tensor) -> Implementation:
    """Return the implementation that runs for features like ``x``."""
    if torch.compiler.is_exporting():
        return "torchvision"
    if _forced is not None:
        return _forced
    if x.device.type == "cpu":
        return "gather"
    if x.is_cuda and x.dtype != torch.float64:
        from sgnet_core.ops.triton_support import fused_runs_on  # loads torch's compiler

        if fused_runs_on(x.device, gradients=torch.is_grad_enabled()):
            return "fused"
    return "torchvision"


@contextlib.contextmanager
def force_implementation(name: Implementation) -> Iterator[None]:
    """Within the block, run one implementation in all threads, for comparisons and tests."""
    global _forced
    previous, _forced = _forced, name
    try:
        yield
    finally:
        _forced = previous


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
) -> Tensor:
    """Compute Y(p) = Σ_i W_i · M_i(p) · X(p + d_i + Δd_i(p)): 3x3, padding 1, dilation 1.

    Args:
        x: (B, C, H, W) features.
        offset: (B, 2K, H', W') in pixels of X, (Δy, Δx) per kernel position, K = 9. A NaN offset
            makes all channels of its output pixel NaN.
        weight: (O, C, 3, 3) kernel.
        mask: (B, K, H', W') factors, or None for an unmodulated convolution.
        bias: (O,) or None.
        stride: 1 or 2.

    Returns:
        (B, O, H', W') in the type of the features; the fused kernel returns autocast's type where
        autocast is on.
    """
    chosen = implementation(x)
    if chosen == "gather":
        taps = find_taps(offset, (x.shape[2], x.shape[3]), stride)
        return gather_conv(x, taps, weight, mask, bias)
    if chosen == "fused":
        return fused_conv(x, offset, weight, mask, bias, stride)
    return _torchvision_conv(x, offset, weight, mask, bias, stride)


def fused_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    stride: int = 1,
    sigmoid: bool = False,
) -> Tensor:
    """Compute `deform_conv2d` by the fused kernel, followed by a sigmoid if ``sigmoid`` is true.

    It computes in autocast's type where autocast is on.
    """
    from sgnet_core.ops.triton_deform import deform_conv  # needs Triton

    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    result: Tensor = deform_conv(x.to(dtype), offset, weight.to(dtype), mask, bias, stride, sigmoid)
    return result


def _torchvision_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: int,
) -> Tensor:
    """Compute `deform_conv2d` by torchvision's operator, in float32 or float64.

    The operator computes coordinates in the type of the features, which in float16 would move
    samples by up to 1/16 pixel from column 128 on, and it does not support bfloat16.
    """
    import torchvision.ops  # takes as long to import as torch, and is seldom needed

    exact = torch.promote_types(x.dtype, torch.float32)
    result: Tensor = torchvision.ops.deform_conv2d(
        x.to(exact),
        offset.to(exact),
        weight.to(exact),
        None if bias is None else bias.to(exact),
        stride=stride,
        padding=1,
        mask=None if mask is None else mask.to(exact),
    )
    return result.to(x.dtype)
