"""Modulated deformable 3x3 convolution in one Triton kernel: gather, mask and matrix product.

It is the implicit matrix product of a convolution, except that tiles of its left side are sampled
instead of loaded: four pixels for each kernel position, summed with their bilinear weights, into
which the mask is multiplied. Sampled values live in registers only. Products are in the type of the
features, sums in float32. Zhu et al., Deformable ConvNets v2, CVPR 2019.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision.ops
import triton
import triton.language as tl
from torch import Tensor

from sgnet_core.ops.gather import find_taps, gather_conv

KERNEL_WIDTH = 3
POSITIONS = 9
PIXELS = 64
"""Output pixels of one tile."""
STAGES = 2
"""Number of software-pipeline stages."""


@triton.jit
def _clamped(coordinate, highest):  # type: ignore[no-untyped-def]
    """Limit coordinates to -2..highest; NaN stays NaN, which tl.clamp and max.f32 would drop."""
    low = tl.maximum(coordinate, -2.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(low, highest, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _deform_kernel(  # type: ignore[no-untyped-def]
    x, offset, mask, weight, bias, out,
    batch, height, width, channels, h, w, outputs,
    weight_output, weight_channel, weight_position,
    out_batch, out_channel, out_row, out_column,
    STRIDE: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SIGMOID: tl.constexpr,
    EXACT: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute one tile of PIXELS output pixels and OUTPUTS output channels.

    x (B, H, W, C), offset (B, 18, h, w) and mask (B, 9, h, w) are contiguous in that order.
    """
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    plane = h * w
    exists = pixel < batch * plane
    image = pixel // plane
    place = pixel % plane
    row = place // w
    column = place % w
    total = tl.full((PIXELS, OUTPUTS), 0.0, dtype=tl.float32)
    for position in range(9):
        moved = offset + (image * 18 + 2 * position) * plane + place
        dy = tl.load(moved, mask=exists, other=0.0).to(tl.float32)
        dx = tl.load(moved + plane, mask=exists, other=0.0).to(tl.float32)
        # Coordinates far outside would overflow the integers; they read zeros either way. NaN
        # stays NaN, makes the bilinear weights NaN, and so reaches the result.
        y = _clamped(row * STRIDE - 1 + position // 3 + dy, height + 1.0)
        x_ = _clamped(column * STRIDE - 1 + position % 3 + dx, width + 1.0)
        top = tl.floor(y)
        left = tl.floor(x_)
        fy = y - top
        fx = x_ - left
        y0 = top.to(tl.int32)
        x0 = left.to(tl.int32)
        factor = tl.full((PIXELS,), 1.0, dtype=tl.float32)
        if HAS_MASK:
            masked = mask + (image * 9 + position) * plane + place
            factor = tl.load(masked, mask=exists, other=0.0).to(tl.float32)
        inside_top = exists & (y0 >= 0) & (y0 < height)
        inside_bottom = exists & (y0 >= -1) & (y0 < height - 1)
        inside_left = (x0 >= 0) & (x0 < width)
        inside_right = (x0 >= -1) & (x0 < width - 1)
        corner = ((image * height + y0).to(tl.int64) * width + x0) * channels
        for first in range(0, channels, CHANNELS):
            channel = first + tl.arange(0, CHANNELS)
            real = (channel < channels)[None, :]
            at = x + corner[:, None] + channel[None, :]
            down = width * channels
            tile = ((1 - fy) * (1 - fx) * factor)[:, None] * tl.load(
                at, mask=(inside_top & inside_left)[:, None] & real, other=0.0
            ).to(tl.float32)
            tile += ((1 - fy) * fx * factor)[:, None] * tl.load(
                at + channels, mask=(inside_top & inside_right)[:, None] & real, other=0.0
            ).to(tl.float32)
            tile += (fy * (1 - fx) * factor)[:, None] * tl.load(
                at + down, mask=(inside_bottom & inside_left)[:, None] & real, other=0.0
            ).to(tl.float32)
            tile += (fy * fx * factor)[:, None] * tl.load(
                at + down + channels, mask=(inside_bottom & inside_right)[:, None] & real, other=0.0
            ).to(tl.float32)
            kernel = tl.load(
                weight
                + position * weight_position
                + channel[:, None] * weight_channel
                + output[None, :] * weight_output,
                mask=(channel < channels)[:, None] & (output < outputs)[None, :],
                other=0.0,
            )
            if EXACT:
                total += tl.dot(tile.to(kernel.dtype), kernel, input_precision="ieee")
            else:
                total += tl.dot(tile.to(kernel.dtype), kernel)
    if HAS_BIAS:
        total += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    if SIGMOID:
        total = 1.0 / (1.0 + tl.exp(-total))
    target = (image * out_batch + row * out_row + column * out_column)[:, None]
    tl.store(
        out + target + output[None, :] * out_channel,
        total.to(out.dtype.element_ty),
        mask=exists[:, None] & (output < outputs)[None, :],
    )


@torch.library.custom_op("sgnet::deform_conv", mutates_args=())
def deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: int,
    sigmoid: bool,
) -> Tensor:
    """Compute the convolution by the fused kernel, padding 1; differentiable and compilable.

    Args:
        x: (B, C, H, W) features; channels-last memory is read without a copy.
        offset: (B, 18, H', W') in pixels, (Δy, Δx) per kernel position.
        weight: (O, C, 3, 3), of the features' type.
        mask: (B, 9, H', W') factors, or None.
        bias: (O,), or None.
        stride: 1 or 2.
        sigmoid: apply a sigmoid to the result, as for S-Conv's mask.

    Returns:
        (B, O, H', W') in the features' type; contiguous with ``sigmoid``, else channels-last.

    Raises:
        ValueError: shapes or types do not fit together.
    """
    out = _empty_result(x, offset, weight, sigmoid)
    _check(x, offset, weight, mask)
    batch, channels, height, width = x.shape
    outputs, (h, w) = len(weight), offset.shape[2:]
    rows = x.contiguous(memory_format=torch.channels_last)
    if weight.stride(2) != KERNEL_WIDTH * weight.stride(3):
        weight = weight.contiguous()
    columns, depth, warps = tile_sizes(outputs, channels, x.dtype)
    grid = (triton.cdiv(batch * h * w, PIXELS), triton.cdiv(outputs, columns))
    with torch.cuda.device_of(x):  # Triton launches on the current device, whatever the tensors'
        _deform_kernel[grid](
            rows, offset.contiguous(), None if mask is None else mask.contiguous(), weight, bias,
            out, batch, height, width, channels, h, w, outputs,
            weight.stride(0), weight.stride(1), weight.stride(3),
            *out.stride(),
            STRIDE=stride,
            HAS_MASK=mask is not None,
            HAS_BIAS=bias is not None,
            SIGMOID=sigmoid,
            EXACT=x.dtype == torch.float32,
            PIXELS=PIXELS,
            OUTPUTS=columns,
            CHANNELS=depth,
            num_warps=warps,
            num_stages=STAGES,
        )  # fmt: skip
    return out


