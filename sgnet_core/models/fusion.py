"""Fuse a network for inference: the same scores from fewer operations.

In evaluation mode, batch norm is an affine map per channel, so it is folded into the convolution
before it. The weight generator of S-Conv is two linear maps in a row, which become one.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgnet_core.models.dcn import DCNv2
from sgnet_core.models.resnet import BasicBlock, Bottleneck
from sgnet_core.models.sconv import SConv2d, WeightGenerator
from sgnet_core.ops.deform import fused_conv, implementation
from sgnet_core.ops.gather import KERNEL, POSITIONS, Taps

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def fuse(model: Module) -> Module:
    """Return a fused copy in evaluation mode; the model itself is not changed.

    Its scores equal the model's own up to rounding (1e-4). The copy cannot be trained or saved.

    Args:
        model: an `SGNet` or a part of one, in any mode, on any device.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, nn.Sequential):
            _fold_neighbors(module)
        elif isinstance(module, BasicBlock | Bottleneck):
            for index in range(1, 4 if isinstance(module, Bottleneck) else 3):
                norm = module.get_submodule(f"bn{index}")
                module.add_module(f"bn{index}", _folded(getattr(module, f"conv{index}"), norm))
        elif isinstance(module, SConv2d) and isinstance(module.weight_generator, WeightGenerator):
            generator = LinearWeightGenerator(module.weight_generator)
            module.add_module("weight_generator", generator)
    return fused


def _fold_neighbors(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i + 1] = _folded(conv, norm)


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Identity:
    """Fold a batch norm into the convolution before it; return the identity that replaces it."""
    assert isinstance(conv, nn.Conv2d | SConv2d | DCNv2) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None and norm.running_mean is not None
    # In double precision, so that the folded weights are rounded only once.
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = torch.zeros_like(factor) if conv.bias is None else conv.bias.double()
    bias = (bias - norm.running_mean.double()) * factor + norm.bias.double()
    weight = conv.weight.double() * factor.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight), requires_grad=False)
    return nn.Identity()


class LinearWeightGenerator(nn.Module):
    """`WeightGenerator` as one deformable 3x3 convolution, C → 9, and a sigmoid.

    Sampling and multiplication are both linear, so their order is exchanged: the kernel of each
    position first maps all of S' to nine channels, which are then sampled and summed. This samples
    9 channels per position in place of C and needs no matrix product afterwards.
    """

    def __init__(self, generator: WeightGenerator) -> None:
        super().__init__()
        self.stride = generator.stride
        outer, inner = generator.to_mask.weight.double(), generator.gather.double()
        kernel = torch.einsum("om,mcyx->yxoc", outer[:, :, 0, 0], inner).to(generator.gather)
        kernel = kernel.reshape(POSITIONS * POSITIONS, -1, 1, 1)  # order: position, output channel
        self.kernel = nn.Parameter(kernel, requires_grad=False)
        assert generator.to_mask.bias is not None
        self.bias = nn.Parameter(generator.to_mask.bias.clone(), requires_grad=False)

    def forward(self, projected: Tensor, offset: Tensor, taps: Taps | None) -> Tensor:
        """Compute the (B, 9, H', W') mask, as `WeightGenerator.forward` does."""
        if taps is None and implementation(projected) == "fused":
            weight = self.kernel.view(KERNEL, KERNEL, POSITIONS, -1).permute(2, 3, 0, 1)
            return fused_conv(projected, offset, weight, None, self.bias, self.stride, sigmoid=True)
        mapped = F.conv2d(projected, self.kernel)  # (B, 81, H, W)
        sampled = _sample(mapped, offset, self.stride) if taps is None else _gather(mapped, taps)
        return (sampled + self.bias.view(POSITIONS, 1, 1)).sigmoid()


def _gather(mapped: Tensor, taps: Taps) -> Tensor:
    """Sample (B, 81, H, W) and sum over positions → (B, 9, H', W').

    Each output pixel is one embedding bag of 36 rows: 4 neighbors of each of the 9 positions.
    """
    batch, h, w = taps.shape
    rows = mapped.permute(0, 2, 3, 1).reshape(-1, POSITIONS)
    position = torch.arange(POSITIONS, device=rows.device).view(POSITIONS, 1)
    index = taps.pixel.view(-1, POSITIONS, 4) * POSITIONS + position
    weight = taps.weight.view(-1, POSITIONS * 4).to(rows.dtype)
    bags = F.embedding_bag(index.view_as(weight), rows, per_sample_weights=weight, mode="sum")
    return bags.view(batch, h, w, POSITIONS).permute(0, 3, 1, 2)


def _sample(mapped: Tensor, offset: Tensor, stride: int) -> Tensor:
    """Compute the same as `_gather` with `grid_sample`, one image per position, for ONNX export."""
    height, width = mapped.shape[2:]
    h, w = offset.shape[2:]
    delta = offset.float().view(-1, POSITIONS, 2, h, w)
    tap = torch.arange(POSITIONS, device=offset.device).view(POSITIONS, 1, 1)
    row = torch.arange(h, device=offset.device).view(h, 1) * stride - 1 + tap // KERNEL
    column = torch.arange(w, device=offset.device) * stride - 1 + tap % KERNEL
    # grid_sample's coordinates: the edges of the image are at ±1, half a pixel from the centers.
    y = (delta[:, :, 0] + row) * (2 / height) + (1 / height - 1)
    x = (delta[:, :, 1] + column) * (2 / width) + (1 / width - 1)
    grid = torch.stack((x, y), dim=-1).view(-1, h, w, 2)
    images = mapped.float().reshape(-1, POSITIONS, height, width)
    sampled = F.grid_sample(images, grid, align_corners=False)  # (B·9, 9, H', W')
    return sampled.view(-1, POSITIONS, POSITIONS, h, w).sum(1)
