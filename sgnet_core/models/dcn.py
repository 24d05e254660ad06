"""Modulated deformable convolution whose offsets and masks come from the features it convolves.

Zhu, Hu, Lin, Dai: Deformable ConvNets v2, CVPR 2019. It is a baseline for S-Conv.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgnet_core.ops.deform import deform_conv2d
from sgnet_core.ops.gather import KERNEL, POSITIONS


class DCNv2(nn.Module):
    """3x3 modulated deformable convolution, padding 1, dilation 1, one deformable group, no bias.

    Args:
        in_channels, out_channels: channels of the input and output features.
        stride: stride of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, KERNEL, KERNEL))
        self.bias: nn.Parameter | None = None  # set by sgnet_core.models.fusion
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.generator = nn.Conv2d(in_channels, 3 * POSITIONS, KERNEL, stride, padding=1)
        assert self.generator.bias is not None
        nn.init.zeros_(self.generator.weight)
        nn.init.zeros_(self.generator.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) features → (B, O, H', W')."""
        generated = self.generator(x)
        offset, mask = generated.split((2 * POSITIONS, POSITIONS), dim=1)
        return deform_conv2d(x, offset, self.weight, mask.sigmoid(), self.bias, stride=self.stride)
