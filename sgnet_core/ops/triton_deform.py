"""Modulated deformable 3x3 convolution in one Triton kernel: gather, mask and matrix product.

It is the implicit matrix product of a convolution, except that tiles of the left matrix are sampled
instead of loaded: the weighted sum of four pixels per kernel position, with the mask multiplied
into the bilinear weights. Sampled values stay in registers. Products are in the type of the
features, sums in float32. Zhu et al., Deformable ConvNets v2, CVPR 2019.

Small maps give fewer tiles than the GPU has multiprocessors. There, several programs divide the
kernel positions of a tile among them, and their partial sums are added afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision.ops
import triton
import triton.language as tl
from torch import Tensor

from sgnet_core.ops.gather import KERNEL, POSITIONS, find_taps, gather_conv
from sgnet_core.ops.triton_deform_backward import inputs_gradient, weight_gradient
from sgnet_core.ops.triton_sampling import dot_precision, output_pixels, sample
from sgnet_core.ops.triton_tiles import Tile, pick_tile


@triton.jit
def _deform_kernel(  # type: ignore[no-untyped-def]
    x, offset, mask, weight, bias, out,
    batch, height, width, channels, h, w, outputs,
    weight_output, weight_channel, weight_position,
    out_split, out_batch, out_channel, out_row, out_column,
    STRIDE: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SIGMOID: tl.constexpr,
    PRECISION: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    """Compute one tile of PIXELS output pixels and OUTPUTS output channels.

    x (B, H, W, C), offset (B, 18, h, w) and mask (B, 9, h, w) are contiguous in that order. With
    SPLITS above 1 the tile is the sum over a part of the kernel positions.
    """
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    split = tl.program_id(2)
    plane = h * w
    image, place, row, column, exists = output_pixels(pixel, batch, h, w)
    total = tl.full((PIXELS, OUTPUTS), 0.0, dtype=tl.float32)
    chunks = (channels + CHANNELS - 1) // CHANNELS
    # One loop over positions and channels, so that loads overlap with products across positions.
    for step in range(chunks * (9 // SPLITS)):
        position = split * (9 // SPLITS) + step // chunks
        channel = (step % chunks) * CHANNELS + tl.arange(0, CHANNELS)
        tile = sample(
            x, offset, mask, position, channel, image, place, row, column, exists,
            plane, height, width, channels, STRIDE, HAS_MASK,
        )  # fmt: skip
        kernel = tl.load(
            weight
            + position * weight_position
            + channel[:, None] * weight_channel
            + output[None, :] * weight_output,
            mask=(channel < channels)[:, None] & (output < outputs)[None, :],
            other=0.0,
        )
        total += tl.dot(tile.to(kernel.dtype), kernel, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    if SIGMOID:
        total = 1.0 / (1.0 + tl.exp(-total))
    target = split * out_split + image * out_batch + row * out_row + column * out_column
    tl.store(
        out + target[:, None] + output[None, :] * out_channel,
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
        weight: (O, C, 3, 3), of the same type as the features.
        mask: (B, 9, H', W') factors, or None.
        bias: (O,), or None.
        stride: 1 or 2.
        sigmoid: apply a sigmoid to the result, for the mask of S-Conv.

    Returns:
        (B, O, H', W') in the type of the features; contiguous with ``sigmoid``, else channels-last.

    Raises:
        ValueError: shapes or types do not match.
    """
    pixels = len(offset) * offset.shape[2] * offset.shape[3]
    tile = pick_tile(len(weight), x.shape[1], pixels, x.dtype)
    return run_kernel(x, offset, weight, mask, bias, stride, sigmoid, tile)


def run_kernel(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: int,
    sigmoid: bool,
    tile: Tile,
) -> Tensor:
    """Compute `deform_conv` with a given tile, without gradients."""
    _check(x, offset, weight, mask)
    batch, channels, height, width = x.shape
    outputs, (h, w) = len(weight), offset.shape[2:]
    rows = x.contiguous(memory_format=torch.channels_last)
    if weight.stride(2) != KERNEL * weight.stride(3):
        weight = weight.contiguous()
    out = _empty_result(x, offset, weight, sigmoid)
    parts = out[None]
    if tile.splits > 1:
        parts = torch.empty((tile.splits, batch, h, w, outputs), device=x.device)
        parts = parts.permute(0, 1, 4, 2, 3)
    grid = triton.cdiv(batch * h * w, tile.pixels), triton.cdiv(outputs, tile.outputs), tile.splits
    with torch.cuda.device_of(x):  # Triton launches on the current device, not on the tensors'
        _deform_kernel[grid](
            rows, offset.contiguous(), None if mask is None else mask.contiguous(), weight, bias,
            parts, batch, height, width, channels, h, w, outputs,
            weight.stride(0), weight.stride(1), weight.stride(3),
            *parts.stride(),
            STRIDE=stride,
            HAS_MASK=mask is not None,
            HAS_BIAS=bias is not None and tile.splits == 1,
            SIGMOID=sigmoid and tile.splits == 1,
            PRECISION=dot_precision(x.dtype),
            PIXELS=tile.pixels,
            OUTPUTS=tile.outputs,
            CHANNELS=tile.channels,
            SPLITS=tile.splits,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )  # fmt: skip
    if tile.splits > 1:
        total = parts.sum(0)
        total = total if bias is None else total + bias.view(-1, 1, 1)
        out.copy_(total.sigmoid_() if sigmoid else total)
    return out