def tile_sizes(outputs: int, channels: int, dtype: torch.dtype) -> tuple[int, int, int]:
    """Return (output channels, input channels per step, warps) of a tile.

    Tiles are wide in output channels, because every tile samples its pixels again; powers of two of
    at least 16, which tensor cores need; and small enough that no registers spill and shared memory
    stays below the 99 KB of the smaller Ampere and Ada chips.
    """
    single = dtype == torch.float32
    columns = min(128 if single else 256, max(16, triton.next_power_of_2(outputs)))
    deepest = 64 if columns <= 64 and not single else 32
    warps = 8 if columns == 256 or (single and columns == 128) else 4
    return columns, min(deepest, max(16, triton.next_power_of_2(channels))), warps


def _empty_result(x: Tensor, offset: Tensor, weight: Tensor, sigmoid: bool) -> Tensor:
    shape = (x.shape[0], weight.shape[0], offset.shape[2], offset.shape[3])
    layout = torch.contiguous_format if sigmoid else torch.channels_last
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def _check(x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError for shapes with which the kernel would read out of bounds."""
    batch, channels = x.shape[:2]
    positions, h, w = offset.shape[1:]
    wrong = (
        tuple(weight.shape[1:]) != (channels, KERNEL_WIDTH, KERNEL_WIDTH)
        or (len(offset), positions) != (batch, 2 * POSITIONS)
        or (mask is not None and mask.shape != (batch, POSITIONS, h, w))
        or weight.dtype != x.dtype
    )
    if wrong:
        raise ValueError(
            f"deformable convolution of {tuple(x.shape)} {x.dtype} with weight "
            f"{tuple(weight.shape)} {weight.dtype}, offset {tuple(offset.shape)}, mask "
            f"{None if mask is None else tuple(mask.shape)}"
        )


@deform_conv.register_fake
def _(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: int,
    sigmoid: bool,
) -> Tensor:
    return _empty_result(x, offset, weight, sigmoid)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, offset, weight, mask, bias, ctx.stride, ctx.sigmoid = inputs
    ctx.save_for_backward(x, offset, weight, mask, bias)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Recompute the result by `gather_conv` in float32 and take PyTorch's gradients of it."""
    wanted = ctx.needs_input_grad[:5]
    saved: list[Any] = [
        t.detach().float().requires_grad_(need) if t is not None else None
        for t, need in zip(ctx.saved_tensors, wanted, strict=True)
    ]
    x, offset, weight, mask, bias = saved
    with torch.enable_grad():
        taps = find_taps(offset, (x.shape[2], x.shape[3]), KERNEL_WIDTH, ctx.stride)
        result = gather_conv(x, taps, weight, mask, bias)
        if ctx.sigmoid:
            result = result.sigmoid()
    inputs = [t for t, need in zip(saved, wanted, strict=True) if need]
    found = iter(torch.autograd.grad(result, inputs, gradient.float()))
    kinds = [None if t is None else t.dtype for t in ctx.saved_tensors]
    gradients = [
        next(found).to(kind) if need else None for need, kind in zip(wanted, kinds, strict=True)
    ]
    return (*gradients, None, None)


deform_conv.register_autograd(_backward, setup_context=_keep)


def self_test(device: torch.device) -> float:
    """Return the kernel's largest relative error in float16 against torchvision's float32."""
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for stride, outputs, channels in ((1, 64, 64), (2, 9, 64), (1, 256, 96)):
        h, w = (17 - 1) // stride + 1, (23 - 1) // stride + 1
        x = torch.randn(2, channels, 17, 23, generator=generator).to(device)
        offset = (torch.randn(2, 18, h, w, generator=generator) * 3).to(device)
        mask = torch.rand(2, 9, h, w, generator=generator).to(device)
        weight = (torch.randn(outputs, channels, 3, 3, generator=generator) * 0.1).to(device)
        expected = torchvision.ops.deform_conv2d(
            x, offset, weight, stride=stride, padding=1, mask=mask
        )
        got = deform_conv(x.half(), offset, weight.half(), mask, None, stride, False).float()
        worst = max(worst, float((got - expected).abs().max() / expected.abs().max()))
    return worst
