"""A copy of a network for inference: the same scores from fewer operations.

Batch norm in evaluation is one factor and one summand per channel, which the convolution before it
can carry. The weight generator of S-Conv is two linear maps in a row, so it is one.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgnet_core.backbone import BasicBlock, Bottleneck
from sgnet_core.deform import Taps, deform_conv2d
from sgnet_core.sconv import POSITIONS, SConv2d, WeightGenerator

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def fuse(model: Module) -> Module:
    """A fused copy in evaluation mode; the model itself stays as it is.

    Scores equal the model's own up to rounding (1e-4). The copy cannot be trained or saved.

    Args:
        model: an `SGNet` or a part of one, in any mode, on any device.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, nn.Sequential):
            _fold_neighbours(module)
        elif isinstance(module, BasicBlock | Bottleneck):
            module.bn1 = _folded(module.conv1, module.bn1)
            module.bn2 = _folded(module.conv2, module.bn2)
            if isinstance(module, Bottleneck):
                module.bn3 = _folded(module.conv3, module.bn3)
        elif isinstance(module, SConv2d) and isinstance(module.weight_generator, WeightGenerator):
            module.weight_generator = LinearWeightGenerator(module.weight_generator)
    return fused


def _fold_neighbours(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i + 1] = _folded(conv, norm)


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Identity:
    """Moves a batch norm into the convolution before it; returns what takes the norm's place."""
    assert isinstance(conv, nn.Conv2d | SConv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None and norm.running_mean is not None
    # In double precision: what is folded is rounded once.
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = torch.zeros_like(factor) if conv.bias is None else conv.bias.double()
    bias = (bias - norm.running_mean.double()) * factor + norm.bias.double()
    weight = conv.weight.double() * factor.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight), requires_grad=False)
    return nn.Identity()


class LinearWeightGenerator(nn.Module):
    """`WeightGenerator` as one deformable 3x3 convolution, 64 → 9, before its sigmoid.

    Where the gather runs, that convolution goes the other way round. Bilinear sampling and the
    kernel are both linear, so each kernel position may first map all of S' to its nine channels,
    which are then sampled: 9 channels per tap in place of 64, and no matrix product after it.
    """

    def __init__(self, generator: WeightGenerator) -> None:
        super().__init__()
        self.stride = generator.stride
        outer, inner = generator.to_mask.weight.double(), generator.gather.double()
        kernel = torch.einsum("om,mcyx->ocyx", outer[:, :, 0, 0], inner).to(generator.gather)
        self.kernel = nn.Parameter(kernel, requires_grad=False)  # (9, 64, 3, 3)
        per_position = kernel.permute(2, 3, 0, 1).reshape(POSITIONS * POSITIONS, -1, 1, 1)
        self.per_position = nn.Parameter(per_position.contiguous(), requires_grad=False)
        assert generator.to_mask.bias is not None
        self.bias = nn.Parameter(generator.to_mask.bias.clone(), requires_grad=False)

    def forward(self, projected: Tensor, offset: Tensor, taps: Taps | None) -> Tensor:
        """(B, 64, H, W) S' and (B, 18, H', W') offsets, or their taps → (B, 9, H', W') mask."""
        if taps is None:
            return deform_conv2d(
                projected, offset, self.kernel, None, self.bias, stride=self.stride
            ).sigmoid()
        batch, h, w = taps.shape
        mapped = F.conv2d(projected, self.per_position)  # (B, 81, H, W): position, then output
        rows = mapped.permute(0, 2, 3, 1).reshape(-1, POSITIONS)
        position = torch.arange(POSITIONS, device=rows.device).view(POSITIONS, 1)
        index = taps.pixel.view(-1, POSITIONS, 4) * POSITIONS + position
        sampled = F.embedding_bag(
            index.view(batch * h * w, -1),
            rows,
            per_sample_weights=taps.weight.view(batch * h * w, -1),
            mode="sum",
        )
        return (sampled + self.bias).sigmoid().view(batch, h, w, POSITIONS).permute(0, 3, 1, 2)
