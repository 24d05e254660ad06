"""Modulated deformable convolution (Zhu et al., Deformable ConvNets v2, CVPR 2019).

`deform_conv2d` takes the same arguments as ``torchvision.ops.deform_conv2d`` and picks the
implementation: on the CPU a gather of the sampled pixels followed by one matrix product, which is
several times faster there; on a GPU the fused kernel of `sgnet_core.ops.triton_deform`;
torchvision's operator where that does not run, and while a graph is exported.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Taps(NamedTuple):
    """Where a deformable convolution reads: four pixels and their weights for every tap.

    N = B·H'·W'·K rows, in the order batch, row, column, kernel position.

    Attributes:
        pixel: (N, 4) int64 into the B·H·W pixels of the feature map.
        weight: (N, 4) bilinear weights; 0 where the pixel lies outside the map.
        shape: (B, H', W') of the output.
    """

    pixel: Tensor
    weight: Tensor
    shape: tuple[int, int, int]


def find_taps(
    offset: Tensor, size: tuple[int, int], kernel: int = 3, stride: int = 1, padding: int = 1
) -> Taps:
    """Bilinear taps of a K = kernel² deformable convolution over a map of ``size`` (H, W).

    ``offset`` is (B, 2K, H', W') in pixels, channel 2i = Δy and 2i + 1 = Δx of kernel position i
    in row-major order. Outside the map the value is 0, pixel by pixel, as if the map were padded.
    """
    if offset.dtype in (torch.bfloat16, torch.float16):
        offset = offset.float()  # these cannot tell neighbouring pixels apart
    height, width = size
    batch, _, h, w = offset.shape
    delta = offset.view(batch, kernel * kernel, 2, h, w).permute(0, 3, 4, 1, 2)  # (B, h, w, K, 2)
    arange = torch.arange(max(h, w, kernel), device=offset.device, dtype=offset.dtype)
    row = arange[:h] * stride - padding
    column = arange[:w] * stride - padding
    y = delta[..., 0] + row.view(h, 1, 1) + arange[:kernel].repeat_interleave(kernel)
    x = delta[..., 1] + column.view(w, 1) + arange[:kernel].repeat(kernel)
    # Coordinates far outside would overflow the integers below; they read zeros either way.
    y, x = y.clamp(-2, height + 1), x.clamp(-2, width + 1)
    y0, x0 = y.detach().floor(), x.detach().floor()
    fy, fx = y - y0, x - x0
    weight = torch.stack(((1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx), dim=-1)
    ys = torch.stack((y0, y0, y0 + 1, y0 + 1), dim=-1)
    xs = torch.stack((x0, x0 + 1, x0, x0 + 1), dim=-1)
    inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
    # Limited as integers, so that NaN, in a network that diverges, reads some pixel times NaN.
    index = ys.long().clamp_(0, height - 1) * width + xs.long().clamp_(0, width - 1)
    index += torch.arange(batch, device=offset.device).view(batch, 1, 1, 1, 1) * (height * width)
    return Taps(index.view(-1, 4), (weight * inside).view(-1, 4), (batch, h, w))


def gather_conv(
    x: Tensor, taps: Taps, weight: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Deformable convolution from its taps: one weighted gather, then one matrix product.

    The bilinear sum over four pixels is an embedding bag over the rows of the channels-last map;
    the mask (B, K, H', W') rides on the bilinear weights.

    Args:
        x: (B, C, H, W) features.
        taps: of `find_taps`, for the same B, H, W.
        weight: (O, C, k, k) kernel.
        mask: (B, K, H', W') factors, one per kernel position, or None.
        bias: (O,) or None.

    Returns:
        (B, O, H', W') in channels-last memory order.
    """
    batch, h, w = taps.shape
    channels, out = x.shape[1], weight.shape[0]
    tap_weight = taps.weight
    if mask is not None:
        tap_weight = tap_weight * mask.permute(0, 2, 3, 1).reshape(-1, 1)
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    tap_weight = tap_weight.to(rows.dtype)
    sampled = F.embedding_bag(taps.pixel, rows, per_sample_weights=tap_weight, mode="sum")
    kernel = weight.permute(2, 3, 1, 0).reshape(-1, out)  # (K·C, O)
    columns = sampled.view(batch * h * w, -1)
    result = columns @ kernel if bias is None else torch.addmm(bias, columns, kernel)
    return result.view(batch, h, w, out).permute(0, 3, 1, 2)


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
) -> Tensor:
    """Y(p) = Σ_i W_i · M_i(p) · X(p + d_i + Δd_i(p)): 3x3, padding 1, one group, dilation 1.

    Args:
        x: (B, C, H, W).
        offset: (B, 2K, H', W') in pixels of X, (Δy, Δx) per kernel position.
        weight: (O, C, 3, 3).
        mask: (B, K, H', W'), or None for an unmodulated convolution.
        bias: (O,) or None.

    Returns:
        (B, O, H', W').
    """
    if uses_gather(x):
        taps = find_taps(offset, (x.shape[2], x.shape[3]), 3, stride)
        return gather_conv(x, taps, weight, mask, bias)
    if uses_fused(x):
        return fused_conv(x, offset, weight, mask, bias, stride)
    import torchvision.ops  # takes as long to load as torch, and is seldom needed

    return torchvision.ops.deform_conv2d(
        x, offset, weight, bias, stride=stride, padding=1, mask=mask
    )


def uses_gather(x: Tensor) -> bool:
    """Whether the gather runs: on the CPU, unless a graph with the plain operator is wanted."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


def uses_fused(x: Tensor) -> bool:
    """Whether the fused GPU kernel runs."""
    if not x.is_cuda or torch.compiler.is_exporting():
        return False
    from sgnet_core.ops.triton_support import fused_runs_on  # loads torch's compiler

    return fused_runs_on(x.device)


def fused_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    stride: int = 1,
    sigmoid: bool = False,
) -> Tensor:
    """`deform_conv2d` by the fused kernel, in autocast's type where autocast is on.

    With ``sigmoid`` the result is the sigmoid of the convolution's.
    """
    from sgnet_core.ops.triton_deform import deform_conv  # needs Triton

    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    result: Tensor = deform_conv(x.to(dtype), offset, weight.to(dtype), mask, bias, stride, sigmoid)
    return result
