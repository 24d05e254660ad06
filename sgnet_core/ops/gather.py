"""Deformable 3x3 convolution as a gather of the sampled pixels followed by one matrix product.

It is plain differentiable PyTorch for any device: the reference in the tests of the other
implementations, and the fastest one on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 3
POSITIONS = KERNEL * KERNEL


class Taps(NamedTuple):
    """Pixels that a deformable convolution reads, with their bilinear weights.

    N = B·H'·W'·K rows, in the order batch, row, column, kernel position.

    Attributes:
        pixel: (N, 4) int64 indices into the B·H·W pixels of the feature map.
        weight: (N, 4) bilinear weights; 0 where the pixel lies outside the map.
        shape: (B, H', W') of the output.
    """

    pixel: Tensor
    weight: Tensor
    shape: tuple[int, int, int]


def find_taps(offset: Tensor, size: tuple[int, int], stride: int = 1) -> Taps:
    """Find the bilinear taps of a deformable convolution with padding 1 and K = 9 positions.

    Pixels outside the map read 0, as if the map were padded with zeros. A NaN coordinate gives NaN
    weights.

    Args:
        offset: (B, 2K, H', W') in pixels, channel 2i = Δy and 2i + 1 = Δx of kernel position i in
            row-major order. Half precision is converted to float32.
        size: (H, W) of the feature map.
        stride: stride of the convolution.
    """
    if offset.dtype in (torch.bfloat16, torch.float16):
        offset = offset.float()  # in half precision, neighboring pixels get equal coordinates
    height, width = size
    batch, _, h, w = offset.shape
    delta = offset.view(batch, POSITIONS, 2, h, w).permute(0, 3, 4, 1, 2)  # (B, h, w, K, 2)
    arange = torch.arange(max(h, w, KERNEL), device=offset.device, dtype=offset.dtype)
    row = arange[:h] * stride - 1
    column = arange[:w] * stride - 1
    y = delta[..., 0] + row.view(h, 1, 1) + arange[:KERNEL].repeat_interleave(KERNEL)
    x = delta[..., 1] + column.view(w, 1) + arange[:KERNEL].repeat(KERNEL)
    # Coordinates far outside would overflow the integers below. They read zeros either way.
    y, x = y.clamp(-2, height + 1), x.clamp(-2, width + 1)
    y0, x0 = y.detach().floor(), x.detach().floor()
    fy, fx = y - y0, x - x0
    weight = torch.stack(((1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx), dim=-1)
    ys = torch.stack((y0, y0, y0 + 1, y0 + 1), dim=-1)
    xs = torch.stack((x0, x0 + 1, x0, x0 + 1), dim=-1)
    inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
    # Clamp the integers, so that a NaN coordinate becomes a valid index while its weight stays NaN.
    index = ys.long().clamp_(0, height - 1) * width + xs.long().clamp_(0, width - 1)
    index += torch.arange(batch, device=offset.device).view(batch, 1, 1, 1, 1) * (height * width)
    return Taps(index.view(-1, 4), (weight * inside).view(-1, 4), (batch, h, w))


def gather_conv(
    x: Tensor, taps: Taps, weight: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Compute a deformable convolution from its taps: one weighted gather, one matrix product.

    The bilinear sum over four pixels is an embedding bag over the pixels of the channels-last map.
    The mask is multiplied into the bilinear weights.

    Args:
        x: (B, C, H, W) features.
        taps: result of `find_taps` for the same B, H, W.
        weight: (O, C, 3, 3) kernel.
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