def _empty_result(x: Tensor, offset: Tensor, weight: Tensor, sigmoid: bool) -> Tensor:
    shape = (x.shape[0], weight.shape[0], offset.shape[2], offset.shape[3])
    layout = torch.contiguous_format if sigmoid else torch.channels_last
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def _check(x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError for shapes or types with which the kernel would read out of bounds."""
    batch, channels = x.shape[:2]
    positions, h, w = offset.shape[1:]
    wrong = (
        tuple(weight.shape[1:]) != (channels, KERNEL, KERNEL)
        or (len(offset), positions) != (batch, 2 * POSITIONS)
        or (mask is not None and mask.shape != (batch, POSITIONS, h, w))
        or weight.dtype != x.dtype
    )
    if wrong:
        raise ValueError(
            f"arguments of the deformable convolution do not match: {tuple(x.shape)} {x.dtype}, "
            f"weight {tuple(weight.shape)} {weight.dtype}, offset {tuple(offset.shape)}, mask "
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


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, offset, weight, mask, bias, ctx.stride, ctx.sigmoid = inputs
    ctx.save_for_backward(x, offset, weight, mask, bias, output if ctx.sigmoid else None)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Compute the gradients that are needed, each in the type of its tensor."""
    x, offset, weight, mask, bias, output = ctx.saved_tensors
    if output is not None:
        gradient = gradient.float() * output.float() * (1 - output.float())
    if torch.are_deterministic_algorithms_enabled():
        return (*_gather_gradients(ctx, gradient), None, None)
    needs = ctx.needs_input_grad
    found: list[Tensor | None] = [None] * 5
    if needs[0] or needs[1] or needs[3]:
        found[0], found[1], found[3] = inputs_gradient(
            gradient, x, offset, weight, mask, ctx.stride, needs[0]
        )
    if needs[2]:
        found[2] = weight_gradient(gradient, x, offset, mask, ctx.stride)
    if needs[4]:
        found[4] = gradient.sum((0, 2, 3), dtype=torch.float32)
    gradients = [
        each.to(tensor.dtype) if need and each is not None else None
        for each, tensor, need in zip(found, (x, offset, weight, mask, bias), needs, strict=False)
    ]
    return (*gradients, None, None)


def _gather_gradients(ctx: Any, gradient: Tensor) -> list[Tensor | None]:
    """Compute the gradients of `gather_conv` in float32, which are deterministic.

    The kernels add by atomic operations in varying order.
    """
    wanted = ctx.needs_input_grad[:5]
    tensors = ctx.saved_tensors[:5]
    copies: list[Any] = [
        t.detach().float().requires_grad_(need) if t is not None else None
        for t, need in zip(tensors, wanted, strict=True)
    ]
    x, offset, weight, mask, bias = copies
    with torch.enable_grad():
        taps = find_taps(offset, (x.shape[2], x.shape[3]), ctx.stride)
        result = gather_conv(x, taps, weight, mask, bias)
    inputs = [t for t, need in zip(copies, wanted, strict=True) if need]
    found = iter(torch.autograd.grad(result, inputs, gradient.float()))
    return [
        next(found).to(tensor.dtype) if need else None
        for tensor, need in zip(tensors, wanted, strict=True)
    ]


deform_conv.register_autograd(_backward, setup_context=_setup_context)


def self_test(device: torch.device, gradients: bool = False) -> float:
    """Return the largest relative error in float16 against torchvision's operator in float32.

    Args:
        device: GPU to test.
        gradients: compare the gradients instead of the results.
    """
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for stride, outputs, channels in ((1, 64, 64), (2, 9, 64), (1, 256, 96)):
        h, w = (9 - 1) // stride + 1, (11 - 1) // stride + 1
        x = torch.randn(2, channels, 9, 11, generator=generator).to(device)
        offset = (torch.randn(2, 18, h, w, generator=generator) * 3).to(device)
        weight = (torch.randn(outputs, channels, 3, 3, generator=generator) * 0.1).to(device)
        mask = torch.rand(2, 9, h, w, generator=generator).to(device)
        toward = torch.randn(2, outputs, h, w, generator=generator).to(device)

        def reference(
            x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor, stride: int = stride
        ) -> Tensor:
            result: Tensor = torchvision.ops.deform_conv2d(
                x, offset, weight, stride=stride, padding=1, mask=mask
            )
            return result

        def fused(
            x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor, stride: int = stride
        ) -> Tensor:
            result: Tensor = deform_conv(x.half(), offset, weight.half(), mask, None, stride, False)
            return result.float()

        inputs = (x, offset, weight, mask)
        pairs = [(fused(*inputs), reference(*inputs))]
        if gradients:
            ours, theirs = (_gradients(run, inputs, toward) for run in (fused, reference))
            pairs = list(zip(ours, theirs, strict=True))
        for got, expected in pairs:
            worst = max(worst, float((got - expected).abs().max() / expected.abs().max()))
    return worst


def _gradients(
    run: Callable[..., Tensor], inputs: tuple[Tensor, ...], toward: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of the inputs for a gradient of the result."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        return torch.autograd.grad(run(*leaves), leaves, toward)
