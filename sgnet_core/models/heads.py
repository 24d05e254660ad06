"""Segmentation heads: features → logits at the resolution of the features.

In all heads, ``channels`` counts the input features, and ``width`` the hidden ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgnet_core.ops.resize import resize_maps

SLOPE = 0.01
"""Slope of the leaky ReLU in the published heads."""


class FCNHead(nn.Sequential):
    """Published head of SGNet: 3x3 convolution, BN, leaky ReLU, dropout 0.1, 1x1 to the classes."""

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(width, num_classes, 1),
        )


class ASPPHead(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., DeepLab v3): the head of SGNet*."""

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        super().__init__()
        hidden, width = width, width // 2
        self.pool = _conv_bn(channels, width, 1)
        self.branches = nn.ModuleList(
            [_conv_bn(channels, width, 1)]
            + [_conv_bn(channels, width, 3, dilation=rate) for rate in (12, 24, 36)]
        )
        self.project = _conv_bn(5 * width, hidden, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute (B, classes, h, w) logits from (B, C, h, w) features."""
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        branches = [branch(x) for branch in self.branches]
        y = self.project(torch.cat([pooled, *branches], dim=1))
        logits: Tensor = self.classify(self.dropout(y))
        return logits


class FPNHead(nn.Module):
    """Light decoder over all four layers, for networks that end at stride 32.

    Feature pyramid (Lin et al., CVPR 2017): 1x1 convolutions to a common width, summed from coarse
    to fine, and one 3x3 at stride 4. It is not part of the published SGNet.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int = 96) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = _conv_bn(width, width, 3, slope=0.0)
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute (B, classes, h, w) logits at stride 4 from four maps at strides 4, 8, 16, 32."""
        y: Tensor | None = None
        for lateral, x in zip(reversed(list(self.laterals)), reversed(features), strict=True):
            z = lateral(x)
            y = z if y is None else z + resize_maps(y, (z.shape[2], z.shape[3]))
        logits: Tensor = self.classify(self.dropout(self.smooth(y)))
        return logits


def _conv_bn(
    inputs: int, outputs: int, kernel: int, dilation: int = 1, slope: float = SLOPE
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True),
    )
