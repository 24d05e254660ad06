"""Gradients of the fused deformable convolution, in two Triton kernels.

Let g be the gradient of the result, and S(p, i, c) the features sampled for output pixel p at
kernel position i, times the mask.

- The gradient of S is G(p, i, c) = Σ_o g(p, o) W(o, c, i). From a tile of G in registers, one
  kernel computes the gradients of offsets, mask and features; those of the features are added to
  the four pixels by atomic operations.
- The gradient of the weight is Σ_p g(p, o) S(p, i, c): a product of two matrices, one of which is
  sampled instead of loaded.

S is nine times as large as the features and never written to memory. The order of atomic additions
varies, so two runs differ by rounding.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sgnet_core.ops.gather import POSITIONS
from sgnet_core.ops.triton_sampling import (
    dot_precision,
    load_corners,
    locate,
    output_pixels,
    sample,
)


class Block(NamedTuple):
    """Number of output pixels, input channels and output channels in one step of a kernel."""

    pixels: int
    channels: int
    outputs: int


# No registers spill with these (`tools/kernel_resources.py`); their speed has not been measured.
INPUTS, INPUTS_SINGLE = Block(64, 32, 64), Block(64, 32, 32)
"""Blocks of `_inputs_kernel` in half precision and in float32."""

WEIGHT, WEIGHT_SINGLE = Block(64, 64, 64), Block(32, 64, 64)
"""Blocks of `_weight_kernel` in half precision and in float32."""

WARPS, STAGES = 8, 2

PROGRAMS = 4 * 132
"""Programs that compute the gradient of the weight: four per multiprocessor of an H100 or H200."""


def fitted(block: Block, channels: int, outputs: int) -> Block:
    """Limit a block to the channels of a convolution, rounded up to a power of two, at least 16."""
    width, depth = (max(16, triton.next_power_of_2(count)) for count in (channels, outputs))
    return Block(block.pixels, min(block.channels, width), min(block.outputs, depth))


@triton.jit
def _add(at, values, mask):  # type: ignore[no-untyped-def]
    """Add atomically; in Triton's default order, each addition would empty the cache."""
    tl.atomic_add(at, values, mask=mask, sem="relaxed")


