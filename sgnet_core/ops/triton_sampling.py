"""Bilinear sampling at displaced kernel positions, for all Triton kernels of this folder.

A program works on a vector of PIXELS output pixels, one kernel position at a time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def dot_precision(dtype: torch.dtype) -> str:
    """Return the ``input_precision`` of ``tl.dot`` that matches PyTorch's convolutions.

    Where PyTorch does not allow TF32 in float32 convolutions, each product is computed from three
    TF32 products, which has the accuracy of float32 and still runs on tensor cores.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    if dtype == torch.float32 and convolutions.fp32_precision != "tf32":
        return "tf32x3"
    return "tf32"  # has no effect on half precision


@triton.jit
def _clamped(coordinate, highest):  # type: ignore[no-untyped-def]
    """Limit coordinates to -2..highest and keep NaN, which tl.clamp would replace."""
    low = tl.maximum(coordinate, -2.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(low, highest, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def output_pixels(pixel, batch, h, w):  # type: ignore[no-untyped-def]
    """Return image, index within the image, row and column of pixels, and a mask of valid ones."""
    plane = h * w
    place = pixel % plane
    return pixel // plane, place, place // w, place % w, pixel < batch * plane


@triton.jit
def locate(  # type: ignore[no-untyped-def]
    offset, mask, position, image, place, row, column, exists, plane, height, width,
    STRIDE: tl.constexpr,
    HAS_MASK: tl.constexpr,
):  # fmt: skip
    """Locate the four pixels that a kernel position reads.

    offset is (B, 18, h, w), mask (B, 9, h, w).

    Returns:
        fy, fx: distance from the upper left pixel, 0..1; NaN where the offset is NaN.
        factor: the mask, or 1.
        corner: int64 index of the upper left pixel within (B, H, W).
        inside: four masks that tell whether the upper left, upper right, lower left and lower
            right pixels are within the map.
    """
    moved = offset + (image * 18 + 2 * position) * plane + place
    dy = tl.load(moved, mask=exists, other=0.0).to(tl.float32)
    dx = tl.load(moved + plane, mask=exists, other=0.0).to(tl.float32)
    # Coordinates far outside would overflow the integers. They read zeros either way. NaN makes the
    # bilinear weights and the result NaN.
    y = _clamped(row * STRIDE - 1 + position // 3 + dy, height + 1.0)
    x = _clamped(column * STRIDE - 1 + position % 3 + dx, width + 1.0)
    top = tl.floor(y)
    left = tl.floor(x)
    y0 = top.to(tl.int32)
    x0 = left.to(tl.int32)
    factor = tl.full(y.shape, 1.0, dtype=tl.float32)
    if HAS_MASK:
        masked = mask + (image * 9 + position) * plane + place
        factor = tl.load(masked, mask=exists, other=0.0).to(tl.float32)
    upper = exists & (y0 >= 0) & (y0 < height)
    lower = exists & (y0 >= -1) & (y0 < height - 1)
    on_left = (x0 >= 0) & (x0 < width)
    on_right = (x0 >= -1) & (x0 < width - 1)
    corner = (image * height + y0).to(tl.int64) * width + x0
    return (
        y - top, x - left, factor, corner,
        upper & on_left, upper & on_right, lower & on_left, lower & on_right,
    )  # fmt: skip


@triton.jit
def load_corners(  # type: ignore[no-untyped-def]
    x, corner, upper_left, upper_right, lower_left, lower_right, channel, width, channels
):
    """Load four (PIXELS, CHANNELS) float32 tiles of x (B, H, W, C); 0 outside the map."""
    real = (channel < channels)[None, :]
    at = x + corner[:, None] * channels + channel[None, :]
    down = width * channels
    return (
        tl.load(at, mask=upper_left[:, None] & real, other=0.0).to(tl.float32),
        tl.load(at + channels, mask=upper_right[:, None] & real, other=0.0).to(tl.float32),
        tl.load(at + down, mask=lower_left[:, None] & real, other=0.0).to(tl.float32),
        tl.load(at + down + channels, mask=lower_right[:, None] & real, other=0.0).to(tl.float32),
    )


@triton.jit
def sample(  # type: ignore[no-untyped-def]
    x, offset, mask, position, channel, image, place, row, column, exists,
    plane, height, width, channels,
    STRIDE: tl.constexpr,
    HAS_MASK: tl.constexpr,
):  # fmt: skip
    """Sample (PIXELS, CHANNELS) float32 features at a kernel position, times the mask."""
    fy, fx, factor, corner, ul, ur, ll, lr = locate(
        offset, mask, position, image, place, row, column, exists, plane, height, width,
        STRIDE, HAS_MASK,
    )  # fmt: skip
    a, b, c, d = load_corners(x, corner, ul, ur, ll, lr, channel, width, channels)
    tile = ((1 - fy) * (1 - fx) * factor)[:, None] * a
    tile += ((1 - fy) * fx * factor)[:, None] * b
    tile += (fy * (1 - fx) * factor)[:, None] * c
    tile += (fy * fx * factor)[:, None] * d
    return tile