@triton.jit
def _inputs_kernel(  # type: ignore[no-untyped-def]
    gradient, x, offset, mask, weight, to_x, to_offset, to_mask,
    batch, height, width, channels, h, w, outputs,
    weight_output, weight_channel, weight_position,
    STRIDE: tl.constexpr,
    HAS_MASK: tl.constexpr,
    NEEDS_X: tl.constexpr,
    PRECISION: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of features, offsets and mask for PIXELS outputs and one position.

    gradient (B, h, w, O), x and to_x (B, H, W, C), offset and to_offset (B, 18, h, w), mask and
    to_mask (B, 9, h, w) are contiguous in that order. Results are float32. The gradient of the
    features is added to to_x.
    """
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    position = tl.program_id(1)
    plane = h * w
    image, place, row, column, exists = output_pixels(pixel, batch, h, w)
    fy, fx, factor, corner, ul, ur, ll, lr = locate(
        offset, mask, position, image, place, row, column, exists, plane, height, width,
        STRIDE, HAS_MASK,
    )  # fmt: skip
    sum_y = tl.full((PIXELS,), 0.0, dtype=tl.float32)
    sum_x = tl.full((PIXELS,), 0.0, dtype=tl.float32)
    sum_mask = tl.full((PIXELS,), 0.0, dtype=tl.float32)
    for first in range(0, channels, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)
        real = (channel < channels)[None, :]
        sampled = tl.full((PIXELS, CHANNELS), 0.0, dtype=tl.float32)
        for start in range(0, outputs, OUTPUTS):
            output = start + tl.arange(0, OUTPUTS)
            g = tl.load(
                gradient + pixel[:, None].to(tl.int64) * outputs + output[None, :],
                mask=exists[:, None] & (output < outputs)[None, :],
                other=0.0,
            )
            kernel = tl.load(
                weight
                + position * weight_position
                + output[:, None] * weight_output
                + channel[None, :] * weight_channel,
                mask=(output < outputs)[:, None] & real,
                other=0.0,
            )
            sampled += tl.dot(g, kernel, input_precision=PRECISION)
        a, b, c, d = load_corners(x, corner, ul, ur, ll, lr, channel, width, channels)
        upper = a + fx[:, None] * (b - a)
        lower = c + fx[:, None] * (d - c)
        across = (b - a) + fy[:, None] * ((d - c) - (b - a))
        sum_y += tl.sum(sampled * (lower - upper), axis=1)
        sum_x += tl.sum(sampled * across, axis=1)
        sum_mask += tl.sum(sampled * (upper + fy[:, None] * (lower - upper)), axis=1)
        if NEEDS_X:
            share = sampled * factor[:, None]
            at = to_x + corner[:, None] * channels + channel[None, :]
            low = at + width * channels
            _add(at, share * ((1 - fy) * (1 - fx))[:, None], ul[:, None] & real)
            _add(at + channels, share * ((1 - fy) * fx)[:, None], ur[:, None] & real)
            _add(low, share * (fy * (1 - fx))[:, None], ll[:, None] & real)
            _add(low + channels, share * (fy * fx)[:, None], lr[:, None] & real)
    moved = to_offset + (image * 18 + 2 * position) * plane + place
    tl.store(moved, sum_y * factor, mask=exists)
    tl.store(moved + plane, sum_x * factor, mask=exists)
    if HAS_MASK:
        tl.store(to_mask + (image * 9 + position) * plane + place, sum_mask, mask=exists)


@triton.jit
def _weight_kernel(  # type: ignore[no-untyped-def]
    gradient, x, offset, mask, to_weight,
    batch, height, width, channels, h, w, outputs, splits,
    STRIDE: tl.constexpr,
    HAS_MASK: tl.constexpr,
    PRECISION: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Add to the gradient of CHANNELS x OUTPUTS weights the part of every ``splits``-th block.

    A block has PIXELS output pixels. to_weight (9, C, O) is float32; the other arguments are those
    of `_inputs_kernel`.
    """
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    position = tl.program_id(2) % 9
    split = tl.program_id(2) // 9
    plane = h * w
    total = tl.full((CHANNELS, OUTPUTS), 0.0, dtype=tl.float32)
    for first in range(split * PIXELS, batch * plane, splits * PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        image, place, row, column, exists = output_pixels(pixel, batch, h, w)
        tile = sample(
            x, offset, mask, position, channel, image, place, row, column, exists,
            plane, height, width, channels, STRIDE, HAS_MASK,
        )  # fmt: skip
        g = tl.load(
            gradient + pixel[:, None].to(tl.int64) * outputs + output[None, :],
            mask=exists[:, None] & (output < outputs)[None, :],
            other=0.0,
        )
        total += tl.dot(tl.trans(tile.to(g.dtype)), g, input_precision=PRECISION)
    _add(
        to_weight + (position * channels + channel[:, None]) * outputs + output[None, :],
        total,
        (channel < channels)[:, None] & (output < outputs)[None, :],
    )


@torch.library.custom_op("sgnet::deform_conv_inputs_gradient", mutates_args=())
def inputs_gradient(
    gradient: Tensor,
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: int,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of a deformable convolution's features, offsets and mask.

    Args:
        gradient: (B, O, H', W') gradient of the result.
        x, offset, weight, mask, stride: arguments of the convolution.
        needs_x: compute the gradient of the features too.

    Returns:
        (B, C, H, W), (B, 18, H', W') and (B, 9, H', W') float32. The first has the shape (0,)
        without ``needs_x``, the last without a mask.
    """
    to_x, to_offset, to_mask = _empty_gradients(x, offset, mask, needs_x)
    batch, channels, height, width = x.shape
    outputs, h, w = gradient.shape[1:]
    if weight.stride(2) != 3 * weight.stride(3):
        weight = weight.contiguous()
    block = fitted(INPUTS_SINGLE if x.dtype == torch.float32 else INPUTS, channels, outputs)
    with torch.cuda.device_of(x):  # Triton launches on the current device, not on the tensors'
        _inputs_kernel[(triton.cdiv(batch * h * w, block.pixels), POSITIONS)](
            _rows(gradient.to(x.dtype)), _rows(x), offset.contiguous(),
            None if mask is None else mask.contiguous(), weight,
            to_x.zero_(), to_offset, to_mask,
            batch, height, width, channels, h, w, outputs,
            weight.stride(0), weight.stride(1), weight.stride(3),
            STRIDE=stride,
            HAS_MASK=mask is not None,
            NEEDS_X=needs_x,
            PRECISION=dot_precision(x.dtype),
            PIXELS=block.pixels,
            CHANNELS=block.channels,
            OUTPUTS=block.outputs,
            num_warps=WARPS,
            num_stages=STAGES,
        )  # fmt: skip
    return to_x, to_offset, to_mask


@torch.library.custom_op("sgnet::deform_conv_weight_gradient", mutates_args=())
def weight_gradient(
    gradient: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, stride: int
) -> Tensor:
    """Compute the (O, C, 3, 3) float32 gradient of the weight; see `inputs_gradient`."""
    batch, channels, height, width = x.shape
    outputs, h, w = gradient.shape[1:]
    to_weight = torch.zeros(POSITIONS, channels, outputs, device=x.device)
    block = fitted(WEIGHT_SINGLE if x.dtype == torch.float32 else WEIGHT, channels, outputs)
    grid = triton.cdiv(channels, block.channels), triton.cdiv(outputs, block.outputs)
    wanted = triton.cdiv(PROGRAMS, grid[0] * grid[1] * POSITIONS)
    splits = min(wanted, triton.cdiv(batch * h * w, block.pixels))
    with torch.cuda.device_of(x):
        _weight_kernel[(*grid, POSITIONS * splits)](
            _rows(gradient.to(x.dtype)), _rows(x), offset.contiguous(),
            None if mask is None else mask.contiguous(), to_weight,
            batch, height, width, channels, h, w, outputs, splits,
            STRIDE=stride,
            HAS_MASK=mask is not None,
            PRECISION=dot_precision(x.dtype),
            PIXELS=block.pixels,
            CHANNELS=block.channels,
            OUTPUTS=block.outputs,
            num_warps=WARPS,
            num_stages=STAGES,
        )  # fmt: skip
    return to_weight.permute(2, 1, 0).reshape(outputs, channels, 3, 3).contiguous()


def _rows(maps: Tensor) -> Tensor:
    """Return (B, C, H, W) maps in channels-last memory, copied only if necessary."""
    return maps.contiguous(memory_format=torch.channels_last)


def _empty_gradients(
    x: Tensor, offset: Tensor, mask: Tensor | None, needs_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    empty = functools.partial(torch.empty, dtype=torch.float32, device=x.device)
    to_x = empty(x.shape, memory_format=torch.channels_last) if needs_x else empty(0)
    return to_x, empty(offset.shape), empty(0) if mask is None else empty(mask.shape)


@inputs_gradient.register_fake
def _(
    gradient: Tensor,
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: int,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_gradients(x, offset, mask, needs_x)


@weight_gradient.register_fake
def _(gradient: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, stride: int) -> Tensor:
    return torch.empty(gradient.shape[1], x.shape[1], 3, 3, device=x.device)
